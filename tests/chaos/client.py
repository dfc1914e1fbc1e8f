"""A client that does not give up: it repeats a request until it is answered, and writes down what it was told."""

import asyncio
import hashlib
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import grpc
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from checkout_service.domain import ANSWERING
from mesh import status
from mesh.errors import Failure, Kind
from shop.cart.v1.cart_pb2 import Cart
from shop.checkout.v1.checkout_pb2 import Invoice, Order, PlaceOrderRequest
from shopmesh.audit.journal import CART, INVOICE, ORDER, READ, Entry, Journal
from shopmesh.emulator.visit import items_of, state_of
from tests.chaos.boundaries import SERVICES

PATIENCE_S = 40.0
_TIMEOUT_S = 12.0
_AGAIN_AFTER_S = 0.05
_AGAIN = frozenset({Kind.UNAVAILABLE, Kind.DEADLINE_EXCEEDED, Kind.RESOURCE_EXHAUSTED, Kind.CANCELLED})
_PATHS = {
    method.input_type.full_name: (f"/{service.full_name}/{method.name}", GetMessageClass(method.output_type))
    for service in SERVICES
    for method in service.methods
}
# What cuts a connection's time to come back: the shop is killed often here.
OPTIONS = (
    ("grpc.enable_retries", 0),
    ("grpc.initial_reconnect_backoff_ms", 50),
    ("grpc.min_reconnect_backoff_ms", 50),
    ("grpc.max_reconnect_backoff_ms", 200),
)


@dataclass(frozen=True, slots=True)
class Answer:
    """A message, and the bytes that it came as."""

    message: Any
    body: bytes


class Client:
    """Everybody who asks something of one shop. `repetitions` counts the requests that had to be sent again."""

    def __init__(self, channel: grpc.aio.Channel, journal: Journal) -> None:
        self._channel = channel
        self._journal = journal
        self.repetitions = 0

    async def ask(
        self,
        request: Message,
        *,
        metadata: Collection[tuple[str, str]] = (),
        path: str = "",
        timeout_s: float = _TIMEOUT_S,
        settled_by: Collection[str] = (),
    ) -> Any:
        """The answer's message, see `ask_for_bytes`; None when a repetition was refused for a reason in `settled_by`.

        That is what says that it was done the first time.
        """
        try:
            answer = await self.ask_for_bytes(
                request, metadata=metadata, path=path, timeout_s=timeout_s, settled_by=settled_by
            )
        except _SettledError:
            return None
        return answer.message

    async def ask_for_bytes(
        self,
        request: Message,
        *,
        metadata: Collection[tuple[str, str]] = (),
        path: str = "",
        timeout_s: float = _TIMEOUT_S,
        settled_by: Collection[str] = (),
    ) -> Answer:
        """Send the request until it is answered, and answer that. Raises Failure when it is refused."""
        known, kind = _PATHS[request.DESCRIPTOR.full_name]
        call: Any = self._channel.unary_unary(path or known, request_serializer=type(request).SerializeToString)
        deadline = asyncio.get_running_loop().time() + PATIENCE_S
        attempts = 0
        while True:
            try:
                body = await call(request, timeout=timeout_s, metadata=tuple(metadata))
            except grpc.aio.AioRpcError as error:
                failure = status.from_rpc_error(error)
                if attempts and failure.reason in settled_by:
                    raise _SettledError from failure
                if not _may_be_repeated(failure) or asyncio.get_running_loop().time() > deadline:
                    raise failure from error
            else:
                answer = Answer(kind.FromString(body), body)
                self._note(request, answer)
                return answer
            attempts += 1
            self.repetitions += 1
            await asyncio.sleep(_AGAIN_AFTER_S)

    def _note(self, request: Message, answer: Answer) -> None:
        match answer.message:
            case Order() as order if isinstance(request, PlaceOrderRequest):
                digest = hashlib.sha256(answer.body).hexdigest()
                caller = f"cart:{request.cart_id}"
                entry = _order_entry(ORDER, order, caller=caller, request_id=request.request_id, body_sha256=digest)
            case Order() as order:
                entry = _order_entry(READ, order)
            case Invoice() as invoice:
                entry = Entry(
                    kind=INVOICE,
                    customer="chaos",
                    order_id=invoice.order_id,
                    total_minor=invoice.total.minor_units,
                    currency_code=invoice.total.currency_code,
                    invoice_number=invoice.invoice_number,
                )
            case Cart() as cart:
                items = items_of(cart)
                entry = Entry(kind=CART, customer="chaos", cart_id=cart.cart_id, cart_version=cart.version, items=items)
            case _:
                return
        self._journal.write(entry)


class _SettledError(Exception):
    """It was refused as something that has been done already."""


def is_answer(order: Order) -> bool:
    """Whether this is what the order's key is answered with for ever."""
    return state_of(order) in ANSWERING


def _may_be_repeated(failure: Failure) -> bool:
    # Without a reason of ours it was the connection that failed.
    return failure.kind in _AGAIN or failure.reason.startswith("UPSTREAM_") or failure.reason in _LATER


_LATER = frozenset({"CHECKOUT_IN_PROGRESS", "SAGA_MOVED"})


def _order_entry(kind: str, order: Order, **more: Any) -> Entry:
    return Entry(
        kind=kind,
        customer="chaos",
        order_id=order.order_id,
        state=state_of(order),
        reason=order.reason,
        total_minor=order.total.minor_units,
        currency_code=order.total.currency_code,
        invoice_number=order.invoice_number,
        cart_id=order.cart_id,
        items=items_of(order),
        **more,
    )
