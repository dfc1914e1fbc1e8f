"""Where customers and operators ask: stubs over the network, tokens, and what they wrote down of the answers."""

import asyncio
import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Any

import grpc
import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from google.protobuf.descriptor import MethodDescriptor
from jwt.algorithms import OKPAlgorithm

from mesh import status
from mesh.auth import ALGORITHM, AUDIENCE
from mesh.errors import Failure, Kind
from policy.v1 import policy_pb2
from shop.cart.v1 import cart_pb2, cart_pb2_grpc
from shop.checkout.v1 import checkout_pb2, checkout_pb2_grpc, saga_pb2, saga_pb2_grpc
from shop.inventory.v1 import catalog_pb2_grpc, inventory_pb2_grpc
from shopmesh.audit.journal import CART, ORDER, READ, Entry
from tests.sim.channel import Channels
from tests.sim.loop import Loop
from tests.sim.seal import BEGINNING

# A key that is the same in every simulation; EdDSA signs without randomness.
_SIGNER = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
_KEY_ID = "simulation"
_LASTS_S = 7 * 24 * 3600
# What may be different a moment later.
TRY_AGAIN = frozenset({Kind.UNAVAILABLE, Kind.DEADLINE_EXCEEDED, Kind.CANCELLED, Kind.RESOURCE_EXHAUSTED})
# What no caller may ever see.
_OURS = frozenset({Kind.INTERNAL, Kind.UNKNOWN, Kind.UNIMPLEMENTED, Kind.DATA_LOSS})
_PREFIX = "ORDER_STATE_"
OPERATOR = "operator-1"


async def fetch_keys() -> dict[str, Any]:
    """The keys that verify the tokens made here, as the identity service answers them."""
    public = OKPAlgorithm.to_jwk(_SIGNER.public_key(), as_dict=True)
    return {"keys": [{**public, "kid": _KEY_ID, "alg": ALGORITHM, "use": "sig"}]}


def token(subject: str, role: str) -> str:
    """A token as the identity service would sign it."""
    expiry = int(BEGINNING.timestamp()) + _LASTS_S
    claims = {"aud": AUDIENCE, "sub": subject, "role": role, "exp": expiry}
    return jwt.encode(claims, _SIGNER, algorithm=ALGORITHM, headers={"kid": _KEY_ID})


@dataclass(slots=True)
class Wish:
    """One key to order with: what was asked, and what the first final answer was."""

    customer: str
    caller: str
    request: checkout_pb2.PlaceOrderRequest
    metadata: tuple[tuple[str, str], ...]
    order_id: str = ""
    final: bytes = b""


@dataclass(slots=True)
class Notes:
    """What everybody was told, and what they know of the world that the databases do not."""

    entries: list[Entry] = field(default_factory=list)
    wishes: list[Wish] = field(default_factory=list)
    # Adjustments by request_id: SKU, difference, and whether somebody was told that it was done.
    adjustments: dict[str, tuple[str, int, bool]] = field(default_factory=dict)
    # Orders whose payment a webhook confirmed, and orders that somebody was promised to be undone.
    confirmed: set[str] = field(default_factory=set)
    undone: dict[str, str] = field(default_factory=dict)
    # Deals of the partner's for which nothing may be held or sold any more.
    given_back: set[str] = field(default_factory=set)
    # Nothing went wrong at any time, so nothing may be blamed for how an order ended.
    is_calm: bool = False
    # What nobody should ever be told.
    scandals: list[str] = field(default_factory=list)


class Desk:
    """Stubs, and how to ask through them."""

    def __init__(self, loop: Loop, channels: Channels, rng: Random, *, is_stored: Callable[[str], bool]) -> None:
        """`is_stored` tells whether the final answer about an order is there to survive a crash at this moment."""
        self.notes = Notes()
        self._is_stored = is_stored
        self.rng = rng
        self.loop = loop
        self.operator = bearer(OPERATOR, "operator")
        checkout: Any = channels.to("checkout")
        inventory: Any = channels.to("inventory")
        cart: Any = channels.to("cart")
        self.checkout: Any = checkout_pb2_grpc.CheckoutServiceStub(checkout)
        self.sagas: Any = saga_pb2_grpc.SagaServiceStub(checkout)
        self.carts: Any = cart_pb2_grpc.CartServiceStub(cart)
        self.catalog: Any = catalog_pb2_grpc.CatalogServiceStub(inventory)
        self.inventory: Any = inventory_pb2_grpc.InventoryServiceStub(inventory)

    async def ask(self, method: Any, request: Any, *, metadata: Any = (), timeout_s: float = 5.0) -> Any:
        """The response, or a Failure as a value."""
        try:
            return await method(request, timeout=timeout_s, metadata=metadata)
        except grpc.aio.AioRpcError as error:
            failure = status.from_rpc_error(error)
            if failure.kind in _OURS:
                self.notes.scandals.append(f"{type(request).__name__} was answered with {failure}")
            return failure

    async def insist(self, method: Any, request: Any, *, metadata: Any = (), tries: int = 5) -> Any:
        """Ask until there is an answer that will not change by asking again, or patience ends."""
        answer: Any = None
        for _ in range(tries):
            answer = await self.ask(method, request, metadata=metadata, timeout_s=self.rng.choice((0.4, 1.0, 3.0)))
            if not (isinstance(answer, Failure) and may_change(answer)):
                return answer
            await asyncio.sleep(self.rng.uniform(0.05, 1.5))
        return answer

    def note_cart(self, customer: str, cart: cart_pb2.Cart) -> None:
        """Somebody was told what is in a cart."""
        items = {item.sku: item.quantity for item in cart.items}
        self.notes.entries.append(
            Entry(kind=CART, customer=customer, cart_id=cart.cart_id, cart_version=cart.version, items=items)
        )

    def note_order(self, wish: Wish, order: checkout_pb2.Order) -> None:
        """Somebody was answered an order to a request to place it."""
        self.notes.entries.append(_entry(ORDER, wish, order))
        wish.order_id = order.order_id
        if not wish.final and is_final(order):
            if not self._is_stored(order.order_id):
                self.notes.scandals.append(f"order {order.order_id} is answered {state_of(order)} before it is so")
            wish.final = order.SerializeToString(deterministic=True)

    def note_read(self, wish: Wish, order: checkout_pb2.Order) -> None:
        """Somebody read an order."""
        self.notes.entries.append(_entry(READ, wish, order))


def bearer(subject: str, role: str) -> tuple[tuple[str, str], ...]:
    """The metadata of a call by this person."""
    return (("authorization", f"Bearer {token(subject, role)}"),)


def may_change(failure: Failure) -> bool:
    """Whether asking again may be answered otherwise. A server with a wrong clock refuses good tokens, for a while."""
    return failure.kind in TRY_AGAIN or failure.reason in ("TOKEN_INVALID", "SIGNATURE_INVALID")


def state_of(order: checkout_pb2.Order) -> str:
    """The order's state as it is stored."""
    return checkout_pb2.OrderState.Name(order.state).removeprefix(_PREFIX)


def is_final(order: checkout_pb2.Order) -> bool:
    """Whether every repetition of the request has to be answered with this."""
    return state_of(order) in ("PAID", "REJECTED", "PAYMENT_FAILED", "CANCELLED")


def is_served(service: str, method: str) -> bool:
    """Whether the contract says that the method is more than planned."""
    services = {**checkout_pb2.DESCRIPTOR.services_by_name, **saga_pb2.DESCRIPTOR.services_by_name}
    found: MethodDescriptor | None = services[service].methods_by_name.get(method)
    planned = policy_pb2.STAGE_PLANNED
    return found is not None and found.GetOptions().Extensions[policy_pb2.method].stage != planned


def webhook(event_id: str, kind: str, order_id: str, payment_id: str) -> bytes:
    """The body of an event as a payment provider sends it."""
    event = {"id": event_id, "type": f"payment.{kind}", "order_id": order_id, "payment_id": payment_id}
    return json.dumps(event).encode()


def _entry(kind: str, wish: Wish, order: checkout_pb2.Order) -> Entry:
    return Entry(
        kind=kind,
        customer=wish.customer,
        caller=wish.caller,
        request_id=wish.request.request_id,
        body_sha256=hashlib.sha256(order.SerializeToString(deterministic=True)).hexdigest(),
        order_id=order.order_id,
        state=state_of(order),
        reason=order.reason,
        total_minor=order.total.minor_units,
        currency_code=order.total.currency_code,
        invoice_number=order.invoice_number,
    )
