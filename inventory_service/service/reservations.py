"""The use cases of InventoryService that are about reservations."""

from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import timedelta
from functools import partial

from inventory_service.domain.reservation import (
    Commit,
    Extend,
    Failed,
    Outcome,
    Release,
    Request,
    Reservation,
    Reserve,
    not_found,
)
from inventory_service.service.beliefs import Beliefs, Settled
from inventory_service.store import Connection
from inventory_service.store import reservations as store
from mesh.batch import GATHER_S, Batcher
from mesh.channel import current_deadline
from mesh.clock import Clock
from mesh.db import Database
from mesh.errors import Failure
from mesh.validate import Violations

# Few enough that a reserve which has to wait for the locks of one sweep does not wait for long.
EXPIRE_AT_ONCE = 100
# What has ended is forgotten after so long, a few at a time. Why that is long enough: docs/adr/0008.
ENDED_KEPT = timedelta(days=7)
FORGET_AT_ONCE = 250


class HoldsExpiredError(Exception):
    """Somebody would be refused stock that is held only by reservations whose time is over."""

    def __init__(self, skus: Collection[str]) -> None:
        super().__init__(f"expired holds on {len(skus)} SKUs")
        self.skus = skus


class ReservationService:
    """Reservations. Requests of every kind that arrive together share one transaction and are decided in their order.

    All are idempotent by reservation_id, and fenced: an epoch lower than one seen before is ABORTED STALE_EPOCH. Make
    it on the running loop.
    """

    def __init__(self, database: Database, *, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        self._beliefs = Beliefs(clock)
        self._settling: Batcher[Request, Outcome] = Batcher("settle reservations", self._settle, gather_s=GATHER_S)

    async def close(self) -> None:
        """Finish what waits."""
        await self._settling.close()

    async def reserve(self, request: Reserve) -> Reservation:
        """Hold stock until ttl_s passes: all lines or none. A repetition answers what the first did.

        Raises NOT_FOUND PRODUCT_NOT_FOUND, FAILED_PRECONDITION OUT_OF_STOCK or RESERVATION_EXPIRED, ALREADY_EXISTS
        RESERVATION_ID_REUSED for other lines, ABORTED RESERVATION_RELEASED or RESERVATION_RETURNED when its release
        came first.
        """
        return await self._submit(request)

    async def get_reservation(self, reservation_id: str) -> Reservation:
        """A reservation as it stands. Raises NOT_FOUND RESERVATION_NOT_FOUND."""
        violations = Violations()
        violations.identifier("reservation_id", reservation_id)
        violations.raise_if_any()
        found = await self._database.transact(
            "get reservation", lambda connection: store.read_reservation(connection, reservation_id), read_only=True
        )
        if found is None:
            raise not_found(reservation_id)
        return found

    async def commit_reservation(self, request: Commit) -> Reservation:
        """Turn a hold into a sale. Raises NOT_FOUND RESERVATION_NOT_FOUND, FAILED_PRECONDITION RESERVATION_<STATE>."""
        return await self._submit(request)

    async def release_reservation(self, request: Release) -> Reservation:
        """Give a hold back, or bar it from coming; what has ended otherwise is left as it is.

        Raises FAILED_PRECONDITION RESERVATION_COMMITTED for a sale, unless the request says to return it.
        """
        return await self._submit(request)

    async def extend_reservation(self, request: Extend) -> Reservation:
        """Make a hold last at least ttl_s from now; never shortens. Raises as `commit_reservation` does."""
        return await self._submit(request)

    async def batch(self, requests: Sequence[Request | Failure]) -> list[Outcome]:
        """Many requests at once, each answered for itself, in order. What failed before it came here stays failed."""
        lawful = [request for request in requests if not isinstance(request, Failure)]
        outcomes = iter(await self._settling.submit_many(lawful, deadline=current_deadline()))
        answers = (request if isinstance(request, Failure) else next(outcomes) for request in requests)
        return [Failed(answer) if isinstance(answer, Failure) else answer for answer in answers]

    async def expire(self, *, skus: Collection[str] = ()) -> int:
        """Give back holds whose time is over, the longest expired first, and answer how many were seen.

        At most 100 in one transaction; fewer than that means that none is left. With `skus` only holds of those.
        """
        return await self._database.transact("expire reservations", partial(_expire, skus=skus))

    async def forget(self) -> int:
        """Delete reservations that ended a week ago without a sale, the oldest first, and answer how many.

        At most 250 in one transaction; fewer than that means that none is left. A sale is kept: it may be returned.
        """
        body = partial(store.delete_ended, kept=ENDED_KEPT, at_most=FORGET_AT_ONCE)
        return await self._database.transact("forget reservations", body)

    async def _submit(self, request: Request) -> Reservation:
        outcome = await self._settling.submit(request, deadline=current_deadline())
        if isinstance(outcome, Failed):
            raise outcome.failure
        return outcome

    async def _settle(self, requests: Sequence[Request]) -> list[Outcome]:
        known = self._beliefs.skus_of({request.reservation_id for request in requests})
        believed = self._beliefs.settle(requests)
        while True:
            look = partial(_settle, requests=requests, draw_attempt=self._clock.uuid7, known=known)
            believe = partial(_write, settled=believed, attempt=self._clock.uuid7()) if believed else None
            try:
                settled = await self._database.transact("settle reservations", look, believing=believe, own_task=False)
            except store.UnforeseenError as error:
                known |= error.known
            except HoldsExpiredError as error:
                # In a transaction of its own, because reservations are locked before stock. Every round gives back
                # what it finds, so there is an end to them.
                await self.expire(skus=error.skus)
            else:
                self._beliefs.learn(settled, looked=settled is not believed)
                return settled.outcomes
            believed = None


async def _write(connection: Connection, *, settled: Settled, attempt: str) -> Settled:
    await store.write_believed(connection, settled.book, settled.known, attempt=attempt)
    return settled


async def _settle(
    connection: Connection,
    *,
    requests: Sequence[Request],
    draw_attempt: Callable[[], str],
    known: Mapping[str, Collection[str]],
) -> Settled:
    opened = await store.open_book(connection, requests, attempt=draw_attempt(), known=known)
    outcomes = [opened.book.apply(request) for request in requests]
    if opened.book.short and await store.has_expired(connection, opened.book.short):
        raise HoldsExpiredError(opened.book.short)
    await store.write_book(connection, opened)
    return Settled(opened.book, outcomes)


async def _expire(connection: Connection, *, skus: Collection[str]) -> int:
    opened = await store.open_expired(connection, limit=EXPIRE_AT_ONCE, skus=skus)
    for reservation_id in opened.rows:
        opened.book.expire(reservation_id)
    await store.write_book(connection, opened)
    return len(opened.rows)
