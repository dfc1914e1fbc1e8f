"""The engine: moves each order's saga along the table, one durable step at a time, until it rests.

Each saga that this process owns has one task, a plain loop: run the command of the state, record what it showed. The
loop knows nothing of batches, yet what many loops do at the same time shares RPCs (clients) and transactions (moves).
Recovery is the same loop begun from the stored rows. Only the owner moves a saga: webhooks and the like leave a row in
the inbox, which the owner takes as one more outcome.
"""

import asyncio
import contextlib
import logging
import random
from collections import defaultdict
from collections.abc import Awaitable, Callable, Sequence
from contextvars import Context
from dataclasses import dataclass
from datetime import datetime, timedelta

from checkout_service import saga_store, store
from checkout_service.commands import Commands, StaleCoordinatorError
from checkout_service.domain import ANSWERING, Order, OrderState, PaymentEvent, PaymentEventKind
from checkout_service.lease import RENEW_EVERY_S, Lease
from checkout_service.saga import Course, Outcome, Patience, Report, SagaState, advance, gives_up
from checkout_service.saga_store import Encode, Move
from mesh.batch import Batcher
from mesh.db import Connection, Database, now
from mesh.errors import Failure, Kind, unavailable

ACTOR = "checkout"
_RECOVER_EVERY_S = 1.0
_INBOX_EVERY_S = 0.3
_TIDY_EVERY_S = 300.0
_TAKE_OVER_AT_ONCE = 500
_KEPT = timedelta(hours=1)
_CLAIMS_AT_ONCE = 1000
_PAUSE_S = 0.5
_READY_WITHIN_S = 3.0

_EVENT_OUTCOMES = {
    PaymentEventKind.SUCCEEDED: Outcome.AUTHORIZED,
    PaymentEventKind.FAILED: Outcome.DECLINED,
    PaymentEventKind.CANCELLED: Outcome.CANCELLED,
}

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Reported:
    """A course and what its command showed, waiting to be recorded."""

    course: Course
    report: Report


class Engine:
    """Drives the sagas of one coordinator process. `start` on the running loop, `stop` leaves them to others."""

    def __init__(
        self, database: Database, commands: Commands, lease: Lease, *, encode: Encode, patience: Patience
    ) -> None:
        self._database = database
        self._commands = commands
        self._lease = lease
        self._encode = encode
        self._patience = patience
        self._moves: Batcher[_Reported, Course] = Batcher("saga steps", self._record_many)
        self._drivers: dict[str, asyncio.Task[None]] = {}
        self._loops: list[asyncio.Task[None]] = []
        # Who waits for an order's answer, and which sagas wait for something from outside.
        self._waiters: dict[str, set[asyncio.Future[Order]]] = defaultdict(set)
        self._awaiting: dict[str, tuple[Order, asyncio.Future[Report]]] = {}
        self._inbox_touched = asyncio.Event()

    @property
    def owner(self) -> str:
        """The name under which this process owns sagas."""
        return self._lease.owner

    async def until_ready(self) -> None:
        """Wait, not for ever, until new sagas may be begun here: only who holds the lease may. Raises UNAVAILABLE."""
        try:
            async with asyncio.timeout(_READY_WITHIN_S):
                await self._lease.until_held()
        except TimeoutError:
            raise unavailable("COORDINATOR_NOT_READY", "Checkout cannot begin orders at the moment.") from None

    def start(self) -> None:
        """Begin to hold the lease, recover what nobody moves, and watch the inbox."""
        loops: dict[str, Awaitable[None]] = {
            "lease": _repeat(self._lease.renew, every_s=RENEW_EVERY_S),
            "recovery": _repeat(self._recover, every_s=_RECOVER_EVERY_S),
            "inbox": _repeat(self._watch_inbox, every_s=0),
            "tidy": _repeat(self._tidy, every_s=_TIDY_EVERY_S),
        }
        self._loops = [asyncio.ensure_future(loop) for loop in loops.values()]

    async def stop(self) -> None:
        """Stop where each saga stands, and give the lease up so that others go on at once."""
        tasks = [*self._loops, *self._drivers.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._moves.close()
        await self._lease.end()

    def adopt(self, course: Course) -> None:
        """Drive this saga from where it stands, unless it rests or is driven already."""
        saga_id = course.saga.saga_id
        if course.saga.rests or saga_id in self._drivers:
            return
        # The saga outlives the RPC that began it, so it must not inherit that RPC's deadline.
        task = asyncio.create_task(self._drive(course), name=saga_id, context=Context())
        self._drivers[saga_id] = task
        task.add_done_callback(self._forget)

    def drives(self, order_id: str) -> bool:
        """Whether this process moves the order's saga now."""
        return order_id in self._drivers

    async def answer(self, order_id: str, *, wait_s: float) -> Order | None:
        """The order once it can be answered: at its end or with its payment pending. None when that takes longer."""
        if order_id in self._awaiting:
            return self._awaiting[order_id][0]
        future: asyncio.Future[Order] = asyncio.get_running_loop().create_future()
        self._waiters[order_id].add(future)
        try:
            async with asyncio.timeout(wait_s):
                return await future
        except TimeoutError:
            return None
        finally:
            self._waiters[order_id].discard(future)
            if not self._waiters[order_id]:
                del self._waiters[order_id]

    def wake(self) -> None:
        """Something was put into the inbox by this process: look now."""
        self._inbox_touched.set()

    def _forget(self, task: asyncio.Task[None]) -> None:
        saga_id = task.get_name()
        self._drivers.pop(saga_id, None)
        if not task.cancelled() and task.exception() is not None:
            # The next recovery begins it again from where it stands.
            _log.error("saga broke", exc_info=task.exception(), extra={"saga_id": saga_id})

    async def _drive(self, course: Course) -> None:
        saga_id = course.saga.saga_id
        while not course.saga.rests:
            try:
                report = await self._next_report(course)
                course = await self._moves.submit(_Reported(course, report))
            except StaleCoordinatorError:
                _log.warning("saga taken over", extra={"saga_id": saga_id})
                return
            except Failure as failure:
                if failure.kind not in (Kind.UNAVAILABLE, Kind.RESOURCE_EXHAUSTED):
                    _log.warning("saga left", extra={"saga_id": saga_id, "reason": failure.reason})
                    return
                # The database is away: what the command did is found again by running it again, under its key.
                await asyncio.sleep(_PAUSE_S)
                continue
            self._tell(course)

    async def _next_report(self, course: Course) -> Report:
        await self._until_due(course.saga.next_attempt_time)
        await self._lease.until_held()
        if course.saga.state is SagaState.AWAITING_PAYMENT:
            return await self._await_payment(course)
        if gives_up(course.saga, at=self._lease.now(), patience=self._patience):
            return Report(outcome=Outcome.GAVE_UP)
        return await self._commands.run(course, at=self._lease.now())

    async def _until_due(self, due: datetime | None) -> None:
        if due is not None:
            jitter_s = random.uniform(0, 0.1)  # noqa: S311 - spreads retries, keeps no secret
            await asyncio.sleep(max(0.0, (due - self._lease.now()).total_seconds()) + jitter_s)

    async def _await_payment(self, course: Course) -> Report:
        order_id, deadline = course.order.order_id, course.saga.deadline
        future: asyncio.Future[Report] = asyncio.get_running_loop().create_future()
        self._awaiting[order_id] = (course.order, future)
        self._inbox_touched.set()
        left_s = (deadline - self._lease.now()).total_seconds() if deadline else None
        try:
            async with asyncio.timeout(left_s):
                return await future
        except TimeoutError:
            # What arrived in time counts, even if nobody was there to look until now.
            events = (await self._read_events([order_id])).get(order_id, ())
            return _first_report(events, course.order.payment_id) or Report(outcome=Outcome.GAVE_UP)
        finally:
            del self._awaiting[order_id]

    async def _read_events(self, order_ids: Sequence[str]) -> dict[str, list[PaymentEvent]]:
        return await self._database.transact(
            "inbox", lambda connection: saga_store.read_events(connection, order_ids), read_only=True
        )

    async def _record_many(self, reported: Sequence[_Reported]) -> list[Course | Failure]:
        at: datetime | None = None

        async def body(connection: Connection) -> list[Course | Failure]:
            nonlocal at
            # A repetition after a lost COMMIT must come to the same rows, so the time is taken once.
            at = at or await now(connection)
            after = [self._advance(item, at) for item in reported]
            moves = [
                Move(item.course, course)
                for item, course in zip(reported, after, strict=True)
                if not isinstance(course, Failure)
            ]
            refused = iter(await saga_store.apply_moves(connection, moves, self._encode))
            return [course if isinstance(course, Failure) else (next(refused) or course) for course in after]

        return await self._database.transact("saga_steps", body)

    def _advance(self, item: _Reported, at: datetime) -> Course | Failure:
        try:
            return advance(item.course, item.report, at=at, by=ACTOR, patience=self._patience)
        except ValueError as error:
            _log.exception("off the table", extra={"saga_id": item.course.saga.saga_id})
            return Failure(Kind.INTERNAL, "OFF_THE_TABLE", str(error))

    def _tell(self, course: Course) -> None:
        """Let those who wait know, once there is something to answer."""
        order, saga = course.order, course.saga
        pending = order.state is OrderState.PAYMENT_PENDING
        # What was bought leaves the cart before the answer does, unless the cart service cannot be reached now.
        settled = saga.state is not SagaState.SETTLING or saga.attempts > 0
        if pending or (order.state in ANSWERING and settled):
            for future in self._waiters.get(order.order_id, ()):
                if not future.done():
                    future.set_result(order)

    async def _recover(self) -> None:
        """Take over what dead coordinators left, and drive everything of ours that is not driven yet."""
        if not self._lease.is_held():
            return

        async def body(connection: Connection) -> list[str]:
            await saga_store.take_over(connection, self.owner, _TAKE_OVER_AT_ONCE)
            return await saga_store.owned(connection, self.owner)

        mine = await self._database.transact("recover", body)
        idle = [saga_id for saga_id in mine if saga_id not in self._drivers]
        if idle:
            for course in await self._database.transact(
                "recover_read", lambda connection: saga_store.read_courses(connection, idle), read_only=True
            ):
                self.adopt(course)

    async def _watch_inbox(self) -> None:
        """Take what came in: at once if this process took it in, else after a moment."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_INBOX_EVERY_S):
                await self._inbox_touched.wait()
        self._inbox_touched.clear()
        await self._take_events()

    async def _take_events(self) -> None:
        order_ids = list(self._awaiting)
        if not order_ids:
            return
        for order_id, events in (await self._read_events(order_ids)).items():
            order, future = self._awaiting.get(order_id, (None, None))
            report = _first_report(events, order.payment_id) if order is not None else None
            if report is not None and future is not None and not future.done():
                future.set_result(report)

    async def _tidy(self) -> None:
        """Forget what is over: leases of dead processes, and claims of carts that no old reading can still be of."""
        if not self._lease.is_held():
            return
        older_than = self._lease.now() - _KEPT

        async def body(connection: Connection) -> None:
            await saga_store.forget_coordinators(connection, older_than=older_than)
            await store.delete_free_claims(connection, older_than=older_than, limit=_CLAIMS_AT_ONCE)

        await self._database.transact("tidy", body)


def _first_report(events: Sequence[PaymentEvent], payment_id: str) -> Report | None:
    """The first event about this payment decides; what comes later finds the saga moved on."""
    for event in events:
        if event.kind in _EVENT_OUTCOMES and event.payment_id in ("", payment_id):
            return Report(outcome=_EVENT_OUTCOMES[event.kind])
    return None


async def _repeat(work: Callable[[], Awaitable[None]], *, every_s: float) -> None:
    while True:
        try:
            await work()
        except Failure as failure:
            _log.warning("background work failed", extra={"work": work.__name__, "reason": failure.reason})
        except Exception:  # noqa: BLE001 - the loop outlives whatever its work runs into
            _log.exception("background work broke", extra={"work": work.__name__})
        await asyncio.sleep(every_s * random.uniform(0.8, 1.2))  # noqa: S311 - jitter
