"""Ways of spoiling the checkout database."""

from datetime import UTC, datetime, timedelta

from sqlalchemy import Executable

import checkout_service.tables as checkout
from checkout_service.payments.intents import payment_intents
from shop.checkout.v1.checkout_pb2 import Order
from shop.type.v1.money_pb2 import Money
from tests.shopmesh.audit.plant import Plant, added, changed, lost
from tests.shopmesh.audit.shop import PRICE_MINOR, SHIPPING_MINOR, TAX_MINOR

_NOW = datetime.now(UTC)
_O, _I, _E, _L = checkout.orders, checkout.invoices, checkout.order_events, checkout.order_lines
_A, _S, _K, _X = checkout.answers, checkout.sagas, checkout.order_keys, checkout.outbox
_ID, _SAGA = _O.c.order_id, _S.c.saga_id
_PAID_KEY = "cart:cart-order-paid/key-order-paid"
_TOTAL = 2 * PRICE_MINOR + SHIPPING_MINOR + TAX_MINOR
_EVENT = {"reason": "", "actor": "checkout", "create_time": _NOW}
_SAGA_ROW = {
    **dict.fromkeys(("owner", "last_error", "fails_as_state", "fails_as_reason", "wish", "stuck_reason"), ""),
    "payment_token": "",
    "epoch": 1,
    "attempts": 0,
    "authorizations": 0,
    "create_time": _NOW,
    "update_time": _NOW,
}


def _intent(payment_key: str, *, intent_id: str = "pi-1", amount_minor: int = _TOTAL) -> Executable:
    values = {"intent_id": intent_id, "currency_code": "EUR", "amount_minor": amount_minor, "create_time": _NOW}
    return added(payment_intents, payment_key=payment_key, **values)


def _answer_in(currency_code: str) -> bytes:
    money = Money(currency_code=currency_code, minor_units=_TOTAL)
    return Order(order_id="order-paid", total=money, subtotal=money).SerializeToString()


AMOUNTS = (
    Plant(
        "an order's amounts changed by one cent, the total with them",
        "checkout",
        (changed(_ID, "order-paid", tax_minor=_O.c.tax_minor + 1, total_minor=_O.c.total_minor + 1),),
        (
            ("I3", "order-paid", "charge-differs"),
            ("I3", "order-paid", "captured-differs"),
            ("I3", "order-paid", "invoice-tax_minor-differs"),
            ("I3", "order-paid", "invoice-total_minor-differs"),
            ("I4", "order-paid", "paid-not-captured"),
            ("I6", "order-paid", "answer-total_minor-differs"),
        ),
    ),
    Plant(
        "a cent moved from tax to shipping",
        "checkout",
        (changed(_ID, "order-declined", tax_minor=_O.c.tax_minor - 1, shipping_minor=_O.c.shipping_minor + 1),),
        (("I6", "order-declined", "answer-tax_minor-differs"),),
    ),
    Plant(
        "a total that its parts do not make",
        "checkout",
        (changed(_ID, "order-refunded", total_minor=_O.c.total_minor - 1),),
        (("I3", "order-refunded", "total-differs"),),
        checked=False,
    ),
    Plant(
        "a line's price changed by one cent",
        "checkout",
        (changed(_L.c.order_id, "order-sold-out", unit_minor=_L.c.unit_minor - 1),),
        (("I3", "order-sold-out", "subtotal-differs"),),
    ),
    Plant(
        "lines lost", "checkout", (lost(_L.c.order_id, "order-paid"),), (("I3", "order-paid", "order-without-lines"),)
    ),
    Plant(
        "lines without an order",
        "checkout",
        (added(_L, order_id="nobody", sku="TEA", name="TEA", quantity=1, unit_minor=1),),
        (("I3", "nobody", "order_lines-without-order"),),
    ),
    Plant(
        "an order that names another payment",
        "checkout",
        (changed(_ID, "order-paid", payment_id="pay-order-declined"),),
        (("I3", "order-paid", "payment-id-differs"),),
    ),
    Plant(
        "an invoice that differs",
        "checkout",
        (changed(_I.c.order_id, "order-paid", total_minor=_I.c.total_minor - 1, currency_code="USD"),),
        (
            ("I3", "order-paid", "invoice-total_minor-differs"),
            ("I3", "order-paid", "invoice-currency_code-differs"),
        ),
    ),
    Plant(
        "an invoice lost", "checkout", (lost(_I.c.order_id, "order-paid"),), (("I3", "order-paid", "invoice-missing"),)
    ),
    Plant(
        "an invoice given to another order",
        "checkout",
        (changed(_I.c.order_id, "order-refunded", order_id="order-cancelled"),),
        (
            ("I3", "order-refunded", "invoice-missing"),
            ("I3", "order-cancelled", "invoice-of-unpaid-order"),
        ),
    ),
    Plant(
        "an invoice without an order",
        "checkout",
        (changed(_I.c.order_id, "order-paid", order_id="nobody"),),
        (("I3", "nobody", "invoices-without-order"),),
    ),
)

# Orders paid at a provider whose book is elsewhere: our own rows are all there is.
INTENTS = (
    Plant(
        "a provider asked for another amount",
        "checkout",
        (_intent("order-under-way", amount_minor=_TOTAL - 1),),
        (("I3", "order-under-way", "intent-differs"),),
    ),
    Plant(
        "an order paid by another intent, with a payment beside it",
        "checkout",
        (_intent("order-paid"),),
        (("I3", "order-paid", "intent-id-differs"), ("I3", "order-paid", "second-payment")),
    ),
    Plant(
        "an order paid although that was barred",
        "checkout",
        (_intent("order-paid", intent_id=""),),
        (("I3", "order-paid", "paid-while-barred"),),
    ),
    Plant(
        "an intent without an order",
        "checkout",
        (_intent("nobody"),),
        (("I3", "nobody", "payment_intents-without-order"),),
    ),
)

KEYS = (
    Plant(
        "an answer lost",
        "checkout",
        (lost(_A.c.order_id, "order-sold-out"),),
        (("I6", "order-sold-out", "answer-missing"),),
    ),
    Plant(
        "an answer before there was one to give",
        "checkout",
        (
            added(
                _A,
                key_id="cart:cart-order-under-way/key-order-under-way",
                order_id="order-under-way",
                answer=Order(order_id="order-under-way").SerializeToString(),
            ),
        ),
        (("I6", "order-under-way", "answer-too-early"),),
    ),
    Plant(
        "an answer that cannot be read",
        "checkout",
        (changed(_A.c.order_id, "order-paid", answer=b"\xff"),),
        (("I6", "order-paid", "answer-unreadable"),),
    ),
    Plant(
        "an answer that tells of another order",
        "checkout",
        (changed(_A.c.order_id, "order-paid", answer=Order(order_id="order-refunded").SerializeToString()),),
        (
            ("I6", "order-paid", "answer-of-another-order"),
            ("I6", "order-paid", "answer-state-differs"),
            ("I6", "order-paid", "answer-subtotal_minor-differs"),
        ),
    ),
    Plant(
        "an answer in another currency",
        "checkout",
        (changed(_A.c.order_id, "order-paid", answer=_answer_in("USD")),),
        (("I6", "order-paid", "answer-currency-differs"),),
    ),
    Plant(
        "a key lost",
        "checkout",
        (lost(_K.c.key_id, _PAID_KEY),),
        (("I6", "order-paid", "key-missing"), ("I6", _PAID_KEY, "answer-without-key")),
    ),
    Plant(
        "a key that leads to another order",
        "checkout",
        (changed(_K.c.key_id, _PAID_KEY, order_id="order-refunded"),),
        (("I6", "order-paid", "key-differs"), ("I6", _PAID_KEY, "second-key")),
    ),
    Plant(
        "a second key of one order",
        "checkout",
        (added(_K, key_id="cart:c/second", order_id="order-paid", fingerprint="f", create_time=_NOW),),
        (("I6", "cart:c/second", "second-key"),),
    ),
    Plant(
        "a cart still claimed by an order that ended",
        "checkout",
        (
            added(
                checkout.cart_claims,
                cart_id="cart-order-paid",
                order_id="order-paid",
                ordered_version=1,
                update_time=_NOW,
            ),
        ),
        (("I6", "order-paid", "claim-left"),),
    ),
    Plant(
        "a cart that another order took from one under way",
        "checkout",
        (changed(checkout.cart_claims.c.cart_id, "cart-order-under-way", order_id="order-declined"),),
        (("I6", "order-under-way", "claim-missing"),),
    ),
)

COURSE = (
    Plant(
        "an event doubled",
        "checkout",
        (added(_E, order_id="order-paid", sequence=5, state="PAID", **_EVENT),),
        (("I8", "order-paid", "events-differ"), ("I9", "order-paid", "illegal-edge")),
    ),
    Plant(
        "an event lost",
        "checkout",
        (_E.delete().where(_E.c.order_id == "order-paid", _E.c.sequence == 2),),
        (("I8", "order-paid", "events-not-in-sequence"), ("I9", "order-paid", "illegal-edge")),
    ),
    Plant(
        "the first event lost",
        "checkout",
        (_E.delete().where(_E.c.order_id == "order-declined", _E.c.sequence == 1),),
        (("I9", "order-declined", "begins-elsewhere"),),
    ),
    Plant(
        "an order moved without an event",
        "checkout",
        (changed(_ID, "order-paid", state="IN_TRANSIT"),),
        (("I8", "order-paid", "last-event-differs"),),
    ),
    Plant(
        "an order that rose again",
        "checkout",
        (
            changed(_ID, "order-declined", state="PAID", reason="", sequence=4),
            added(_E, order_id="order-declined", sequence=4, state="PAID", **_EVENT),
        ),
        (("I9", "order-declined", "illegal-edge"), ("I4", "order-declined", "undone-not-ended")),
    ),
    Plant(
        "an order in a state that there is not",
        "checkout",
        (changed(_ID, "order-paid", state="LOST"),),
        (("I9", "order-paid", "unknown-state"),),
    ),
    Plant(
        "events without an order",
        "checkout",
        (added(_E, order_id="nobody", sequence=1, state="RECEIVED", **_EVENT),),
        (("I8", "nobody", "order_events-without-order"),),
    ),
    Plant(
        "the outbox telling of what never happened",
        "checkout",
        (added(_X, order_id="order-declined", sequence=4, state="PAID", create_time=_NOW),),
        (("I8", "order-declined", "told-what-never-happened"),),
    ),
    Plant(
        "the outbox telling of no order",
        "checkout",
        (added(_X, order_id="nobody", sequence=1, state="PAID", create_time=_NOW),),
        (("I8", "nobody", "outbox-without-order"),),
    ),
    Plant(
        "an order lost",
        "checkout",
        (lost(_ID, "order-paid"),),
        (
            ("I3", "order-paid", "payments-without-order"),
            ("I3", "order-paid", "invoices-without-order"),
            ("I4", "order-paid", "settlements-without-order"),
            ("I6", _PAID_KEY, "key-without-order"),
            ("I7", "order-paid", "sagas-without-order"),
            ("I8", "order-paid", "order_events-without-order"),
        ),
    ),
)

SAGAS = (
    Plant("a saga lost", "checkout", (lost(_SAGA, "order-under-way"),), (("I7", "order-under-way", "saga-missing"),)),
    Plant(
        "a saga without an order",
        "checkout",
        (added(_S, saga_id="nobody", state="DONE", **_SAGA_ROW),),
        (("I7", "nobody", "sagas-without-order"),),
    ),
    Plant(
        "a log without an order",
        "checkout",
        (
            added(
                checkout.saga_log,
                saga_id="nobody",
                entry_id="1",
                kind="STRAY_PAYMENT",
                actor="checkout",
                reason="",
                detail="",
                create_time=_NOW,
            ),
        ),
        (("I7", "nobody", "saga_log-without-order"),),
    ),
    Plant(
        "an open saga that nobody owns",
        "checkout",
        (changed(_SAGA, "order-under-way", owner=""),),
        (("I7", "order-under-way", "saga-unowned"),),
    ),
    Plant(
        "a saga at rest that somebody owns",
        "checkout",
        (changed(_SAGA, "order-paid", owner="coordinator-1"),),
        (("I7", "order-paid", "saga-rests-owned"),),
    ),
    Plant(
        "a saga that waits for the operator and does not say why",
        "checkout",
        (changed(_SAGA, "order-parked", stuck_reason=""),),
        (("I7", "order-parked", "parked-without-reason"),),
    ),
    Plant(
        "a saga that nobody took over although somebody could",
        "checkout",
        (
            changed(checkout.coordinators.c.owner, "coordinator-1", lease_until=_NOW - timedelta(minutes=5)),
            added(checkout.coordinators, owner="coordinator-2", lease_until=_NOW + timedelta(hours=1)),
        ),
        (("I7", "order-under-way", "saga-not-taken-over"),),
    ),
    Plant(
        "a saga that rests before the order has ended",
        "checkout",
        (changed(_SAGA, "order-under-way", owner="", state="UNDONE"),),
        (("I4", "order-under-way", "undone-not-ended"), ("I4", "order-under-way", "unpaid-holds-stock")),
    ),
    Plant(
        "a saga that is done with an order that failed",
        "checkout",
        (changed(_SAGA, "order-declined", state="DONE"),),
        (("I4", "order-declined", "done-not-paid"),),
    ),
    Plant(
        "a saga that goes on after the order has ended",
        "checkout",
        (changed(_SAGA, "order-declined", state="RELEASING", owner="coordinator-1"),),
        (("I4", "order-declined", "ended-not-resting"),),
    ),
    Plant(
        "a saga that takes the money for stock that is not sold",
        "checkout",
        (changed(_SAGA, "order-under-way", state="CAPTURING"),),
        (("I4", "order-under-way", "committed-not-sold"),),
    ),
    Plant(
        "a refund that was not made",
        "checkout",
        (
            changed(_SAGA, "order-parked", state="UNDONE", owner="", stuck_reason=""),
            changed(_ID, "order-parked", state="REFUNDED", sequence=5),
            added(_E, order_id="order-parked", sequence=5, state="REFUNDED", **_EVENT),
        ),
        (("I4", "order-parked", "refunded-kept-money"),),
    ),
    Plant(
        "a refusal that was told to be none",
        "checkout",
        (changed(_L.c.order_id, "order-sold-out", available=2),),
        (("I10", "order-sold-out", "refusal-unfounded"),),
    ),
    Plant(
        "a refusal that was told otherwise than it was",
        "checkout",
        (changed(_L.c.order_id, "order-sold-out", available=0),),
        (("I10", "order-sold-out", "refusal-differs"),),
    ),
)

PLANTS = (*AMOUNTS, *INTENTS, *KEYS, *COURSE, *SAGAS)
