"""What an order is and what may become of it. Pure values and rules: no clock, no input or output."""

import enum
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import NamedTuple

GUEST = "guest"


class OrderState(enum.StrEnum):
    """Where an order stands, as stored; the contract's ORDER_STATE_ names without their prefix."""

    RECEIVED = "RECEIVED"
    RESERVED = "RESERVED"
    PAYMENT_PENDING = "PAYMENT_PENDING"
    AUTHORIZED = "AUTHORIZED"
    PAID = "PAID"
    IN_TRANSIT = "IN_TRANSIT"
    COMPLETED = "COMPLETED"
    REJECTED = "REJECTED"
    PAYMENT_FAILED = "PAYMENT_FAILED"
    CANCELLED = "CANCELLED"
    REFUNDED = "REFUNDED"


_S = OrderState
# The one table of legal edges. It is enforced in SQL by every state change, and in tests.
EDGES: Mapping[OrderState, frozenset[OrderState]] = {
    _S.RECEIVED: frozenset({_S.RESERVED, _S.REJECTED, _S.CANCELLED}),
    _S.RESERVED: frozenset({_S.AUTHORIZED, _S.PAYMENT_PENDING, _S.PAYMENT_FAILED, _S.REJECTED, _S.CANCELLED}),
    _S.PAYMENT_PENDING: frozenset({_S.AUTHORIZED, _S.PAYMENT_FAILED, _S.REJECTED, _S.CANCELLED}),
    _S.AUTHORIZED: frozenset({_S.PAID, _S.PAYMENT_FAILED, _S.REJECTED, _S.CANCELLED}),
    _S.PAID: frozenset({_S.IN_TRANSIT, _S.REFUNDED}),
    _S.IN_TRANSIT: frozenset({_S.COMPLETED}),
    _S.COMPLETED: frozenset(),
    _S.REJECTED: frozenset(),
    _S.PAYMENT_FAILED: frozenset(),
    _S.CANCELLED: frozenset(),
    _S.REFUNDED: frozenset(),
}
# Reaching one of these first stores the answer that every repetition of the request gets.
ANSWERING = frozenset({_S.PAID, _S.REJECTED, _S.PAYMENT_FAILED, _S.CANCELLED})
# What others are told of.
ANNOUNCED = ANSWERING | {_S.PAYMENT_PENDING, _S.IN_TRANSIT, _S.COMPLETED, _S.REFUNDED}
# Nothing follows.
ENDED = frozenset(state for state, targets in EDGES.items() if not targets)


def sources_of(state: OrderState) -> frozenset[OrderState]:
    """The states from which `state` may be reached."""
    return frozenset(source for source, targets in EDGES.items() if state in targets)


class OrderSource(enum.StrEnum):
    """Through what an order came."""

    UNSPECIFIED = ""
    WEB = "WEB"
    APP = "APP"


@dataclass(frozen=True, slots=True)
class Money:
    """An exact amount in minor units of one currency."""

    currency_code: str
    minor_units: int


@dataclass(frozen=True, slots=True)
class Destination:
    """Where to deliver."""

    country: str = ""
    postal_code: str = ""
    address: str = ""
    phone_number: str = ""


@dataclass(frozen=True, slots=True)
class Product:
    """What the catalogue says of a SKU at the moment of ordering."""

    sku: str
    name: str
    category: str
    price: Money
    weight_grams: int


@dataclass(frozen=True, slots=True)
class CartView:
    """A cart as its caller sees it: SKU -> quantity, and the version that was read."""

    cart_id: str
    version: int
    quantities: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class OrderLine:
    """One SKU of an order at the price it is sold at; `available` is what a refusal for want of stock saw."""

    sku: str
    name: str
    quantity: int
    unit_minor: int
    available: int | None = None

    @property
    def total_minor(self) -> int:
        """Quantity * unit price."""
        return self.quantity * self.unit_minor


@dataclass(frozen=True, slots=True, kw_only=True)
class Totals:
    """What is charged, exact: total = subtotal - discount + shipping + tax, all in minor units."""

    currency_code: str
    subtotal: int
    discount: int
    shipping: int
    tax: int

    @property
    def total(self) -> int:
        """What the customer pays."""
        return self.subtotal - self.discount + self.shipping + self.tax


@dataclass(frozen=True, slots=True, kw_only=True)
class Quote:
    """What an order of a cart would be."""

    lines: tuple[OrderLine, ...]
    totals: Totals


@dataclass(frozen=True, slots=True, kw_only=True)
class PlaceOrder:
    """A valid request to buy the cart. `caller_id` is the customer's id, empty for a guest."""

    caller_id: str
    cart_id: str
    request_id: str
    payment_token: str
    destination: Destination
    promotion_codes: tuple[str, ...] = ()
    expected_total: Money | None = None
    source: OrderSource = OrderSource.UNSPECIFIED
    notes: str = ""
    delivery_instructions: str = ""

    @property
    def key(self) -> str:
        """What makes two requests the same request: who asks, and the key drawn by that caller."""
        owner = f"customer:{self.caller_id}" if self.caller_id else f"cart:{self.cart_id}"
        return f"{owner}/{self.request_id}"

    @property
    def fingerprint(self) -> str:
        """A digest of all that was asked, without the key, the payment token hashed before it goes in."""
        expected = self.expected_total
        asked = {
            "cart_id": self.cart_id,
            "payment_token": hashlib.sha256(self.payment_token.encode()).hexdigest(),
            "destination": [
                self.destination.country,
                self.destination.postal_code,
                self.destination.address,
                self.destination.phone_number,
            ],
            "promotion_codes": list(self.promotion_codes),
            "expected_total": [expected.currency_code, expected.minor_units] if expected else None,
            "source": self.source,
            "notes": self.notes,
            "delivery_instructions": self.delivery_instructions,
        }
        canonical = json.dumps(asked, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
        return hashlib.sha256(canonical.encode()).hexdigest()


class Order(NamedTuple):
    """A sale, or the attempt at one. `sequence` counts its events: 1 when it is received.

    A tuple, because it is copied with changes many times on its way.
    """

    order_id: str
    key: str
    state: OrderState
    reason: str
    sequence: int
    lines: tuple[OrderLine, ...]
    totals: Totals
    cart_id: str
    cart_version: int
    customer_id: str
    destination: Destination
    promotion_codes: tuple[str, ...]
    source: OrderSource
    notes: str
    delivery_instructions: str
    payment_id: str
    invoice_number: str
    create_time: datetime
    update_time: datetime
    created_by: str
    updated_by: str

    def moved(self, state: OrderState, *, reason: str = "", at: datetime, by: str) -> "Order":
        """The order in its next state. Raises ValueError for an edge that the table does not have."""
        if state not in EDGES[self.state]:
            raise ValueError(f"no edge from {self.state} to {state}")
        return self._replace(
            state=state,
            reason=reason,
            sequence=self.sequence + 1,
            invoice_number=invoice_number(self.order_id, at) if state is OrderState.PAID else self.invoice_number,
            update_time=at,
            updated_by=by,
        )

    def with_available(self, available: Mapping[str, int]) -> "Order":
        """The order with what a refusal for want of stock saw, per SKU."""
        return self._replace(lines=tuple(replace(line, available=available.get(line.sku)) for line in self.lines))


@dataclass(frozen=True, slots=True)
class StoredAnswer:
    """What a key answers for ever: the serialized Order of the contract."""

    order_id: str
    encoded: bytes


@dataclass(frozen=True, slots=True)
class Invoice:
    """The bill of a paid order; never changes."""

    invoice_number: str
    order: Order
    create_time: datetime


@dataclass(frozen=True, slots=True)
class PaymentEvent:
    """What a payment provider tells by webhook; `kind` is one of SUCCEEDED, FAILED, CANCELLED or OTHER."""

    event_id: str
    kind: "PaymentEventKind"
    order_id: str
    payment_id: str
    raw: str = field(default="", repr=False)


class PaymentEventKind(enum.StrEnum):
    """What a payment event means to an order."""

    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"
    OTHER = "OTHER"


def invoice_number(order_id: str, paid_at: datetime) -> str:
    """The number of an order's one invoice: unique as the order's id is, and the same however often it is derived."""
    return f"INV-{paid_at.year}-{order_id.replace('-', '').upper()}"


def order_lines(cart: CartView, products: Mapping[str, Product]) -> tuple[OrderLine, ...]:
    """The cart's lines at the catalogue's prices, each SKU once, in byte order."""
    return tuple(
        OrderLine(sku, products[sku].name, cart.quantities[sku], products[sku].price.minor_units)
        for sku in sorted(cart.quantities)
    )
