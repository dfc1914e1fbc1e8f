"""The engine: moves each order's saga along the table, one durable stride at a time, until it rests.

Each saga that this process owns has one task, a plain loop: run the command of the state, and those behind it as long
as nothing needs to be recorded before them; then record what they showed. The loop knows nothing of batches, yet what
many loops do at the same time shares RPCs (clients) and transactions (moves). Recovery is the same loop begun from the
stored rows. Only the owner moves a saga: webhooks leave a row in the inbox and people a wish, which the owner takes as
one more outcome.
"""

import asyncio
import logging
import math
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextvars import Context
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from checkout_service import gauges, lease_store, saga_store, store
from checkout_service.commands import Commands, StaleCoordinatorError
from checkout_service.convoys import Convoys
from checkout_service.domain import ANNOUNCED, ANSWERING, ENDED, Order, OrderState
from checkout_service.lease import RENEW_EVERY_S, Lease
from checkout_service.outside import Outside
from checkout_service.payment_checks import PaymentChecks
from checkout_service.saga import Course, Outcome, Patience, Report, SagaState, advance, follow, gives_up, next_step
from checkout_service.saga_store import Encode, Move, Standing
from checkout_service.waiters import Waiters
from mesh.batch import Batcher
from mesh.clock import Clock
from mesh.db import Connection, Database
from mesh.errors import Failure, Kind, unavailable

ACTOR = "checkout"
_RECOVER_EVERY_S = 0.5
# What takes longer than this is recorded on the way, to be seen from outside and to hear what is wished.
_STRIDE_S = 0.5
_CHECK_EVERY_S = 1.0
_MEASURE_EVERY_S = 5.0
_TIDY_EVERY_S = 300.0
_TAKE_OVER_AT_ONCE = 500
_KEPT = timedelta(hours=1)
_CLAIMS_AT_ONCE = 1000
_PAUSE_S = 0.5
_LONGEST_WAIT_S = 5.0
_READY_WITHIN_S = 3.0

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Reported:
    """A course and what its commands showed, one after the other, waiting to be recorded."""

    course: Course
    reports: Sequence[Report]


@dataclass(slots=True, eq=False)
class _Stride:
    """A saga under way: `course` is durable, `reports` show what came behind it and lead to `ahead`, in memory."""

    course: Course
    ahead: Course
    # When it is slow enough to be recorded on the way, in monotonic time.
    slow_at: float = math.inf
    reports: list[Report] = field(default_factory=list)
    # Records the first of the reports while the command behind them runs.
    recording: asyncio.Task[None] | None = None


class Engine:
    """Drives the sagas of one coordinator process. `start` on the running loop, `stop` leaves them to others."""

    def __init__(
        self,
        database: Database,
        commands: Commands,
        lease: Lease,
        checks: PaymentChecks,
        *,
        encode: Encode,
        announce: Callable[[], None],
        patience: Patience,
        clock: Clock,
    ) -> None:
        self._database = database
        self._commands = commands
        self._lease = lease
        self._checks = checks
        self._outside = Outside(database)
        self._clock = clock
        self._encode = encode
        self._announce = announce
        self._patience = patience
        self._moves: Batcher[_Reported, Course] = Batcher("saga steps", self._record_many)
        self._convoys = Convoys()
        self._drivers: dict[str, asyncio.Task[None]] = {}
        self._strides: dict[str, _Stride] = {}
        self._loops: list[asyncio.Task[None]] = []
        # Who waits for an order's answer, and for its end.
        self._answers = Waiters()
        self._ends = Waiters()

    @property
    def owner(self) -> str:
        """The name under which this process owns sagas."""
        return self._lease.owner

    def now(self) -> datetime:
        """The database's time, as the lease last saw it: a little late, never early. For whoever is ready."""
        return self._lease.now()

    async def until_ready(self) -> None:
        """Wait, not for ever, until new sagas may be begun here: only who holds the lease may. Raises UNAVAILABLE."""
        try:
            async with asyncio.timeout(_READY_WITHIN_S):
                await self._lease.until_held()
        except TimeoutError:
            raise unavailable("COORDINATOR_NOT_READY", "Checkout cannot begin orders at the moment.") from None

    def start(self) -> None:
        """Begin to hold the lease, recover what nobody moves, and watch what comes from outside."""
        rounds: dict[Callable[[], Awaitable[None]], float] = {
            self._lease.renew: RENEW_EVERY_S,
            self._recover: _RECOVER_EVERY_S,
            self._record_slow: _STRIDE_S,
            self._outside.watch: 0,
            self._checks.run: _CHECK_EVERY_S,
            self._measure: _MEASURE_EVERY_S,
            self._tidy: _TIDY_EVERY_S,
        }
        self._loops = [
            asyncio.create_task(self._repeat(work, every_s=every_s), name=work.__name__)
            for work, every_s in rounds.items()
        ]

    async def stop(self) -> None:
        """Stop where each saga stands, and give the lease up so that others go on at once."""
        tasks = [*self._loops, *self._drivers.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._moves.close()
        await self._lease.end()

    def adopt(self, course: Course) -> None:
        """Drive this saga from where it stands, unless it rests, waits for a person, or is driven already.

        Somebody else's is left: while a new order's COMMIT was uncertain, its saga may have been taken over.
        """
        saga_id = course.saga.saga_id
        if course.saga.owner != self.owner or course.saga.rests or saga_id in self._drivers:
            return
        # The saga outlives the RPC that began it, so it must not inherit that RPC's deadline.
        task = asyncio.create_task(self._drive(course), name=saga_id, context=Context())
        self._drivers[saga_id] = task
        task.add_done_callback(self._forget)

    async def room(self) -> None:
        """Wait until more orders may set out."""
        await self._convoys.room()

    def set_out(self, courses: Sequence[Course]) -> None:
        """Drive these new sagas, together."""
        for course in courses:
            self.adopt(course)
        drivers = (self._drivers.get(course.saga.saga_id) for course in courses)
        self._convoys.depart([driver for driver in drivers if driver is not None])

    def seize(self, course: Course) -> None:
        """Drive this saga from where it stands, in the place of whoever drove it here under an epoch before."""
        driver = self._drivers.pop(course.saga.saga_id, None)
        if driver is not None:
            driver.cancel()
        self.adopt(course)

    def drives(self, order_id: str) -> bool:
        """Whether this process moves the order's saga now."""
        return order_id in self._drivers

    async def answer(self, order_id: str, *, wait_s: float) -> Order | None:
        """The order once it can be answered: at its end or with its payment pending. None when that takes longer."""
        waiting = self._outside.waiting(order_id)
        if waiting is not None and waiting.order.state is OrderState.PAYMENT_PENDING:
            return waiting.order
        return await self._answers.wait(order_id, wait_s=wait_s)

    async def end(self, order_id: str, *, wait_s: float) -> Order | None:
        """The order once nothing can follow any more, unless by a person. None when that takes longer."""
        return await self._ends.wait(order_id, wait_s=wait_s)

    def wake(self) -> None:
        """Something came from outside through this process: look now."""
        self._outside.wake()

    def _forget(self, task: asyncio.Task[None]) -> None:
        saga_id = task.get_name()
        if self._drivers.get(saga_id) is task:
            del self._drivers[saga_id]
        if not task.cancelled() and task.exception() is not None:
            # The next recovery begins it again from where it stands.
            _log.error("saga broke", exc_info=task.exception(), extra={"saga_id": saga_id})

    async def _drive(self, course: Course) -> None:
        saga_id = course.saga.saga_id
        stride = self._strides[saga_id] = _Stride(course, course)
        try:
            while not (stride.course.saga.rests or stride.course.saga.is_parked):
                try:
                    await self._go_on(stride)
                except StaleCoordinatorError:
                    _log.warning("saga taken over", extra={"saga_id": saga_id})
                    return
                except Failure as failure:
                    if failure.kind not in (Kind.UNAVAILABLE, Kind.RESOURCE_EXHAUSTED):
                        _log.warning("saga left", extra={"saga_id": saga_id, "reason": failure.reason})
                        return
                    # The database is away: what the commands did is found again by running them again, under their key.
                    await asyncio.sleep(_PAUSE_S)
                    continue
                self._tell(stride.course)
        finally:
            if stride.recording is not None:
                stride.recording.cancel()
            if self._strides.get(saga_id) is stride:
                del self._strides[saga_id]

    async def _go_on(self, stride: _Stride) -> None:
        """Run the saga's command, and those behind it as long as nothing is to be recorded first; then record all."""
        await self._recorded(stride)
        stride.reports.clear()
        stride.ahead = stride.course
        stride.slow_at = self._clock.monotonic() + _STRIDE_S
        while True:
            state = stride.ahead.saga.state
            report = await self._next_report(stride.ahead)
            await self._recorded(stride)
            if stride.ahead.saga.state is not state:
                # Called off on the way: what the command did is found again by undoing it.
                return
            stride.reports.append(report)
            step = next_step(state, report.outcome)
            if not step.goes_on:
                break
            stride.ahead = advance(stride.ahead, report, at=self._lease.now(), by=ACTOR, patience=self._patience)
            if stride.ahead.saga.state is not step.state:
                break
            if step.meanwhile:
                self._begin_recording(stride)
        stride.slow_at = math.inf
        await self._record(stride)

    async def _record(self, stride: _Stride) -> None:
        recorded = tuple(stride.reports)
        stride.course = stride.ahead = await self._moves.submit(_Reported(stride.course, recorded))
        stride.reports.clear()

    async def _record_slow(self) -> None:
        """Record the strides that take long, as far as they came, while their commands run."""
        at = self._clock.monotonic()
        for stride in self._strides.values():
            if stride.slow_at <= at and stride.reports and stride.recording is None:
                self._begin_recording(stride)

    def _begin_recording(self, stride: _Stride) -> None:
        stride.recording = asyncio.create_task(self._record(stride), name="record on the way")
        stride.recording.add_done_callback(_seen)

    async def _recorded(self, stride: _Stride) -> None:
        """Wait for what is being recorded of the stride, if anything is."""
        if stride.recording is None:
            return
        try:
            # Until it is over nobody begins another one.
            await stride.recording
        finally:
            stride.recording = None

    async def _next_report(self, course: Course) -> Report:
        called_off = await self._until_due(course)
        await self._lease.until_held()
        if called_off is not None:
            return called_off
        if course.saga.state is SagaState.AWAITING_PAYMENT and not course.saga.wish:
            return await self._await_payment(course)
        due = gives_up(course.saga, at=self._lease.now(), patience=self._patience)
        if due is not None:
            return Report(outcome=due)
        return await self._run(course)

    async def _run(self, course: Course) -> Report:
        try:
            return await self._commands.run(course, at=self._lease.now())
        except StaleCoordinatorError:
            raise
        except Exception as error:  # noqa: BLE001 - a command that breaks is tried again, and reaches a person in the end
            _log.exception("command broke", extra={"saga_id": course.saga.saga_id})
            return Report(outcome=Outcome.UNKNOWN, error=f"{type(error).__name__} in {course.saga.state}")

    async def _until_due(self, course: Course) -> Report | None:
        """Wait until the next try is due; the report that the order was called off meanwhile, if it was."""
        due = course.saga.next_attempt_time
        if due is None:
            return None
        pause_s = max(0.0, (due - self._lease.now()).total_seconds())
        # Spread by a tenth, so that those who failed together do not come back together.
        due += timedelta(seconds=self._clock.uniform(0, 0.1 + pause_s / 10))
        # In short waits, because the database's clock may be set meanwhile.
        while (left_s := (due - self._lease.now()).total_seconds()) > 0:
            report = await self._outside.wait(course, min(left_s, _LONGEST_WAIT_S))
            if report is not None:
                return report
        return None

    async def _await_payment(self, course: Course) -> Report:
        deadline = course.saga.deadline
        left_s = (deadline - self._lease.now()).total_seconds() if deadline else None
        report = await self._outside.wait(course, left_s)
        # What arrived in time counts, even if nobody was there to look until now.
        return report or await self._outside.look(course) or Report(outcome=Outcome.GAVE_UP)

    async def _record_many(self, reported: Sequence[_Reported]) -> list[Course | Failure]:
        # A repetition must come to the same rows, so the time is taken once. No order changes before it last did.
        at: datetime | None = None
        # Most go straight on and stand as they are known here. What people had a hand in is put in the order in which
        # the database saw it.
        straight = all(_goes_straight(item.course) for item in reported)

        async def believing(connection: Connection) -> list[Course | Failure]:
            nonlocal at
            at = max(self._lease.now(), *(item.course.order.update_time for item in reported))
            ways = [self._way(item.course, item.reports, at) for item in reported]
            await saga_store.apply_believed(connection, _moves(ways), self._encode)
            return [way if isinstance(way, Failure) else way.after for way in ways]

        async def looking(connection: Connection) -> list[Course | Failure]:
            nonlocal at
            standing, now = await saga_store.lock_sagas(connection, [item.course.saga.saga_id for item in reported])
            at = at or now
            wished = [_wished(item.course, standing) for item in reported]
            ways = [self._way(course, item.reports, at) for course, item in zip(wished, reported, strict=True)]
            refused = iter(await saga_store.apply_moves(connection, standing, _moves(ways), self._encode))
            return [way if isinstance(way, Failure) else (next(refused) or way.after) for way in ways]

        recorded = await self._database.transact(
            "saga_steps", looking, believing=believing if straight else None, own_task=False
        )
        if any(isinstance(course, Course) and course.order.state in ANNOUNCED for course in recorded):
            self._announce()
        return recorded

    def _way(self, course: Course, reports: Sequence[Report], at: datetime) -> Move | Failure:
        try:
            *between, after = follow(course, reports, at=at, by=ACTOR, patience=self._patience)
        except ValueError as error:
            _log.exception("off the table", extra={"saga_id": course.saga.saga_id})
            return Failure(Kind.INTERNAL, "OFF_THE_TABLE", str(error))
        return Move(course, after, max(report.settled_version for report in reports), between)

    def _tell(self, course: Course) -> None:
        """Let those who wait know, once there is something to answer."""
        order, saga = course.order, course.saga
        pending = order.state is OrderState.PAYMENT_PENDING
        # What was bought leaves the cart before the answer does, unless the cart service cannot be reached now.
        settled = saga.state is not SagaState.SETTLING or saga.attempts > 0
        if pending or (order.state in ANSWERING and settled):
            self._answers.tell(order)
        if order.state in ENDED or saga.is_parked:
            self._ends.tell(order)

    async def _recover(self) -> None:
        """Take over what dead coordinators left, and drive everything of ours that is not driven yet."""

        async def look(connection: Connection) -> tuple[list[str], list[str]]:
            dead = await lease_store.dead_owners(connection, self.owner)
            return dead, await lease_store.owned(connection, self.owner)

        async def body(connection: Connection) -> tuple[int, list[str]]:
            taken = await lease_store.take_over(connection, self.owner, _TAKE_OVER_AT_ONCE)
            return taken, await lease_store.owned(connection, self.owner)

        if not self._lease.is_held():
            return
        # Mostly there is nothing to take over, and no transaction for it.
        dead, mine = await self._database.transact("recover_look", look, read_only=True)
        await self._adopt_idle(mine)
        taken = _TAKE_OVER_AT_ONCE if dead else 0
        while taken == _TAKE_OVER_AT_ONCE and self._lease.is_held():
            taken, mine = await self._database.transact("take_over", body)
            gauges.TAKEN_OVER.inc(taken)
            await self._adopt_idle(mine)

    async def _adopt_idle(self, mine: Sequence[str]) -> None:
        idle = [saga_id for saga_id in mine if saga_id not in self._drivers]
        if idle:
            for course in await self._database.transact(
                "recover_read", lambda connection: saga_store.read_courses(connection, idle), read_only=True
            ):
                # What was written since it was read may have given it away.
                if course.saga.owner == self.owner:
                    self.adopt(course)

    async def _measure(self) -> None:
        await gauges.measure(self._database)

    async def _tidy(self) -> None:
        """Forget what is over: leases of dead processes, and claims of carts that no old reading can still be of."""
        await self._lease.until_held()
        older_than = self._lease.now() - _KEPT

        async def body(connection: Connection) -> None:
            await lease_store.forget_coordinators(connection, older_than=older_than)
            await store.delete_free_claims(connection, older_than=older_than, limit=_CLAIMS_AT_ONCE)

        await self._database.transact("tidy", body)

    async def _repeat(self, work: Callable[[], Awaitable[None]], *, every_s: float) -> None:
        while True:
            try:
                await work()
            except Failure as failure:
                _log.warning("background work failed", extra={"work": work.__name__, "reason": failure.reason})
            except Exception:  # noqa: BLE001 - the loop outlives whatever its work runs into
                _log.exception("background work broke", extra={"work": work.__name__})
            await asyncio.sleep(every_s * self._clock.uniform(0.8, 1.2))


def _goes_straight(course: Course) -> bool:
    """Whether nobody wished anything of it, took it over or had to try anything again."""
    return course.saga.epoch == 1 and course.saga.attempts == 0 and not course.saga.wish


def _moves(ways: Sequence[Move | Failure]) -> list[Move]:
    return [way for way in ways if isinstance(way, Move)]


def _seen(recording: asyncio.Task[None]) -> None:
    """Its driver learns of a failure, if there still is one."""
    if not recording.cancelled():
        recording.exception()


def _wished(course: Course, standing: Mapping[str, Standing]) -> Course:
    """The course with what people wish of it by now."""
    stands = standing.get(course.saga.saga_id)
    if stands is None or stands.wish == course.saga.wish:
        return course
    return Course(course.saga._replace(wish=stands.wish), course.order)
