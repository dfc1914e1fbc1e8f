"""What a customer carries through a visit: line, wishes, journal, and the list of what did not add up."""

import asyncio
import random
import uuid
from dataclasses import dataclass, field

from checkout_service.domain import ANSWERING
from checkout_service.domain import OrderState as OrderStatus
from shop.cart.v1.cart_pb2 import Cart
from shop.checkout.v1.checkout_pb2 import Invoice, Order, OrderState
from shopmesh.audit.acknowledged import may_become
from shopmesh.audit.journal import CART, INVOICE, ORDER, READ, Entry, Journal
from shopmesh.emulator.persona import Persona
from shopmesh.emulator.session import Session

_STATE_PREFIX = "ORDER_STATE_"
_ANSWERED = frozenset[OrderStatus]().union(*[may_become(state) for state in ANSWERING])
_THINKS_S = (0.5, 5.0)


@dataclass(slots=True)
class Visit:
    """One customer in the shop. All random choices come from the persona's seed, in one order."""

    persona: Persona
    session: Session
    journal: Journal
    # Sentences, shared by all customers of a run.
    differences: list[str]
    pace: float
    # How many times longer than on a good day things may take before they count as not done.
    patience: float = 1.0
    customer_id: str = ""
    rng: random.Random = field(init=False)

    def __post_init__(self) -> None:
        self.rng = random.Random(f"{self.persona.seed}/visit")  # noqa: S311 - an emulation, not a secret

    def new_id(self) -> str:
        """An id that clients draw: a UUID, lower case. Not from the seed, for the next run must not meet it again."""
        return str(uuid.uuid4())

    async def think(self) -> None:
        """Take a moment, as people do."""
        await asyncio.sleep(self.pace * self.rng.uniform(*_THINKS_S))

    def differ(self, sentence: str) -> None:
        """Note something that is not as it was promised."""
        self.differences.append(f"{self.persona.label}: {sentence}")

    def note_cart(self, cart: Cart) -> None:
        """Journal a change of a cart that was acknowledged."""
        entry = Entry(
            kind=CART,
            customer=self.persona.label,
            cart_id=cart.cart_id,
            cart_version=cart.version,
            items=items_of(cart),
        )
        self.journal.write(entry)

    def note_order(self, order: Order, request_id: str, body_sha256: str) -> None:
        """Journal an answer of PlaceOrder."""
        entry = Entry(
            kind=ORDER,
            customer=self.persona.label,
            caller=f"customer:{self.customer_id}" if self.customer_id else f"cart:{order.cart_id}",
            request_id=request_id,
            body_sha256=body_sha256,
            order_id=order.order_id,
            state=state_of(order),
            reason=order.reason,
            total_minor=order.total.minor_units,
            currency_code=order.total.currency_code,
            invoice_number=order.invoice_number,
            cart_id=order.cart_id,
            items=items_of(order),
        )
        self.journal.write(entry)

    def note_read(self, order: Order) -> None:
        """Journal an answer of GetOrder."""
        entry = Entry(
            kind=READ,
            customer=self.persona.label,
            order_id=order.order_id,
            state=state_of(order),
            reason=order.reason,
            total_minor=order.total.minor_units,
            currency_code=order.total.currency_code,
            invoice_number=order.invoice_number,
        )
        self.journal.write(entry)

    def note_invoice(self, invoice: Invoice) -> None:
        """Journal an answer of GetInvoice."""
        entry = Entry(
            kind=INVOICE,
            customer=self.persona.label,
            order_id=invoice.order_id,
            total_minor=invoice.total.minor_units,
            currency_code=invoice.total.currency_code,
            invoice_number=invoice.invoice_number,
        )
        self.journal.write(entry)


def items_of(bearer: Cart | Order | Invoice) -> dict[str, int]:
    """What a cart, an order or an invoice has: SKU -> quantity."""
    lines = bearer.items if isinstance(bearer, Cart) else bearer.lines
    return {line.sku: line.quantity for line in lines}


def is_answered(order: Order) -> bool:
    """Whether the order has come as far as the answer that is stored for its key, or further."""
    return OrderStatus(state_of(order)) in _ANSWERED


def state_of(order: Order) -> str:
    """The order's state by the name that it is stored under."""
    return OrderState.Name(order.state).removeprefix(_STATE_PREFIX)
