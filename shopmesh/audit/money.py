"""I3: amounts add up wherever they are written, and the provider took the order's total at most once."""

from collections.abc import Iterator
from typing import Any

from sqlalchemy import Row

from checkout_service.domain import OrderState
from checkout_service.log_store import LogKind
from checkout_service.payments.provider import PaymentStatus
from checkout_service.saga import Resolution, SagaState
from shopmesh.audit.dossier import SOLD, Dossier
from shopmesh.audit.findings import Fault

AMOUNTS = ("subtotal_minor", "discount_minor", "shipping_minor", "tax_minor", "total_minor")
# With these the provider holds the customer's money, or may yet take it.
CHARGED = frozenset({PaymentStatus.AUTHORIZED, PaymentStatus.CAPTURED, PaymentStatus.PENDING})
# What a saga's state tells of the money; in any other it is open.
TAKEN_IN = frozenset({SagaState.SETTLING, SagaState.DONE})
NOT_TAKEN_IN = frozenset({SagaState.RESERVING, SagaState.RELEASING, SagaState.UNDONE})
_BILLED = SOLD | {OrderState.REFUNDED}


def amounts(dossier: Dossier) -> Iterator[Fault]:
    """The order against its lines and its own sum."""
    order = dossier.order
    if not dossier.lines:
        yield Fault("order-without-lines", "the order has no lines")
    lines = sum(line.quantity * line.unit_minor for line in dossier.lines)
    if order.subtotal_minor != lines:
        yield Fault("subtotal-differs", f"subtotal is {order.subtotal_minor}, the lines sum up to {lines}")
    total = order.subtotal_minor - order.discount_minor + order.shipping_minor + order.tax_minor
    if order.total_minor != total:
        yield Fault("total-differs", f"total is {order.total_minor}, its parts make {total}")


def payment(dossier: Dossier) -> Iterator[Fault]:
    """The provider's book against the order."""
    entry, order = dossier.payment, dossier.order
    if entry is None:
        return
    if entry.state in CHARGED and _money(entry, "amount_minor") != _money(order, "total_minor"):
        charged, total = _money(entry, "amount_minor"), _money(order, "total_minor")
        yield Fault("charge-differs", f"the provider's book says {charged}, the order's total is {total}")
    if entry.captured_minor not in (0, order.total_minor):
        yield Fault("captured-differs", f"captured {entry.captured_minor}, the order's total is {order.total_minor}")
    if entry.captured_minor and entry.currency_code != order.currency_code:
        yield Fault("currency-differs", f"captured in {entry.currency_code}, the order is in {order.currency_code}")
    if not 0 <= entry.refunded_minor <= entry.captured_minor:
        yield Fault("refund-exceeds", f"refunded {entry.refunded_minor} of {entry.captured_minor} captured")
    if order.payment_id != entry.payment_id and (order.payment_id or dossier.stage in TAKEN_IN):
        message = f"the order was paid by {order.payment_id or 'nothing'}, the provider's book has {entry.payment_id}"
        yield Fault("payment-id-differs", message)
    if dossier.stage in NOT_TAKEN_IN and _is_live(entry) and not is_excused(dossier):
        yield Fault("charge-of-unpaid-order", f"the order is {order.state}, the provider's book says {entry.state}")


def intent(dossier: Dossier) -> Iterator[Fault]:
    """Our own row of a payment whose book is elsewhere."""
    entry, order = dossier.intent, dossier.order
    if entry is None:
        return
    if entry.intent_id and _money(entry, "amount_minor") != _money(order, "total_minor"):
        asked, total = _money(entry, "amount_minor"), _money(order, "total_minor")
        yield Fault("intent-differs", f"the provider was asked for {asked}, the order's total is {total}")
    if dossier.stage in TAKEN_IN and not entry.intent_id:
        yield Fault("paid-while-barred", f"the order is {order.state}, its payment was barred")
    elif entry.intent_id != order.payment_id and (order.payment_id or dossier.stage in TAKEN_IN):
        message = f"the order was paid by {order.payment_id or 'nothing'}, its intent is {entry.intent_id or 'barred'}"
        yield Fault("intent-id-differs", message)
    if dossier.payment is not None and _is_live(dossier.payment):
        yield Fault("second-payment", f"beside the intent {entry.intent_id}, there is {dossier.payment.payment_id}")


def bill(dossier: Dossier) -> Iterator[Fault]:
    """The invoice: of a paid order there is one, with the order's amounts; of no other."""
    invoice, order = dossier.invoice, dossier.order
    if invoice is None:
        if dossier.state in _BILLED:
            yield Fault("invoice-missing", f"the order is {order.state} and has no invoice")
        return
    if dossier.state not in _BILLED:
        yield Fault("invoice-of-unpaid-order", f"the order is {order.state} and has an invoice")
    for name in (*AMOUNTS, "currency_code"):
        billed, ordered = getattr(invoice, name), getattr(order, name)
        if billed != ordered:
            yield Fault(f"invoice-{name}-differs", f"the invoice says {billed}, the order {ordered}")


def strays(dossier: Dossier) -> Iterator[Fault]:
    """What an operator should know: a second payment that was found at the provider and undone."""
    for entry in dossier.log:
        if entry.kind == LogKind.STRAY_PAYMENT:
            yield Fault("stray-payment-undone", f"a payment beside the order's own was undone: {entry.detail}")


def is_excused(dossier: Dossier) -> bool:
    """Whether an operator answers for money that is where it should not be.

    It was repaid another way; or it was said that nothing was charged, and the provider is yet to be asked.
    """
    saga = dossier.saga
    if dossier.resolved_as(Resolution.REPAID):
        return dossier.payment is None or dossier.payment.state == PaymentStatus.CAPTURED
    is_checked = saga is not None and (not dossier.rests or saga.check_time is not None)
    return is_checked and dossier.resolved_as(Resolution.NOT_CHARGED)


def _is_live(entry: Row[Any]) -> bool:
    return entry.state in CHARGED and not (entry.captured_minor > 0 and entry.refunded_minor == entry.captured_minor)


def _money(row: Row[Any], name: str) -> str:
    return f"{getattr(row, name)} {row.currency_code}"
