"""The inventory service, as carts call it."""

from collections.abc import Sequence

import grpc

from cart_service.prices import Money, Product
from mesh.channel import Calls
from shop.inventory.v1 import catalog_pb2, catalog_pb2_grpc, inventory_pb2, inventory_pb2_grpc

_TIMEOUT_S = 2.0


class InventoryClient:
    """Looks up products and stock, many at once (at most 1000). Every method raises Failure."""

    def __init__(self, channel: grpc.aio.Channel, calls: Calls) -> None:
        self._catalog = catalog_pb2_grpc.CatalogServiceStub(channel)
        self._inventory = inventory_pb2_grpc.InventoryServiceStub(channel)
        self._calls = calls

    async def products(self, skus: Sequence[str]) -> dict[str, Product]:
        """The products that are sold, by SKU."""
        request = catalog_pb2.BatchGetProductsRequest(skus=skus)
        response = await self._calls(self._catalog.BatchGetProducts, request, timeout_s=_TIMEOUT_S)
        return {product.sku: _product(product) for product in response.products}

    async def available(self, skus: Sequence[str]) -> dict[str, int]:
        """How many can be bought now, by SKU; unknown ones are left out."""
        request = inventory_pb2.BatchGetStockRequest(skus=skus)
        response = await self._calls(self._inventory.BatchGetStock, request, timeout_s=_TIMEOUT_S)
        return {stock.sku: stock.available for stock in response.stocks}


def _product(message: catalog_pb2.Product) -> Product:
    return Product(message.sku, message.name, Money(message.price.currency_code, message.price.minor_units))
