"""Calls over gRPC as load, by a bare grpc.aio client on uvloop: to measure services, and as the peer `direct`."""

import uuid
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import grpc
from google.protobuf.message import Message
from google.protobuf.wrappers_pb2 import StringValue

from mesh.auth import ServiceCredential
from shop.cart.v1.cart_pb2 import Cart, GetCartRequest
from shop.checkout.v1.checkout_pb2 import (
    ORDER_STATE_PAID,
    Destination,
    Order,
    PlaceOrderRequest,
)
from shop.inventory.v1.catalog_pb2 import GetProductRequest, Product
from shop.inventory.v1.inventory_pb2 import (
    BatchReserveRequest,
    BatchReserveResponse,
    Reservation,
    ReservationLine,
    ReserveRequest,
)
from tests.bench import context
from tests.bench.drive import drive
from tests.bench.sample import Load, Sample
from tests.e2e.running_shop import SERVICE_SECRET

BATCH = 64
# Longer than the bench: a hold that expires meanwhile would be work of another kind.
_TTL_S = 86_400
_TIMEOUT_S = 60.0
_REFUSALS = frozenset({grpc.StatusCode.FAILED_PRECONDITION})
_OPTIONS = (
    ("grpc.service_config", '{"loadBalancingConfig": [{"round_robin": {}}]}'),
    ("grpc.enable_http_proxy", 0),
)
_DESTINATION = Destination(country="DE", postal_code="10115", address="Invalidenstrasse 43, Berlin")


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """What is called, where, and with what."""

    # One of METHODS.
    method: str
    address: str
    sku: str = ""
    cart_ids: Sequence[str] = ()
    # Of this load alone, so that no key is used twice.
    name: str = field(default_factory=lambda: uuid.uuid4().hex)


@dataclass(frozen=True, slots=True)
class Method:
    """One RPC: its requests by number, its answer, and whether that is what was asked for."""

    path: str
    request: Callable[[Target, int], Message]
    response: type[Message]
    is_what_was_asked: Callable[[Any], bool] = lambda _: True
    # How many things one call does; it is those that are counted.
    does: int = 1


def _reserve(target: Target, number: int) -> ReserveRequest:
    lines = [ReservationLine(sku=target.sku, quantity=1)]
    return ReserveRequest(reservation_id=f"{target.name}-{number}", lines=lines, ttl_s=_TTL_S)


def _batch_reserve(target: Target, number: int) -> BatchReserveRequest:
    return BatchReserveRequest(requests=[_reserve(target, number * BATCH + each) for each in range(BATCH)])


def _get_cart(target: Target, number: int) -> GetCartRequest:
    return GetCartRequest(cart_id=target.cart_ids[number % len(target.cart_ids)])


def _place_order(target: Target, number: int) -> PlaceOrderRequest:
    cart_id = target.cart_ids[number]
    return PlaceOrderRequest(cart_id=cart_id, request_id=cart_id, payment_token="tok_ok", destination=_DESTINATION)


METHODS: Mapping[str, Method] = {
    "Reserve": Method("/shop.inventory.v1.InventoryService/Reserve", _reserve, Reservation),
    "BatchReserve": Method(
        "/shop.inventory.v1.InventoryService/BatchReserve",
        _batch_reserve,
        BatchReserveResponse,
        lambda answer: all(result.HasField("reservation") for result in answer.results),
        does=BATCH,
    ),
    "GetProduct": Method(
        "/shop.inventory.v1.CatalogService/GetProduct", lambda target, _: GetProductRequest(sku=target.sku), Product
    ),
    "GetCart": Method("/shop.cart.v1.CartService/GetCart", _get_cart, Cart, lambda cart: len(cart.items) == 2),
    "Nothing": Method("/test.mesh.v1.EchoService/Owner", lambda _, __: StringValue(), StringValue),
    "Echo": Method(f"/{context.SERVICE}/{context.METHOD}", lambda _, __: context.CONTEXT, type(context.CONTEXT)),
    "PlaceOrder": Method(
        "/shop.checkout.v1.CheckoutService/PlaceOrder",
        _place_order,
        Order,
        lambda order: order.state == ORDER_STATE_PAID,
    ),
}
# What services alone may call; the others are called as a guest does.
_OF_SERVICES = frozenset({"Reserve", "BatchReserve"})


async def measure(target: Target, load: Load, at_most: int | None = None) -> Sample:
    """Call a method again and again. A refusal for want of stock is noted as such; every other failure is raised."""
    method = METHODS[target.method]
    metadata = ServiceCredential("bench", SERVICE_SECRET).metadata() if target.method in _OF_SERVICES else None
    async with grpc.aio.insecure_channel(target.address, options=_OPTIONS) as channel:
        stub: Callable[..., Awaitable[Any]] = channel.unary_unary(
            method.path,
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=method.response.FromString,
        )

        async def call(number: int) -> bool:
            try:
                answer = await stub(method.request(target, number), timeout=_TIMEOUT_S, metadata=metadata)
            except grpc.aio.AioRpcError as error:
                if error.code() not in _REFUSALS:
                    raise RuntimeError(f"{target.method}: {error.code().name} {error.details()}") from None
                return False
            return method.is_what_was_asked(answer)

        return (await drive(call, load, at_most=at_most)).times(method.does)
