"""A stand-in for the inventory service: the same answers from a dict, in process or behind a real gRPC server."""
# ruff: noqa: N802, ARG002 - the contract names the methods and their parameters

import asyncio
from collections.abc import Sequence
from typing import Any

import grpc

from cart_service.prices import Money, Product
from mesh.errors import unavailable
from shop.inventory.v1 import catalog_pb2, catalog_pb2_grpc, inventory_pb2, inventory_pb2_grpc
from shop.type.v1 import money_pb2


class Shelf:
    """Implements cart_service.catalogue.Inventory; `calls` counts what was asked."""

    def __init__(self) -> None:
        self.stock: dict[str, int] = {}
        self.sold: dict[str, Product] = {}
        self.away = False
        self.calls: list[tuple[str, tuple[str, ...]]] = []
        # While not set, whoever asks has to wait.
        self.open = asyncio.Event()
        self.open.set()

    def put(self, sku: str, available: int, price_minor: int = 100, currency: str = "EUR") -> None:
        self.sold[sku] = Product(sku, f"The {sku}", Money(currency, price_minor))
        self.stock[sku] = available

    def retire(self, sku: str) -> None:
        del self.sold[sku]

    async def products(self, skus: Sequence[str]) -> dict[str, Product]:
        await self._answer("products", skus)
        return {sku: self.sold[sku] for sku in skus if sku in self.sold}

    async def available(self, skus: Sequence[str]) -> dict[str, int]:
        await self._answer("available", skus)
        return {sku: self.stock[sku] for sku in skus if sku in self.stock}

    async def _answer(self, what: str, skus: Sequence[str]) -> None:
        self.calls.append((what, tuple(skus)))
        await self.open.wait()
        if self.away:
            raise unavailable("INVENTORY_AWAY", "The shelf is away.")


class ShelfServicer(catalog_pb2_grpc.CatalogServiceServicer, inventory_pb2_grpc.InventoryServiceServicer):
    """The two methods that carts call, from a Shelf."""

    def __init__(self, shelf: Shelf) -> None:
        self._shelf = shelf

    async def BatchGetProducts(
        self, request: catalog_pb2.BatchGetProductsRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> catalog_pb2.BatchGetProductsResponse:
        found = await self._shelf.products(request.skus)
        products = [
            catalog_pb2.Product(
                sku=product.sku,
                name=product.name,
                price=money_pb2.Money(currency_code=product.price.currency_code, minor_units=product.price.minor_units),
            )
            for product in found.values()
        ]
        missing = [sku for sku in request.skus if sku not in found]
        return catalog_pb2.BatchGetProductsResponse(products=products, missing_skus=missing)

    async def BatchGetStock(
        self, request: inventory_pb2.BatchGetStockRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> inventory_pb2.BatchGetStockResponse:
        found = await self._shelf.available(request.skus)
        stocks = [inventory_pb2.Stock(sku=sku, on_hand=n, available=n) for sku, n in found.items()]
        return inventory_pb2.BatchGetStockResponse(stocks=stocks)
