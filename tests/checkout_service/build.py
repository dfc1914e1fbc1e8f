"""Builders: lawful values, of which a test names only what matters to it."""

import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

from checkout_service.domain import (
    CartView,
    Destination,
    Money,
    Order,
    OrderLine,
    OrderState,
    PlaceOrder,
    Product,
    Quote,
    Totals,
)
from checkout_service.placing import NewOrder
from checkout_service.saga import Course, Patience, Saga, SagaState
from mesh.clock import SYSTEM_CLOCK

NOON = datetime(2026, 5, 4, 12, tzinfo=UTC)
OWNER = "coordinator-1"
PATIENCE = Patience(payment=timedelta(minutes=15))
BERLIN = Destination("DE", "10115", "Invalidenstrasse 43, Berlin", "+49 30 1234")
TOTALS = Totals(currency_code="EUR", subtotal=2000, discount=0, shipping=490, tax=473)


def place_order(**changes: Any) -> PlaceOrder:
    """A guest's request to buy a cart of its own."""
    asked = {
        "caller_id": "",
        "cart_id": str(uuid.uuid4()),
        "request_id": "key-1",
        "payment_token": "tok_ok",
        "destination": BERLIN,
    }
    return PlaceOrder(**{**asked, **changes})


def product(sku: str, price_minor: int = 1000, *, category: str = "tools", weight_grams: int = 100) -> Product:
    return Product(sku, f"The {sku}", category, Money("EUR", price_minor), weight_grams)


def cart(*, version: int = 1, **quantities: int) -> CartView:
    return CartView(str(uuid.uuid4()), version, quantities)


def new_order(request: PlaceOrder | None = None, *, version: int = 1) -> NewOrder:
    """An order of two mugs, as the service hands it to the writer."""
    request = request or place_order()
    quote = Quote(lines=(OrderLine("mug", "The mug", 2, 1000),), totals=TOTALS)
    return NewOrder(SYSTEM_CLOCK.uuid7(), request, CartView(request.cart_id, version, {"mug": 2}), quote)


def order(**changes: Any) -> Order:
    """An order that was just received."""
    order_id = SYSTEM_CLOCK.uuid7()
    received = Order(
        order_id=order_id,
        key=f"cart:c/{order_id}",
        state=OrderState.RECEIVED,
        reason="",
        sequence=1,
        lines=(OrderLine("mug", "The mug", 2, 1000),),
        totals=TOTALS,
        cart_id=str(uuid.uuid4()),
        cart_version=1,
        customer_id="",
        destination=BERLIN,
        promotion_codes=(),
        source=place_order().source,
        notes="",
        delivery_instructions="",
        payment_id="",
        invoice_number="",
        create_time=NOON,
        update_time=NOON,
        created_by="guest",
        updated_by="guest",
    )
    return received._replace(**changes)


def course(state: SagaState = SagaState.RESERVING, *, order_state: OrderState | None = None, **changes: Any) -> Course:
    """An order and its saga in a state, the order where that state belongs unless said otherwise."""
    received = order(state=order_state or _ORDER_STATES[state])
    saga = Saga(
        saga_id=received.order_id,
        state=state,
        epoch=1,
        owner=OWNER,
        deadline=NOON + PATIENCE.payment,
        payment_token="tok_ok",
        create_time=NOON,
        update_time=NOON,
    )
    return Course(saga._replace(**changes), received)


_ORDER_STATES = {
    SagaState.RESERVING: OrderState.RECEIVED,
    SagaState.AUTHORIZING: OrderState.RESERVED,
    SagaState.FINDING_AUTHORIZATION: OrderState.RESERVED,
    SagaState.AWAITING_PAYMENT: OrderState.PAYMENT_PENDING,
    SagaState.COMMITTING: OrderState.AUTHORIZED,
    SagaState.CAPTURING: OrderState.AUTHORIZED,
    SagaState.FINDING_CAPTURE: OrderState.AUTHORIZED,
    SagaState.SETTLING: OrderState.PAID,
    SagaState.VOIDING: OrderState.RESERVED,
    SagaState.RELEASING: OrderState.RESERVED,
    SagaState.RETURNING: OrderState.PAID,
    SagaState.REFUNDING: OrderState.PAID,
    SagaState.DONE: OrderState.PAID,
    SagaState.UNDONE: OrderState.REJECTED,
}
