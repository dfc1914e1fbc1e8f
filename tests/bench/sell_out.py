"""Exact sell-out: of so many units, while twice as many are asked for at once, every one is sold, and no more."""

import logging

import grpc
import uvloop

from mesh.auth import ServiceCredential
from shop.inventory.v1 import catalog_pb2_grpc, inventory_pb2_grpc
from shop.inventory.v1.catalog_pb2 import CreateProductRequest, Product
from shop.inventory.v1.inventory_pb2 import AdjustStockRequest
from shop.type.v1.money_pb2 import Money
from tests.bench.apart import apart
from tests.bench.carts import only
from tests.bench.grpc_load import Target, measure
from tests.bench.sample import Load
from tests.bench.stage import Stage
from tests.e2e.running_shop import SERVICE_SECRET

# There is no window: it lasts until everything has been asked for.
_LOAD = Load(in_flight=128, warm_s=0.0, window_s=600.0)

_log = logging.getLogger(__name__)


def sell_out(stage: Stage) -> None:
    """Sell one product out by PlaceOrder and another by Reserve."""
    _log.info("sell-out of %d units", stage.options.sell_out)
    _by_orders(stage, "SOLD-OUT-BY-ORDERS")
    _by_reservations(stage, "SOLD-OUT-BY-RESERVATIONS")


def _by_orders(stage: Stage, sku: str) -> None:
    units = stage.options.sell_out
    uvloop.run(_deliver(stage.mesh.address("inventory"), sku, units))
    cart_ids = stage.carts(stage.mesh.database("cart"), only(sku), 2 * units)
    target = Target(method="PlaceOrder", address=stage.mesh.address("checkout"), cart_ids=cart_ids)
    sample = apart(measure, target, _LOAD, len(cart_ids))
    stage.until_rest(stage.mesh)
    paid = sample.answered - sample.refused
    stage.check(f"orders PAID of {2 * units:,} for {units:,} units", paid, units)
    stage.check("units on hand and held afterwards", stage.stock(sku), (0, 0))


def _by_reservations(stage: Stage, sku: str) -> None:
    units = stage.options.sell_out
    uvloop.run(_deliver(stage.mesh.address("inventory"), sku, units))
    target = Target(method="Reserve", address=stage.mesh.address("inventory"), sku=sku)
    sample = apart(measure, target, _LOAD, 2 * units)
    held = sample.answered - sample.refused
    stage.check(f"reservations HELD of {2 * units:,} for {units:,} units", held, units)
    stage.check("units on hand and held afterwards", stage.stock(sku), (units, units))


async def _deliver(address: str, sku: str, units: int) -> None:
    """A new product, and so many of it, through the front door."""
    metadata = ServiceCredential("bench", SERVICE_SECRET).metadata()
    price = Money(currency_code="EUR", minor_units=1000)
    product = Product(sku=sku, name="Something rare", category="tea", price=price, weight_grams=100)
    received = AdjustStockRequest(sku=sku, delta=units, reason="received", request_id=sku)
    async with grpc.aio.insecure_channel(address) as channel:
        catalog = catalog_pb2_grpc.CatalogServiceStub(channel)
        await catalog.CreateProduct(CreateProductRequest(product=product), metadata=metadata)
        await inventory_pb2_grpc.InventoryServiceStub(channel).AdjustStock(received, metadata=metadata)
