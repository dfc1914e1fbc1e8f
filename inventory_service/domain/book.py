"""The decisions: what each request makes of the reservations and the stock that one transaction holds locked.

A transaction locks everything that its requests name, opens a Book over it, applies the requests in the order of their
arrival, and writes back what the book says has changed. A request that fails changes nothing, save what is a fact of
its own: a refusal is kept as a refusal, a later epoch as seen, and a hold whose time is over is given back by whoever
meets it.
"""

from collections import Counter
from collections.abc import Mapping
from datetime import datetime, timedelta
from functools import lru_cache

from inventory_service.domain import reservation as rules
from inventory_service.domain.catalog import product_not_found
from inventory_service.domain.reservation import (
    Commit,
    Extend,
    Failed,
    Line,
    Outcome,
    Release,
    Request,
    Reservation,
    Reserve,
    State,
)
from inventory_service.domain.stock import RETURN, SALE, Movement, Shelf, movement_id
from mesh.errors import Failure


class Book:
    """Reservations and shelves by id and SKU, as they change. `now` is the database's time for all that happens."""

    def __init__(self, *, now: datetime, reservations: Mapping[str, Reservation], shelves: Mapping[str, Shelf]) -> None:
        self.now = now
        self.reservations = dict(reservations)
        self.shelves = shelves
        # What was added to each SKU's counters, and the ledger rows that tell why.
        self.on_hand: Counter[str] = Counter()
        self.held: Counter[str] = Counter()
        self.movements: list[Movement] = []
        # SKUs of which somebody was refused.
        self.short: set[str] = set()

    def apply(self, request: Request) -> Outcome:
        """Do what the request asks, or answer why not."""
        try:
            return self._decide(request)
        except Failure as failure:
            if failure.reason != rules.OUT_OF_STOCK:
                return Failed(failure)
            return Failed(failure, refused_lines=self.reservations[request.reservation_id].lines)

    def expire(self, reservation_id: str) -> None:
        """Give the hold back if its time is over."""
        self._lapse(self.reservations[reservation_id])

    def _decide(self, request: Request) -> Reservation:
        standing = self.reservations.get(request.reservation_id)
        if standing is None:
            return self._begin(request)
        if request.epoch < standing.epoch:
            raise rules.stale_epoch(seen=standing.epoch, yours=request.epoch)
        if isinstance(request, Reserve):
            _check_same(standing, request)
        standing = self._see(standing, request.epoch)
        match request:
            case Reserve():
                return _repeat(self._lapse(standing))
            case Commit():
                return self._commit(self._lapse(standing), request)
            case Release():
                return self._release(standing, request)
            case Extend():
                return self._extend(self._lapse(standing), request)

    def _begin(self, request: Request) -> Reservation:
        match request:
            case Reserve():
                return self._reserve(request)
            case Release():
                return self._keep(tombstone(request, self.now))
        raise rules.not_found(request.reservation_id)

    def _reserve(self, request: Reserve) -> Reservation:
        lines = request.merged()
        for line in lines:
            shelf = self.shelves.get(line.sku)
            if shelf is None or shelf.retired:
                raise product_not_found(line.sku, field=request.field_of(line.sku))
        short = [line.sku for line in lines if line.quantity > self.shelves[line.sku].available]
        if short:
            self.short.update(short)
            raise rules.out_of_stock(self._refuse(request, lines))
        self._move_held(lines, sign=1)
        return self._keep(hold(request, self.now, lines))

    def _refuse(self, request: Reserve, lines: tuple[Line, ...]) -> Reservation:
        seen = tuple(line._replace(available=self.shelves[line.sku].available) for line in lines)
        return self._keep(hold(request, self.now, seen)._replace(state=State.REFUSED))

    def _commit(self, standing: Reservation, request: Commit) -> Reservation:
        if standing.state is State.COMMITTED:
            return standing
        if standing.state is not State.HELD:
            raise rules.not_held(standing.state)
        self._move_held(standing.lines, sign=-1)
        self._move_on_hand(standing, sign=-1, reason=SALE, actor=request.actor)
        return self._keep(standing.become(State.COMMITTED))

    def _release(self, standing: Reservation, request: Release) -> Reservation:
        if standing.state is State.HELD:
            self._move_held(standing.lines, sign=-1)
            return self._keep(standing.become(State.RELEASED))
        if standing.state is State.COMMITTED:
            if not request.return_committed:
                raise rules.not_held(standing.state)
            self._move_on_hand(standing, sign=1, reason=RETURN, actor=request.actor)
            return self._keep(standing.become(State.RETURNED))
        return standing

    def _extend(self, standing: Reservation, request: Extend) -> Reservation:
        if standing.state is not State.HELD or standing.expire_time is None:
            raise rules.not_held(standing.state)
        expire_time = max(standing.expire_time, self.now + timedelta(seconds=request.ttl_s))
        return self._keep(standing._replace(expire_time=expire_time))

    def _see(self, standing: Reservation, epoch: int) -> Reservation:
        return standing if epoch == standing.epoch else self._keep(standing._replace(epoch=epoch))

    def _lapse(self, standing: Reservation) -> Reservation:
        if not standing.lapsed(self.now):
            return standing
        self._move_held(standing.lines, sign=-1)
        return self._keep(standing.become(State.EXPIRED))

    def _keep(self, reservation: Reservation) -> Reservation:
        self.reservations[reservation.reservation_id] = reservation
        return reservation

    def _move_held(self, lines: tuple[Line, ...], *, sign: int) -> None:
        for line in lines:
            self.shelves[line.sku].held += sign * line.quantity
            self.held[line.sku] += sign * line.quantity

    def _move_on_hand(self, of: Reservation, *, sign: int, reason: str, actor: str) -> None:
        for line in of.lines:
            self.shelves[line.sku].on_hand += sign * line.quantity
            self.on_hand[line.sku] += sign * line.quantity
            movement = Movement(
                movement_id=movement_id(reason, of.reservation_id, line.sku),
                sku=line.sku,
                delta=sign * line.quantity,
                reason=reason,
                reservation_id=of.reservation_id,
                actor=actor,
                create_time=self.now,
            )
            self.movements.append(movement)


def hold(request: Reserve, now: datetime, lines: tuple[Line, ...] = ()) -> Reservation:
    """The reservation that a request asks for, with its merged lines or without."""
    return Reservation(
        reservation_id=request.reservation_id,
        state=State.HELD,
        lines=lines,
        expire_time=_expire_time(now, request.ttl_s),
        create_time=now,
        epoch=request.epoch,
    )


@lru_cache(maxsize=64)
def _expire_time(now: datetime, ttl_s: int) -> datetime:
    # The same object for a whole batch: it becomes text and message once (mesh.rows, mesh.timestamp).
    return now + timedelta(seconds=ttl_s)


def tombstone(request: Request, now: datetime) -> Reservation:
    """What bars a reservation from coming."""
    return Reservation(
        reservation_id=request.reservation_id,
        state=State.RELEASED,
        lines=(),
        expire_time=None,
        create_time=now,
        epoch=request.epoch,
    )


def _check_same(standing: Reservation, request: Reserve) -> None:
    # A tombstone has no lines to compare with.
    if standing.lines and not standing.has_lines(request.merged()):
        raise rules.id_reused()


def _repeat(standing: Reservation) -> Reservation:
    match standing.state:
        case State.REFUSED:
            raise rules.out_of_stock(standing)
        case State.RELEASED | State.RETURNED:
            raise rules.given_back_before(standing.state)
        case State.EXPIRED:
            raise rules.not_held(standing.state)
    return standing
