"""I4 and I10: what an order leaves behind in each database, as soon as its saga is past it."""

from collections.abc import Iterator
from datetime import datetime

from cart_service.service import KEYS_KEPT
from checkout_service.domain import OrderState
from checkout_service.saga import SagaState
from inventory_service.domain.reservation import State
from inventory_service.domain.stock import RETURN, SALE
from inventory_service.service.reservations import ENDED_KEPT
from shopmesh.audit.books import Rows
from shopmesh.audit.dossier import SOLD, Dossier
from shopmesh.audit.findings import Fault
from shopmesh.audit.money import NOT_TAKEN_IN, TAKEN_IN, is_excused

_UNSOLD = frozenset({OrderState.REJECTED, OrderState.PAYMENT_FAILED, OrderState.CANCELLED, OrderState.REFUNDED})
# What a saga's state tells of the goods; in any other it is open.
SOLD_IN = frozenset({SagaState.CAPTURING, SagaState.FINDING_CAPTURE, SagaState.SETTLING, SagaState.DONE})
GIVEN_BACK_IN = frozenset({SagaState.REFUNDING, SagaState.UNDONE})


def goods(dossier: Dossier) -> Iterator[Fault]:
    """The stock is sold while the saga relies on it, and neither held nor sold once it was given back."""
    state = "absent" if dossier.reservation is None else dossier.reservation.state
    message = f"the order is {dossier.state}, its saga {dossier.stage}, its reservation {state}"
    if dossier.stage in SOLD_IN and state != State.COMMITTED:
        yield Fault("paid-not-sold" if dossier.state in SOLD else "committed-not-sold", message)
    if dossier.stage in GIVEN_BACK_IN and state in (State.HELD, State.COMMITTED):
        yield Fault("unpaid-holds-stock", message)


def money(dossier: Dossier) -> Iterator[Fault]:
    """The total is with the provider once the order is paid, and nothing of it once the order is undone."""
    if dossier.intent is not None:
        # The provider's book is elsewhere.
        return
    kept, total = dossier.kept_minor, dossier.order.total_minor
    if dossier.stage in TAKEN_IN and kept != total:
        yield Fault("paid-not-captured", f"the order is {dossier.state}, of its total {total} the provider kept {kept}")
    if dossier.stage in NOT_TAKEN_IN and kept and not is_excused(dossier):
        rule = "refunded-kept-money" if dossier.state is OrderState.REFUNDED else "unpaid-kept-money"
        yield Fault(rule, f"the order is {dossier.state}, the provider kept {kept}")


def ending(dossier: Dossier) -> Iterator[Fault]:
    """A saga that is done has sold its order, one that is undone has ended it."""
    if dossier.saga is None:
        return
    if dossier.stage is SagaState.DONE and dossier.state not in SOLD:
        yield Fault("done-not-paid", f"the saga is DONE, the order {dossier.state}")
    if dossier.stage is SagaState.UNDONE and dossier.state not in _UNSOLD:
        yield Fault("undone-not-ended", f"the saga is UNDONE, the order {dossier.state}")
    if not dossier.rests and dossier.state in _UNSOLD:
        yield Fault("ended-not-resting", f"the order is {dossier.state}, the saga {dossier.stage}")


def settlement(dossier: Dossier) -> Iterator[Fault]:
    """What was bought has left the cart by the time the saga rests, and only that."""
    settled, order = dossier.settlement, dossier.order
    was_paid = dossier.state in SOLD or dossier.state is OrderState.REFUNDED
    if settled is not None:
        if not was_paid:
            yield Fault("settled-unpaid", f"the cart was told of its purchase, the order is {order.state}")
        if settled.cart_id != order.cart_id:
            yield Fault("settled-another-cart", f"the order is of {order.cart_id}, {settled.cart_id} was told of it")
    elif was_paid and dossier.rests and any(dossier.now - paid_at < KEYS_KEPT for paid_at in _times_paid(dossier)):
        # Carts forget their settlements in time, but not yet.
        yield Fault("cart-not-settled", f"the cart {order.cart_id} was not told that it was bought")


def ledger(dossier: Dossier) -> Iterator[Fault]:
    """The reservation has the order's lines, and the ledger what became of them."""
    reserved = {line.sku: line.quantity for line in dossier.held_lines}
    if reserved and reserved != dossier.quantities:
        yield Fault("reservation-differs", f"ordered {_listed(dossier.quantities)}, reserved {_listed(reserved)}")
    state = None if dossier.reservation is None else dossier.reservation.state
    sold, returned = dossier.moved(SALE), dossier.moved(RETURN)
    is_sold = state in (State.COMMITTED, State.RETURNED)
    if is_sold and sold != {sku: -quantity for sku, quantity in reserved.items()}:
        yield Fault("sale-not-in-ledger", f"sold {_listed(reserved)}, the ledger has {_listed(sold)}")
    if state == State.RETURNED and returned != reserved:
        yield Fault("return-not-in-ledger", f"returned {_listed(reserved)}, the ledger has {_listed(returned)}")
    # What was returned is forgotten in time, and stays in the ledger as two rows that cancel each other out.
    forgotten = state is None and returned == {sku: -delta for sku, delta in sold.items()}
    if not is_sold and not forgotten and (sold or returned):
        message = f"nothing was sold; the ledger has sold {_listed(sold)}, returned {_listed(returned)}"
        yield Fault("ledger-of-nothing-sold", message)
    if state == State.COMMITTED and returned:
        yield Fault("return-of-sold", f"the reservation is COMMITTED, the ledger has returned {_listed(returned)}")


def refusal(dossier: Dossier) -> Iterator[Fault]:
    """An order refused as OUT_OF_STOCK stored what its reservation saw: too little of at least one SKU."""
    if dossier.state is not OrderState.REJECTED or dossier.order.reason != "OUT_OF_STOCK":
        return
    asked, told = dossier.quantities, _seen(dossier.lines)
    if not _is_short(asked, told):
        yield Fault("refusal-unfounded", f"refused as OUT_OF_STOCK, of {_listed(asked)} it was told {told}")
    if dossier.reservation is None:
        # A refusal is forgotten in time. For a SKU that is not sold any more there is none.
        is_fresh = dossier.now - dossier.order.create_time < ENDED_KEPT
        if is_fresh and not any(dossier.is_retired(sku) for sku in told if told[sku] < asked[sku]):
            yield Fault("refusal-not-stored", "refused as OUT_OF_STOCK, its reservation is absent")
        return
    seen = _seen(dossier.held_lines)
    if dossier.reservation.state != State.REFUSED:
        message = f"refused as OUT_OF_STOCK, its reservation is {dossier.reservation.state}"
        yield Fault("refusal-not-stored", message)
    elif not _is_short(asked, seen):
        yield Fault("refusal-unfounded", f"refused as OUT_OF_STOCK, of {_listed(asked)} the reservation saw {seen}")
    elif seen != told:
        yield Fault("refusal-differs", f"refused as OUT_OF_STOCK, it was told {told}, the reservation saw {seen}")


def _seen(lines: Rows) -> dict[str, int]:
    """What was available, SKU by SKU, where that was stored."""
    return {line.sku: line.available for line in lines if line.available is not None}


def _is_short(asked: dict[str, int], seen: dict[str, int]) -> bool:
    return any(available < asked.get(sku, 0) for sku, available in seen.items())


def _times_paid(dossier: Dossier) -> list[datetime]:
    return [event.create_time for event in dossier.events if event.state == OrderState.PAID]


def _listed(quantities: dict[str, int]) -> str:
    return ", ".join(f"{quantity} x {sku}" for sku, quantity in sorted(quantities.items())) or "nothing"
