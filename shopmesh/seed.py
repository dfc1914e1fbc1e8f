"""`shopmesh seed`: the demo catalogue and its first stock, through the services' own front doors."""

# Annotations stay unevaluated: the generated stubs have more classes than the generated code.
from __future__ import annotations

import asyncio
import sys
from functools import partial

import grpc

from mesh import log
from mesh.channel import Calls
from mesh.config import service_address
from mesh.errors import Failure, Kind
from mesh.program import open_kit
from mesh.run import run
from shop.inventory.v1 import catalog_pb2, catalog_pb2_grpc, inventory_pb2, inventory_pb2_grpc
from shop.type.v1 import money_pb2
from shopmesh.catalogue import CURRENCY, DemoProduct, demo_products
from shopmesh.parts import MeshSettings, read_settings, service_config
from shopmesh.patience import patiently

EXIT_FAILED = 1
_AT_ONCE = 32


def main() -> int:
    """Seed a running mesh and answer the exit code: 1 when it cannot be reached in 60 s."""
    settings = read_settings(apart=True)
    log.set_up(settings.common.log_level)
    return run(_seed(settings))


async def seed(channel: grpc.aio.Channel, calls: Calls) -> int:
    """Add what is missing of the demo products and of their first stock; answer how many products were unfinished.

    Idempotent: a product is created once, its stock arrives under a key of its own. One that was retired stays so.
    Raises Failure.
    """
    todo = await _unfinished(channel, calls)
    catalog = catalog_pb2_grpc.CatalogServiceStub(channel)
    inventory = inventory_pb2_grpc.InventoryServiceStub(channel)
    queue = iter(todo)

    async def work() -> None:
        for product in queue:
            await _create(catalog, calls, product)
            await _stock(inventory, calls, product)

    try:
        async with asyncio.TaskGroup() as workers:
            for _ in range(_AT_ONCE):
                workers.create_task(work())
    except* Failure as failures:
        # Whoever fails first ends the others; one failure tells enough.
        raise failures.exceptions[0] from None
    return len(todo)


async def _unfinished(channel: grpc.aio.Channel, calls: Calls) -> list[DemoProduct]:
    """The products without stock: new ones, ones that a broken-off seeding left bare, and ones that are sold out."""
    products = demo_products()
    request = inventory_pb2.BatchGetStockRequest(skus=[product.sku for product in products])
    answer = await calls(inventory_pb2_grpc.InventoryServiceStub(channel).BatchGetStock, request)
    stocked = {stock.sku for stock in answer.stocks if stock.on_hand > 0}
    return [product for product in products if product.sku not in stocked]


async def _create(catalog: catalog_pb2_grpc.CatalogServiceAsyncStub, calls: Calls, product: DemoProduct) -> None:
    message = catalog_pb2.Product(
        sku=product.sku,
        name=product.name,
        description=product.description,
        category=product.category,
        price=money_pb2.Money(currency_code=CURRENCY, minor_units=product.price_minor),
        weight_grams=product.weight_grams,
    )
    try:
        await calls(catalog.CreateProduct, catalog_pb2.CreateProductRequest(product=message))
    except Failure as failure:
        if failure.kind is not Kind.ALREADY_EXISTS:
            raise


async def _stock(inventory: inventory_pb2_grpc.InventoryServiceAsyncStub, calls: Calls, product: DemoProduct) -> None:
    request = inventory_pb2.AdjustStockRequest(
        sku=product.sku, delta=product.stock, reason="first delivery", request_id=f"seed-{product.sku}"
    )
    try:
        await calls(inventory.AdjustStock, request)
    except Failure as failure:
        # An operator has retired it.
        if failure.kind is not Kind.NOT_FOUND:
            raise


async def _seed(settings: MeshSettings) -> int:
    kit = open_kit(settings.common, service_config())
    address = service_address(settings.common, "inventory")
    attempt = partial(seed, kit.channels.to(address), kit.calls_as("seed"))
    try:
        added = await patiently(attempt, waiting_for=f"the inventory service at {address}")
    except Failure as failure:
        sys.stderr.write(f"shopmesh: {failure.message}\n")
        return EXIT_FAILED
    finally:
        await kit.channels.close()
        await kit.cache.close()
    sys.stdout.write(f"seeded: {added} products\n")
    return 0
