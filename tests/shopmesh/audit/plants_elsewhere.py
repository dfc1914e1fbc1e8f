"""Ways of spoiling the databases of inventory, cart and payment provider."""

from datetime import UTC, datetime

from sqlalchemy import Executable

import cart_service.tables as cart
import checkout_service.payments.tables as psp
import inventory_service.tables as inventory
from inventory_service.domain.stock import movement_id
from tests.shopmesh.audit.plant import Plant, added, changed, lost

_NOW = datetime.now(UTC)
_STOCK, _MOVES, _HOLDS, _LINES = (
    inventory.stock,
    inventory.movements,
    inventory.reservations,
    inventory.reservation_lines,
)
_SKU, _MOVE, _HOLD, _LINE = _STOCK.c.sku, _MOVES.c.movement_id, _HOLDS.c.reservation_id, _LINES.c.reservation_id
_PAY, _SETTLED = psp.payments.c.payment_key, cart.settlements.c.order_id
_SALE = movement_id("sale", "order-paid", "TEA")
_RETURN = movement_id("return", "order-refunded", "CUP")


def _moved(
    key: str, reservation_id: str, delta: int, *, reason: str = "sale", sku: str = "TEA"
) -> tuple[Executable, ...]:
    """A row of the ledger, and the counter with it."""
    values = {"reason": reason, "reservation_id": reservation_id, "actor": "test", "create_time": _NOW}
    return (
        added(_MOVES, movement_id=key, sku=sku, delta=delta, **values),
        changed(_SKU, sku, on_hand=_STOCK.c.on_hand + delta),
    )


COUNTERS = (
    Plant(
        "a stock counter changed by one",
        "inventory",
        (changed(_SKU, "TEA", on_hand=_STOCK.c.on_hand + 1),),
        (("I2", "TEA", "on-hand-differs"),),
    ),
    Plant(
        "a counter of holds changed by one",
        "inventory",
        (changed(_SKU, "TEA", held=_STOCK.c.held - 1),),
        (("I2", "TEA", "held-differs"),),
    ),
    Plant(
        "more held than there is",
        "inventory",
        (changed(_SKU, "TEA", held=_STOCK.c.on_hand + 1),),
        (("I1", "TEA", "available-negative"),),
        checked=False,
    ),
)

STOCK = (
    Plant(
        "a receipt lost from the ledger",
        "inventory",
        (lost(_MOVE, "adjust-TEA"),),
        (("I1", "TEA", "sold-more-than-received"), ("I2", "TEA", "on-hand-differs")),
    ),
    Plant(
        "a product without stock",
        "inventory",
        (lost(_SKU, "CUP"),),
        (
            ("I2", "CUP", "product-without-stock"),
            ("I2", "CUP", "ledger-without-stock"),
            ("I2", "CUP", "reserved-without-stock"),
        ),
    ),
    Plant(
        "something reserved that nobody knows",
        "inventory",
        (changed(_LINE, "order-cancelled", sku="GHOST"),),
        (("I2", "GHOST", "reserved-without-stock"), ("I4", "order-cancelled", "reservation-differs")),
    ),
)

LEDGER = (
    Plant(
        "a sale lost from the ledger",
        "inventory",
        (lost(_MOVE, _SALE),),
        (("I2", "TEA", "on-hand-differs"), ("I4", "order-paid", "sale-not-in-ledger")),
    ),
    Plant(
        "a sale lost from the ledger, and from the counter",
        "inventory",
        (lost(_MOVE, _SALE), changed(_SKU, "TEA", on_hand=_STOCK.c.on_hand + 2)),
        (("I4", "order-paid", "sale-not-in-ledger"),),
    ),
    Plant(
        "a sale of one less, in ledger and counter",
        "inventory",
        (changed(_MOVE, _SALE, delta=-1), changed(_SKU, "TEA", on_hand=_STOCK.c.on_hand + 1)),
        (("I2", _SALE, "movement-differs"), ("I4", "order-paid", "sale-not-in-ledger")),
    ),
    Plant(
        "a sale made twice, under another key",
        "inventory",
        _moved("sale-again", "order-paid", -2),
        (("I2", "sale-again", "movement-key-differs"),),
    ),
    Plant(
        "a sale by nobody",
        "inventory",
        _moved(movement_id("sale", "nobody", "TEA"), "nobody", -1),
        (("I2", movement_id("sale", "nobody", "TEA"), "movement-without-reservation"),),
    ),
    Plant(
        "a sale by an order that failed",
        "inventory",
        _moved(movement_id("sale", "order-declined", "CUP"), "order-declined", -2, sku="CUP"),
        (
            ("I2", movement_id("sale", "order-declined", "CUP"), "movement-of-nothing-sold"),
            ("I4", "order-declined", "ledger-of-nothing-sold"),
        ),
    ),
    Plant(
        "a return of what is sold",
        "inventory",
        _moved(movement_id("return", "order-paid", "TEA"), "order-paid", 2, reason="return"),
        (("I4", "order-paid", "return-of-sold"),),
    ),
    Plant(
        "a movement for no reason that there is",
        "inventory",
        _moved("gift-1", "order-paid", -1, reason="gift"),
        (("I2", "gift-1", "movement-unknown"),),
    ),
    Plant(
        "a return lost from the ledger",
        "inventory",
        (lost(_MOVE, _RETURN), changed(_SKU, "CUP", on_hand=_STOCK.c.on_hand - 2)),
        (("I4", "order-refunded", "return-not-in-ledger"),),
    ),
)

RESERVATIONS = (
    Plant(
        "a held line without its reservation",
        "inventory",
        (lost(_HOLD, "order-under-way"),),
        (("I2", "order-under-way", "lines-without-reservation"), ("I2", "TEA", "held-differs")),
    ),
    Plant(
        "a sale taken back behind the order",
        "inventory",
        (changed(_HOLD, "order-paid", state="RELEASED"),),
        (("I4", "order-paid", "paid-not-sold"), ("I4", "order-paid", "ledger-of-nothing-sold")),
    ),
    Plant(
        "a hold left behind by an order that failed",
        "inventory",
        (changed(_HOLD, "order-declined", state="HELD"),),
        (("I4", "order-declined", "unpaid-holds-stock"), ("I2", "CUP", "held-differs")),
    ),
    Plant(
        "one unit less reserved than ordered",
        "inventory",
        (changed(_LINE, "order-cancelled", quantity=1),),
        (("I4", "order-cancelled", "reservation-differs"),),
    ),
    Plant(
        "a refusal that was not true",
        "inventory",
        (changed(_LINE, "order-sold-out", available=2),),
        (("I10", "order-sold-out", "refusal-unfounded"),),
    ),
    Plant(
        "a refusal that saw something else",
        "inventory",
        (changed(_LINE, "order-sold-out", available=0),),
        (("I10", "order-sold-out", "refusal-differs"),),
    ),
    Plant(
        "a refusal of what was held",
        "inventory",
        (changed(_HOLD, "order-sold-out", state="RELEASED"),),
        (("I10", "order-sold-out", "refusal-not-stored"),),
    ),
    Plant(
        "a refusal of which nothing is left",
        "inventory",
        (lost(_HOLD, "order-sold-out"), lost(_LINE, "order-sold-out")),
        (("I10", "order-sold-out", "refusal-not-stored"),),
    ),
)

BOOK = (
    Plant(
        "a charge without its order",
        "psp",
        (changed(_PAY, "order-declined", payment_key="order-paid-again", state="CAPTURED"),),
        (("I3", "order-paid-again", "payments-without-order"),),
    ),
    Plant(
        "money still set aside for an order that failed",
        "psp",
        (changed(_PAY, "order-declined", state="AUTHORIZED"),),
        (("I3", "order-declined", "charge-of-unpaid-order"),),
    ),
    Plant(
        "money taken for an order that failed",
        "psp",
        (changed(_PAY, "order-cancelled", state="CAPTURED", captured_minor=psp.payments.c.amount_minor),),
        (("I3", "order-cancelled", "charge-of-unpaid-order"), ("I4", "order-cancelled", "unpaid-kept-money")),
    ),
    Plant(
        "a charge that the provider lost",
        "psp",
        (lost(_PAY, "order-paid"),),
        (("I4", "order-paid", "paid-not-captured"),),
    ),
    Plant(
        "a cent less taken than the total",
        "psp",
        (changed(_PAY, "order-paid", captured_minor=psp.payments.c.captured_minor - 1),),
        (("I3", "order-paid", "captured-differs"), ("I4", "order-paid", "paid-not-captured")),
    ),
    Plant(
        "a charge in another currency",
        "psp",
        (changed(_PAY, "order-paid", currency_code="USD"),),
        (("I3", "order-paid", "currency-differs"), ("I3", "order-paid", "charge-differs")),
    ),
    Plant(
        "a charge by another payment",
        "psp",
        (changed(_PAY, "order-paid", payment_id="pay-2"),),
        (("I3", "order-paid", "payment-id-differs"),),
    ),
    Plant(
        "more given back than taken",
        "psp",
        (changed(_PAY, "order-refunded", refunded_minor=psp.payments.c.captured_minor + 1),),
        (("I3", "order-refunded", "refund-exceeds"),),
        checked=False,
    ),
    Plant(
        "a cent less given back than taken",
        "psp",
        (changed(_PAY, "order-refunded", refunded_minor=psp.payments.c.captured_minor - 1),),
        (("I4", "order-refunded", "refunded-kept-money"),),
    ),
)

CART = (
    Plant(
        "a cart that was never told of its purchase",
        "cart",
        (lost(_SETTLED, "order-paid"),),
        (("I4", "order-paid", "cart-not-settled"),),
    ),
    Plant(
        "another cart that was told of the purchase",
        "cart",
        (changed(_SETTLED, "order-paid", cart_id="cart-order-declined"),),
        (("I4", "order-paid", "settled-another-cart"),),
    ),
    Plant(
        "a cart that was told of a purchase that was none",
        "cart",
        (changed(_SETTLED, "order-paid", order_id="order-declined", cart_id="cart-order-declined"),),
        (("I4", "order-declined", "settled-unpaid"),),
    ),
    Plant(
        "a cart that was told of the purchase by nobody",
        "cart",
        (changed(_SETTLED, "order-paid", order_id="nobody"),),
        (("I4", "nobody", "settlements-without-order"),),
    ),
)

PLANTS = (*COUNTERS, *STOCK, *LEDGER, *RESERVATIONS, *BOOK, *CART)
