"""Orders: what each has to keep by itself and against the other databases (I3, I4, I6 to I10)."""

from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence

from checkout_service.tables import orders
from shopmesh.audit import course, money, resting
from shopmesh.audit.books import Books, pages
from shopmesh.audit.dossier import Dossier, load
from shopmesh.audit.findings import Fault, Finding, Invariant

Judge = Callable[[Dossier], Iterator[Fault]]

_JUDGES: Mapping[Invariant, tuple[Judge, ...]] = {
    Invariant.MONEY: (money.amounts, money.payment, money.bill),
    Invariant.RESTING: (resting.sold, resting.undone, resting.settlement),
    Invariant.KEYS: (course.key, course.answer),
    Invariant.ENDING: (course.saga,),
    Invariant.EVENTS: (course.events, course.outbox),
    Invariant.EDGES: (course.edges,),
    Invariant.SOLD_OUT: (resting.refusal,),
}


class OrderCheck:
    """Examines every order with all that belongs to it."""

    covers = tuple(_JUDGES)

    def __init__(self, books: Books) -> None:
        self._books = books

    def pages(self) -> AsyncIterator[Sequence[str]]:
        """All orders."""
        return pages(self._books.checkout, orders.c.order_id)

    async def judge(self, subjects: Sequence[str]) -> list[Finding]:
        """What is wrong with these orders, and what an operator should look at."""
        return [finding for dossier in await load(self._books, subjects) for finding in _found(dossier)]


def _found(dossier: Dossier) -> Iterator[Finding]:
    for invariant, judges in _JUDGES.items():
        for judge in judges:
            for fault in judge(dossier):
                yield Finding(invariant, dossier.order.order_id, fault)
    for fault in course.stuck(dossier):
        yield Finding(Invariant.ENDING, dossier.order.order_id, fault, is_notice=True)
