"""What an order leaves behind, row by row: the mesh's against the monolith's, which is to write the same facts."""

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import grpc
import redis
import uvloop

from checkout_service.relay import STREAM
from shop.cart.v1 import cart_pb2_grpc
from shop.cart.v1.cart_pb2 import AddItemRequest
from tests.bench import monolith
from tests.bench.apart import apart
from tests.bench.carts import SPREAD, rows_of, skus_of
from tests.bench.grpc_load import Target, measure
from tests.bench.sample import Load
from tests.bench.stage import Stage
from tests.shopmesh.audit.shop import DATABASES

_ORDERS = 200
_LOAD = Load(in_flight=16, warm_s=0.0, window_s=60.0)
_OUTBOX = "outbox"
# What only those have to write who work apart: where an order stands, who may order a cart, what a cart was told.
OF_THE_MESH_ALONE = frozenset({"sagas", "cart_claims", "settlements"})


@dataclass(frozen=True, slots=True)
class Written:
    """Rows for one order, by table; negative where some are deleted."""

    mesh: Mapping[str, float]
    monolith: Mapping[str, float]


def count_rows(stage: Stage) -> Written:
    """Place some orders on both sides, and look at what they left. The outbox is told of what went through it."""
    mesh_carts = stage.carts(stage.mesh.database("cart"), SPREAD, _ORDERS)
    _check_carts(stage, mesh_carts[0])
    monolith_carts = stage.carts(monolith.DATABASE, SPREAD, _ORDERS)
    before = _counted(stage)
    target = Target(method="PlaceOrder", address=stage.mesh.address("checkout"), cart_ids=mesh_carts)
    apart(measure, target, _LOAD, _ORDERS)
    apart(monolith.measure, stage.servers.mariadb.port, monolith_carts, _LOAD)
    stage.until_rest(stage.mesh)
    after = _counted(stage)
    rows = {
        side: {table: (after[side][table] - number) / _ORDERS for table, number in tables.items()}
        for side, tables in before.items()
    }
    written = Written(mesh=rows["mesh"], monolith=rows["monolith"])
    differing = {
        table: (written.mesh[table], number)
        for table, number in written.monolith.items()
        if written.mesh[table] != number and table not in OF_THE_MESH_ALONE
    }
    stage.check("tables in which mesh and monolith leave different numbers of rows for an order", differing, {})
    return written


def _counted(stage: Stage) -> dict[str, dict[str, int]]:
    # What leaves the outbox between two looks would be counted twice.
    stage.until_told(stage.mesh)
    of_mesh = {
        table: stage.count(f"{stage.mesh.database(part)}.{table}")
        for part, metadata in DATABASES.items()
        for table in metadata.tables
    }
    of_monolith = {table: stage.count(f"{monolith.DATABASE}.{table}") for table in of_mesh}
    with redis.Redis.from_url(stage.mesh.redis_url) as client:
        # What has left the outbox is in the stream.
        of_mesh[_OUTBOX] += int(client.xlen(STREAM))
    return {"mesh": of_mesh, "monolith": of_monolith}


def _check_carts(stage: Stage, cart_id: str) -> None:
    """That carts which are put there by SQL are like those of the cart service."""
    database = stage.mesh.database("cart")
    skus = skus_of(stage.cursor, database, cart_id)
    through_the_door = uvloop.run(_fill_cart(stage.mesh.address("cart"), skus))
    found = rows_of(stage.cursor, database, cart_id)
    stage.check("rows of a cart put there by SQL", found, rows_of(stage.cursor, database, through_the_door))


async def _fill_cart(address: str, skus: Sequence[str]) -> str:
    cart_id = str(uuid.uuid4())
    async with grpc.aio.insecure_channel(address) as channel:
        carts = cart_pb2_grpc.CartServiceStub(channel)
        for sku in skus:
            await carts.AddItem(AddItemRequest(cart_id=cart_id, sku=sku, quantity=1))
    return cart_id
