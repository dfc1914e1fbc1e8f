"""I4 and I10: what an order leaves behind once its saga rests."""

from collections.abc import Iterator
from datetime import timedelta

from checkout_service.domain import OrderState
from checkout_service.saga import SagaState
from inventory_service.domain.reservation import State
from inventory_service.domain.stock import RETURN, SALE
from shopmesh.audit.dossier import Dossier
from shopmesh.audit.findings import Fault

_SOLD = frozenset({OrderState.PAID, OrderState.IN_TRANSIT, OrderState.COMPLETED})
_UNSOLD = frozenset({OrderState.REJECTED, OrderState.PAYMENT_FAILED, OrderState.CANCELLED})
# Carts forget their settlements in time; no shop keeps them for less than this.
_SETTLEMENTS_KEPT = timedelta(days=1)


def sold(dossier: Dossier) -> Iterator[Fault]:
    """Done <=> paid <=> stock committed, with its ledger rows, and the total captured."""
    if dossier.state in _SOLD and not _holds(dossier, State.COMMITTED):
        yield Fault("paid-not-sold", f"the order is {dossier.state}, its reservation {_reservation(dossier)}")
    if dossier.state in _SOLD and _kept_minor(dossier) != dossier.order.total_minor:
        message = f"the order is {dossier.state}, of its total {dossier.order.total_minor} the provider kept"
        yield Fault("paid-not-captured", f"{message} {_kept_minor(dossier)}")
    if dossier.state is OrderState.REFUNDED and _kept_minor(dossier):
        yield Fault("refunded-kept-money", f"the order is REFUNDED, the provider kept {_kept_minor(dossier)}")
    if dossier.is_done and dossier.state not in (*_SOLD, OrderState.REFUNDED):
        yield Fault("done-not-paid", f"the saga is DONE, the order {dossier.state}")
    yield from _goods(dossier)


def undone(dossier: Dossier) -> Iterator[Fault]:
    """An order that ended unpaid holds nothing, sold nothing, and no money of it is with the provider."""
    if dossier.saga is None or dossier.saga.state != SagaState.UNDONE:
        return
    if dossier.state not in _UNSOLD:
        yield Fault("undone-not-ended", f"the saga is UNDONE, the order {dossier.state}")
    if _holds(dossier, State.HELD, State.COMMITTED):
        yield Fault("unpaid-holds-stock", f"the order is {dossier.state}, its reservation {_reservation(dossier)}")
    if _kept_minor(dossier):
        yield Fault("unpaid-kept-money", f"the order is {dossier.state}, the provider kept {_kept_minor(dossier)}")


def settlement(dossier: Dossier) -> Iterator[Fault]:
    """What was bought has left the cart by the time the saga is done."""
    if dossier.saga is None or not dossier.is_done or dossier.settled:
        return
    if dossier.now - dossier.saga.update_time < _SETTLEMENTS_KEPT:
        yield Fault("cart-not-settled", f"the cart {dossier.order.cart_id} was not told that it was bought")


def refusal(dossier: Dossier) -> Iterator[Fault]:
    """An order refused as OUT_OF_STOCK stored what its reservation saw: too little of at least one SKU."""
    if dossier.state is not OrderState.REJECTED or dossier.order.reason != "OUT_OF_STOCK":
        return
    if not _holds(dossier, State.REFUSED):
        yield Fault("refusal-not-stored", f"refused as OUT_OF_STOCK, its reservation is {_reservation(dossier)}")
    elif not any(line.available is not None and line.available < line.quantity for line in dossier.held_lines):
        yield Fault("refusal-unfounded", "refused as OUT_OF_STOCK, but every line was available")


def _goods(dossier: Dossier) -> Iterator[Fault]:
    """The reservation has the order's lines, and the ledger what became of them."""
    reserved = {line.sku: line.quantity for line in dossier.held_lines}
    if reserved and reserved != dossier.quantities:
        yield Fault("reservation-differs", f"ordered {_listed(dossier.quantities)}, reserved {_listed(reserved)}")
    expected = {sku: -quantity for sku, quantity in reserved.items()}
    if _holds(dossier, State.COMMITTED, State.RETURNED) and dossier.moved(SALE) != expected:
        yield Fault("sale-not-in-ledger", f"sold {_listed(reserved)}, the ledger has {_listed(dossier.moved(SALE))}")
    if _holds(dossier, State.RETURNED) and dossier.moved(RETURN) != reserved:
        message = f"returned {_listed(reserved)}, the ledger has {_listed(dossier.moved(RETURN))}"
        yield Fault("return-not-in-ledger", message)


def _holds(dossier: Dossier, *states: State) -> bool:
    return dossier.reservation is not None and dossier.reservation.state in states


def _reservation(dossier: Dossier) -> str:
    return "absent" if dossier.reservation is None else str(dossier.reservation.state)


def _kept_minor(dossier: Dossier) -> int:
    """What the provider took for the order and has not given back."""
    entry = dossier.payment
    return 0 if entry is None else int(entry.captured_minor - entry.refunded_minor)


def _listed(quantities: dict[str, int]) -> str:
    return ", ".join(f"{quantity} x {sku}" for sku, quantity in sorted(quantities.items())) or "nothing"
