"""The whole service behind a real gRPC server, as the gateway and the other services meet it."""

import json
import time
from collections.abc import AsyncIterator, Awaitable
from importlib import resources
from typing import TYPE_CHECKING, Any

import grpc
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from google.protobuf.field_mask_pb2 import FieldMask
from grpc_health.v1 import health_pb2, health_pb2_grpc
from jwt.algorithms import OKPAlgorithm
from sqlalchemy.engine import URL

from mesh.auth import AUDIENCE, Authenticator, ServiceCredential
from mesh.channel import open_channel
from mesh.db import open_database
from mesh.errors import Failure, Kind
from mesh.run import GrpcHost
from mesh.status import from_rpc_error, from_status
from shop.inventory.v1 import catalog_pb2, inventory_pb2
from shop.inventory.v1.catalog_pb2_grpc import CatalogServiceStub
from shop.inventory.v1.inventory_pb2_grpc import InventoryServiceStub
from shop.type.v1.money_pb2 import Money
from tests.inventory_service.conftest import assemble

if TYPE_CHECKING:
    from shop.inventory.v1.catalog_pb2_grpc import CatalogServiceAsyncStub
    from shop.inventory.v1.inventory_pb2_grpc import InventoryServiceAsyncStub

SERVICE_CONFIG = resources.files("shop").joinpath("service_config.json").read_text()
SECRET = "s" * 32
ISSUER = Ed25519PrivateKey.generate()

Metadata = tuple[tuple[str, str], ...]
# Made when the tests are collected, used whenever their turn comes.
A_DAY_S = 86_400
GUEST: Metadata = ()
CHECKOUT: Metadata = ServiceCredential("checkout", SECRET, ttl_s=A_DAY_S).metadata()


def bearer(subject: str, *, role: str) -> Metadata:
    claims = {"sub": subject, "aud": AUDIENCE, "role": role, "exp": int(time.time()) + A_DAY_S}
    token = jwt.encode(claims, ISSUER, algorithm="EdDSA", headers={"kid": "k1"})
    return (("authorization", f"Bearer {token}"),)


OPERATOR = bearer("operator-1", role="operator")
CUSTOMER = bearer("ann", role="customer")

MUG = catalog_pb2.Product(
    sku="mug",
    name="Mug",
    category="kitchen",
    price=Money(currency_code="EUR", minor_units=1299),
    weight_grams=350,
)


async def fetch_keys() -> dict[str, Any]:
    """Publish the issuer's key as the identity service does."""
    return {"keys": [json.loads(OKPAlgorithm.to_jwk(ISSUER.public_key())) | {"kid": "k1", "alg": "EdDSA"}]}


@pytest.fixture
async def channel(database_url: URL) -> AsyncIterator[grpc.aio.Channel]:
    """A channel to the running service."""
    app = assemble(await open_database(database_url)).app
    host = GrpcHost([app], Authenticator(SECRET, fetch_keys), bind="127.0.0.1", port=0)
    port = await host.start()
    async with open_channel(f"127.0.0.1:{port}", SERVICE_CONFIG) as channel:
        yield channel
    await host.stop(0)


@pytest.fixture
def catalog(channel: grpc.aio.Channel) -> "CatalogServiceAsyncStub":
    return CatalogServiceStub(channel)


@pytest.fixture
def inventory(channel: grpc.aio.Channel) -> "InventoryServiceAsyncStub":
    return InventoryServiceStub(channel)


async def refused(call: Awaitable[object]) -> Failure:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return from_rpc_error(caught.value)


async def stock_mugs(catalog: "CatalogServiceAsyncStub", inventory: "InventoryServiceAsyncStub", units: int) -> None:
    await catalog.CreateProduct(catalog_pb2.CreateProductRequest(product=MUG), metadata=OPERATOR)
    adjust = inventory_pb2.AdjustStockRequest(sku="mug", delta=units, reason="received", request_id="first")
    await inventory.AdjustStock(adjust, metadata=OPERATOR)


def mugs(reservation_id: str, *quantities: int, **fields: Any) -> inventory_pb2.ReserveRequest:
    lines = [inventory_pb2.ReservationLine(sku="mug", quantity=quantity) for quantity in quantities]
    return inventory_pb2.ReserveRequest(reservation_id=reservation_id, lines=lines, **fields)


async def test_a_product_lives_from_creation_to_retirement(catalog: "CatalogServiceAsyncStub") -> None:
    created = await catalog.CreateProduct(catalog_pb2.CreateProductRequest(product=MUG), metadata=OPERATOR)
    read = await catalog.GetProduct(catalog_pb2.GetProductRequest(sku="mug"))
    change = catalog_pb2.Product(sku="mug", etag=created.etag, name="Big mug", weight_grams=400)
    updated = await catalog.UpdateProduct(catalog_pb2.UpdateProductRequest(product=change), metadata=OPERATOR)
    masked = catalog_pb2.UpdateProductRequest(
        product=catalog_pb2.Product(sku="mug", name="ignored"), update_mask=FieldMask(paths=["description"])
    )
    described = await catalog.UpdateProduct(masked, metadata=OPERATOR)
    page = await catalog.ListProducts(catalog_pb2.ListProductsRequest(q="BIG"))
    found = await catalog.BatchGetProducts(catalog_pb2.BatchGetProductsRequest(skus=["cup", "mug"]))
    await catalog.DeleteProduct(catalog_pb2.DeleteProductRequest(sku="mug"), metadata=OPERATOR)
    gone = await refused(catalog.GetProduct(catalog_pb2.GetProductRequest(sku="mug")))

    assert read == created
    assert (created.price, created.available) == (MUG.price, 0)
    assert created.create_time.seconds > 0
    assert (updated.name, updated.weight_grams, updated.category) == ("Big mug", 400, "kitchen")
    assert (described.name, described.description) == ("Big mug", "")
    assert list(page.products) == list(found.products) == [described]
    assert (page.next_page_token, list(found.missing_skus)) == ("", ["cup"])
    assert (gone.kind, gone.reason, gone.metadata) == (Kind.NOT_FOUND, "PRODUCT_NOT_FOUND", {"sku": "mug"})


async def test_stock_is_held_sold_and_accounted_for(
    catalog: "CatalogServiceAsyncStub", inventory: "InventoryServiceAsyncStub"
) -> None:
    await stock_mugs(catalog, inventory, 10)

    held = await inventory.Reserve(mugs("r1", 2, 1), metadata=CHECKOUT)
    extend = inventory_pb2.ExtendReservationRequest(reservation_id="r1", ttl_s=3600)
    extended = await inventory.ExtendReservation(extend, metadata=CHECKOUT)
    during = await inventory.GetStock(inventory_pb2.GetStockRequest(sku="mug"))
    commit = inventory_pb2.CommitReservationRequest(reservation_id="r1")
    sold = await inventory.CommitReservation(commit, metadata=CHECKOUT)
    release = inventory_pb2.ReleaseReservationRequest(reservation_id="r1", return_committed=True)
    returned = await inventory.ReleaseReservation(release, metadata=CHECKOUT)
    read = await inventory.GetReservation(inventory_pb2.GetReservationRequest(reservation_id="r1"), metadata=OPERATOR)
    ledger = await inventory.ListStockMovements(inventory_pb2.ListStockMovementsRequest(sku="mug"), metadata=OPERATOR)
    after = await inventory.BatchGetStock(inventory_pb2.BatchGetStockRequest(skus=["mug", "cup"]), metadata=CHECKOUT)

    assert [(line.sku, line.quantity, line.HasField("available")) for line in held.lines] == [("mug", 3, False)]
    assert held.expire_time.seconds - held.create_time.seconds == 900
    assert extended.expire_time.seconds - held.create_time.seconds >= 3600
    assert (during.on_hand, during.held, during.available) == (10, 3, 7)
    assert sold.state == inventory_pb2.RESERVATION_STATE_COMMITTED
    assert returned.state == inventory_pb2.RESERVATION_STATE_RETURNED
    assert read == returned
    assert [(row.delta, row.reason, row.actor) for row in ledger.movements] == [
        (3, "return", "checkout"),
        (-3, "sale", "checkout"),
        (10, "received", "operator-1"),
    ]
    assert [(stock.sku, stock.available) for stock in after.stocks] == [("mug", 10)]


async def test_a_batch_answers_each_request_for_itself(
    catalog: "CatalogServiceAsyncStub", inventory: "InventoryServiceAsyncStub"
) -> None:
    await stock_mugs(catalog, inventory, 3)
    asked = [mugs("a", 2), mugs("b", 2), mugs("?", 0), mugs("c", 1), mugs("a", 2)]

    reserved = await inventory.BatchReserve(inventory_pb2.BatchReserveRequest(requests=asked), metadata=CHECKOUT)
    committed = await inventory.BatchCommit(
        inventory_pb2.BatchCommitRequest(
            requests=[inventory_pb2.CommitReservationRequest(reservation_id=name) for name in "abx"]
        ),
        metadata=CHECKOUT,
    )
    released = await inventory.BatchRelease(
        inventory_pb2.BatchReleaseRequest(
            requests=[inventory_pb2.ReleaseReservationRequest(reservation_id=name) for name in "acx"]
        ),
        metadata=CHECKOUT,
    )

    def told(response: Any) -> list[str]:
        name = inventory_pb2.ReservationState.Name
        return [
            name(result.reservation.state).removeprefix("RESERVATION_STATE_")
            if result.HasField("reservation")
            else from_status(result.error).reason
            for result in response.results
        ]

    assert told(reserved) == ["HELD", "OUT_OF_STOCK", "INVALID_FIELDS", "HELD", "HELD"]
    assert reserved.results[0] == reserved.results[4]
    assert [(line.sku, line.quantity, line.available) for line in reserved.results[1].refused_lines] == [("mug", 2, 1)]
    assert from_status(reserved.results[1].error).metadata == {"sku": "mug", "requested": "2", "available": "1"}
    assert [violation.field for violation in from_status(reserved.results[2].error).fields] == [
        "reservation_id",
        "lines[0].quantity",
    ]
    assert told(committed) == ["COMMITTED", "RESERVATION_REFUSED", "RESERVATION_NOT_FOUND"]
    assert told(released) == ["RESERVATION_COMMITTED", "RELEASED", "RELEASED"]


async def test_a_coordinator_of_before_learns_it_from_every_call(inventory: "InventoryServiceAsyncStub") -> None:
    release = inventory_pb2.ReleaseReservationRequest
    await inventory.ReleaseReservation(release(reservation_id="r1", epoch=5), metadata=CHECKOUT)
    lines = [inventory_pb2.ReservationLine(sku="mug", quantity=1)]
    reserve = inventory_pb2.ReserveRequest(reservation_id="r1", lines=lines, epoch=4)
    commit = inventory_pb2.CommitReservationRequest(reservation_id="r1", epoch=4)
    extend = inventory_pb2.ExtendReservationRequest(reservation_id="r1", epoch=4, ttl_s=60)
    stale = release(reservation_id="r1", epoch=4)

    alone = [
        await refused(call)
        for call in (
            inventory.Reserve(reserve, metadata=CHECKOUT),
            inventory.CommitReservation(commit, metadata=CHECKOUT),
            inventory.ExtendReservation(extend, metadata=CHECKOUT),
            inventory.ReleaseReservation(stale, metadata=CHECKOUT),
        )
    ]
    batches = (
        await inventory.BatchReserve(inventory_pb2.BatchReserveRequest(requests=[reserve]), metadata=CHECKOUT),
        await inventory.BatchCommit(inventory_pb2.BatchCommitRequest(requests=[commit]), metadata=CHECKOUT),
        await inventory.BatchRelease(inventory_pb2.BatchReleaseRequest(requests=[stale]), metadata=CHECKOUT),
    )
    together = [from_status(result.error) for batch in batches for result in batch.results]

    facts = {(failure.kind, failure.reason, failure.metadata["seen"]) for failure in (*alone, *together)}
    assert facts == {(Kind.ABORTED, "STALE_EPOCH", "5")}
    assert len(together) == 3


async def test_a_batch_has_bounds(inventory: "InventoryServiceAsyncStub") -> None:
    for requests in ([], [mugs("a", 1)] * 1001):
        batch = inventory_pb2.BatchReserveRequest(requests=requests)
        failure = await refused(inventory.BatchReserve(batch, metadata=CHECKOUT))
        assert [violation.field for violation in failure.fields] == ["requests"]


async def test_a_single_refusal_says_what_is_available(
    catalog: "CatalogServiceAsyncStub", inventory: "InventoryServiceAsyncStub"
) -> None:
    await stock_mugs(catalog, inventory, 3)

    failure = await refused(inventory.Reserve(mugs("a", 2, 2), metadata=CHECKOUT))

    assert (failure.kind, failure.reason) == (Kind.FAILED_PRECONDITION, "OUT_OF_STOCK")
    assert failure.metadata == {"sku": "mug", "requested": "4", "available": "3"}


async def test_watching_stock_is_planned(inventory: "InventoryServiceAsyncStub") -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        async for _ in inventory.WatchStock(inventory_pb2.WatchStockRequest(sku="mug")):
            pass

    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


async def test_each_tier_reaches_what_it_may(
    catalog: "CatalogServiceAsyncStub", inventory: "InventoryServiceAsyncStub"
) -> None:
    await stock_mugs(catalog, inventory, 1)
    calls: list[tuple[Any, Any, set[Metadata]]] = [
        (catalog.ListProducts, catalog_pb2.ListProductsRequest(), {GUEST, CUSTOMER, OPERATOR, CHECKOUT}),
        (inventory.GetStock, inventory_pb2.GetStockRequest(sku="mug"), {GUEST, CUSTOMER, OPERATOR, CHECKOUT}),
        (catalog.UpdateProduct, catalog_pb2.UpdateProductRequest(product=MUG), {OPERATOR, CHECKOUT}),
        (inventory.ListStockMovements, inventory_pb2.ListStockMovementsRequest(sku="mug"), {OPERATOR, CHECKOUT}),
        (inventory.Reserve, mugs("a", 1), {CHECKOUT}),
        (inventory.BatchGetStock, inventory_pb2.BatchGetStockRequest(skus=["mug"]), {CHECKOUT}),
    ]

    for method, request, allowed in calls:
        for metadata in (GUEST, CUSTOMER, OPERATOR, CHECKOUT):
            if metadata in allowed:
                await method(request, metadata=metadata)
            else:
                failure = await refused(method(request, metadata=metadata))
                expected = Kind.PERMISSION_DENIED if metadata else Kind.UNAUTHENTICATED
                assert failure.kind is expected


async def test_it_is_ready_while_its_database_has_the_schema(channel: grpc.aio.Channel) -> None:
    health: Any = health_pb2_grpc.HealthStub(channel)

    for name in ("", "shop.inventory.v1.CatalogService", "shop.inventory.v1.InventoryService"):
        answer = await health.Check(health_pb2.HealthCheckRequest(service=name))
        assert answer.status == health_pb2.HealthCheckResponse.SERVING
