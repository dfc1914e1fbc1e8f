"""I3: amounts add up wherever they are written, and the provider took the order's total at most once."""

from collections.abc import Iterator
from typing import Any

from sqlalchemy import Row

from checkout_service.domain import OrderState
from checkout_service.payments.provider import PaymentStatus
from checkout_service.saga import SagaState
from shopmesh.audit.dossier import Dossier
from shopmesh.audit.findings import Fault

AMOUNTS = ("subtotal_minor", "discount_minor", "shipping_minor", "tax_minor", "total_minor")
# With these the provider holds the customer's money, or may yet take it.
_CHARGED = frozenset({PaymentStatus.AUTHORIZED, PaymentStatus.CAPTURED, PaymentStatus.PENDING})
_BILLED = frozenset({OrderState.PAID, OrderState.IN_TRANSIT, OrderState.COMPLETED, OrderState.REFUNDED})


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
    if entry.state in _CHARGED and _money(entry, "amount_minor") != _money(order, "total_minor"):
        charged, total = _money(entry, "amount_minor"), _money(order, "total_minor")
        yield Fault("charge-differs", f"the provider's book says {charged}, the order's total is {total}")
    if entry.captured_minor not in (0, order.total_minor):
        yield Fault("captured-differs", f"captured {entry.captured_minor}, the order's total is {order.total_minor}")
    if not 0 <= entry.refunded_minor <= entry.captured_minor:
        yield Fault("refund-exceeds", f"refunded {entry.refunded_minor} of {entry.captured_minor} captured")
    if _rests_unpaid(dossier) and entry.state in _CHARGED and not _paid_back(entry):
        yield Fault("charge-of-unpaid-order", f"the order is {order.state}, the provider's book says {entry.state}")


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


def _rests_unpaid(dossier: Dossier) -> bool:
    return dossier.saga is not None and dossier.saga.state == SagaState.UNDONE


def _paid_back(entry: Row[Any]) -> bool:
    return bool(entry.captured_minor > 0 and entry.refunded_minor == entry.captured_minor)


def _money(row: Row[Any], name: str) -> str:
    return f"{getattr(row, name)} {row.currency_code}"
