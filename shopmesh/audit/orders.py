"""Orders: what each has to keep by itself and against the other databases (I3, I4, I6 to I10)."""

from collections.abc import Callable, Iterator, Mapping, Sequence

from sqlalchemy import Table

from cart_service.tables import settlements
from checkout_service.payments.intents import payment_intents
from checkout_service.payments.tables import payments
from checkout_service.tables import invoices, order_events, order_lines, outbox, saga_log, sagas
from inventory_service.domain.reservation import State
from inventory_service.tables import reservation_lines, reservations
from shopmesh.audit import course, money, resting
from shopmesh.audit.books import Books
from shopmesh.audit.dossier import KEYED_BY_ORDER, Cabinet, Dossier, dossier_rows, fetch
from shopmesh.audit.findings import Fault, Finding, Invariant

Judge = Callable[[Dossier], Iterator[Fault]]

_JUDGES: Mapping[Invariant, tuple[Judge, ...]] = {
    Invariant.MONEY: (money.amounts, money.payment, money.intent, money.bill),
    Invariant.RESTING: (resting.goods, resting.money, resting.ending, resting.settlement, resting.ledger),
    Invariant.KEYS: (course.key, course.answer, course.claim),
    Invariant.ENDING: (course.saga,),
    Invariant.EVENTS: (course.events, course.outbox),
    Invariant.EDGES: (course.edges,),
    Invariant.SOLD_OUT: (resting.refusal,),
}
# Worth an operator's look.
_NOTICES: Mapping[Invariant, tuple[Judge, ...]] = {
    Invariant.MONEY: (money.strays,),
    Invariant.ENDING: (course.with_the_operator, course.stuck),
}
# What there may be of an id that is no order's: which promise that breaks, and what it is.
_STRAYS: Mapping[Table, tuple[Invariant, str]] = {
    order_lines: (Invariant.MONEY, "there are lines of an order that does not exist"),
    invoices: (Invariant.MONEY, "there is an invoice of an order that does not exist"),
    payment_intents: (Invariant.MONEY, "the provider was asked for money for an order that does not exist"),
    payments: (Invariant.MONEY, "the provider's book has a payment of an order that does not exist"),
    settlements: (Invariant.RESTING, "a cart was told that it was bought by an order that does not exist"),
    sagas: (Invariant.ENDING, "there is a saga of an order that does not exist"),
    saga_log: (Invariant.ENDING, "there is a log of an order that does not exist"),
    order_events: (Invariant.EVENTS, "there are events of an order that does not exist"),
    outbox: (Invariant.EVENTS, "the outbox tells of an order that does not exist"),
}
_UNHELD = Fault("lines-without-reservation", "there are lines of a reservation that does not exist")


class OrderCheck:
    """Examines orders with all that belongs to each, and what belongs to none."""

    covers = tuple(_JUDGES)

    def __init__(self, books: Books) -> None:
        self._books = books

    async def judge(self, subjects: Sequence[str]) -> list[Finding]:
        """What is wrong with these orders, and what an operator should look at."""
        cabinet, watch = await fetch(self._books, subjects)
        found = dossier_rows(cabinet, subjects)
        strays = sorted(set(subjects) - {order.order_id for order in found})
        return [
            *(finding for order in found for finding in _found(Dossier(cabinet, order, watch))),
            *(finding for one in strays for finding in _strays(one, cabinet)),
            *(Finding(Invariant.COUNTERS, one, _UNHELD) for one in subjects if _is_unheld(one, cabinet)),
        ]


def _found(dossier: Dossier) -> Iterator[Finding]:
    order_id = dossier.order.order_id
    unknown = list(course.unknown_states(dossier))
    if unknown:
        # Nothing else can be told of it.
        yield from (Finding(Invariant.EDGES, order_id, fault) for fault in unknown)
        return
    for judges, is_notice in ((_JUDGES, False), (_NOTICES, True)):
        for invariant, those in judges.items():
            for judge in those:
                for fault in judge(dossier):
                    yield Finding(invariant, order_id, fault, is_notice=is_notice)


def _strays(subject: str, cabinet: Cabinet) -> Iterator[Finding]:
    for table in KEYED_BY_ORDER:
        if table in _STRAYS and cabinet.all(table, subject):
            invariant, message = _STRAYS[table]
            yield Finding(invariant, subject, Fault(f"{table.name}-without-order", message))
    reservation = cabinet.one(reservations, subject)
    if reservation is not None and reservation.state in (State.HELD, State.COMMITTED):
        # Whoever has a service's credential may reserve without an order.
        fault = Fault("reservation-without-order", "stock is held or sold for something that is no order")
        yield Finding(Invariant.RESTING, subject, fault, is_notice=True)


def _is_unheld(subject: str, cabinet: Cabinet) -> bool:
    return bool(cabinet.all(reservation_lines, subject)) and cabinet.one(reservations, subject) is None
