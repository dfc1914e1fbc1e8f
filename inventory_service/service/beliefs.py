"""What is believed of reservations and stock, so that most need not be looked at before they are changed.

A belief decides nothing. What is decided on it is written under the condition that it is so (store.write_believed); if
not, the database is looked at.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace

from inventory_service.domain.book import Book
from inventory_service.domain.reservation import Commit, Failed, Outcome, Request, Reservation, Reserve, State
from inventory_service.domain.stock import Shelf
from mesh.cache import Memory
from mesh.clock import Clock
from mesh.moment import SeenClock

# Holds that wait for their sale, and SKUs.
_AT_MOST = 10_000
_HELD_TTL_S = 3600.0
_SHELVES_TTL_S = 60.0
# The database's clock may be set meanwhile.
_CLOCK_S = 2.0
# Where less would be left, somebody else may just have taken it.
_PLENTY = 100


@dataclass(frozen=True, slots=True)
class Settled:
    """A book to which requests were applied, and their outcomes; `known` is what it was opened over without a look."""

    book: Book
    outcomes: list[Outcome]
    known: Mapping[str, Reservation] = field(default_factory=dict)


class Beliefs:
    """Of one process, made of what its transactions saw and did."""

    def __init__(self, clock: Clock) -> None:
        self._held: Memory[Reservation] = Memory(max_entries=_AT_MOST, clock=clock)
        self._shelves: Memory[Shelf] = Memory(max_entries=_AT_MOST, clock=clock)
        self._now = SeenClock(clock)

    def skus_of(self, reservation_ids: Collection[str]) -> dict[str, Collection[str]]:
        """The SKUs of those reservations that are known. They never change."""
        held = self._held.get_many(reservation_ids)
        return {key: [line.sku for line in reservation.lines] for key, reservation in held.items()}

    def settle(self, requests: Sequence[Request]) -> Settled | None:
        """What becomes of the requests if all is as believed; None where that is not enough to go by.

        It is for new holds of what there is plenty of, and for sales of what is held.
        """
        at = self._now.now(within_s=_CLOCK_S)
        ids = {request.reservation_id for request in requests}
        known = self._held.get_many(ids)
        if at is None or len(ids) < len(requests) or not all(_is_plain(request, known) for request in requests):
            return None
        new = {line.sku for request in requests if isinstance(request, Reserve) for line in request.lines}
        sold = {line.sku for reservation in known.values() for line in reservation.lines}
        shelves = {sku: replace(shelf) for sku, shelf in self._shelves.get_many(new | sold).items()}
        if shelves.keys() < new | sold:
            return None
        book = Book(now=at, reservations=known, shelves=shelves)
        outcomes = [book.apply(request) for request in requests]
        fails = any(isinstance(outcome, Failed) for outcome in outcomes)
        if fails or any(shelves[sku].available < _PLENTY for sku in new):
            return None
        return Settled(book, outcomes, known)

    def learn(self, settled: Settled, *, looked: bool) -> None:
        """Take over what is so now; `looked` if the database was asked."""
        book = settled.book
        if looked:
            self._now.see(book.now)
        self._shelves.set_many(book.shelves, ttl_s=_SHELVES_TTL_S)
        self._held.delete_many(book.reservations)
        held = {key: one for key, one in book.reservations.items() if one.state is State.HELD}
        self._held.set_many(held, ttl_s=_HELD_TTL_S)


def _is_plain(request: Request, known: Mapping[str, Reservation]) -> bool:
    """Whether it begins a hold, or sells one that is known, for the coordinator that made it."""
    if isinstance(request, Reserve):
        return request.reservation_id not in known
    held = known.get(request.reservation_id)
    return isinstance(request, Commit) and held is not None and held.epoch == request.epoch
