"""The operator's use cases, one method per RPC of SagaService. Each change is kept with who made it and why."""

from collections.abc import Mapping
from dataclasses import dataclass

from checkout_service import log_store, operator_store, wishes
from checkout_service.commands import Commands
from checkout_service.engine import Engine
from checkout_service.log_store import LogEntry, LogKind, TimelineEntry
from checkout_service.payments.provider import PaymentStatus
from checkout_service.saga import OPERATOR, Course, Outcome, Resolution, SagaState, Wish
from checkout_service.wishes import Desk
from mesh.clock import Clock
from mesh.db import Connection
from mesh.errors import Failure, Kind

_S, _R, _P = SagaState, Resolution, PaymentStatus
_ASKING = (_S.AUTHORIZING, _S.FINDING_AUTHORIZATION)
_TAKING = (_S.CAPTURING, _S.FINDING_CAPTURE)
# What a resolution stands for in each state. One that voids or asks once more is safe even if it is not true.
_OUTCOMES: Mapping[tuple[SagaState, Resolution], Outcome] = {
    **{(state, _R.CHARGED): Outcome.AUTHORIZED for state in _ASKING},
    **{(state, _R.NOT_CHARGED): Outcome.GAVE_UP for state in _ASKING},
    **{(state, _R.CHARGED): Outcome.CAPTURED for state in _TAKING},
    **{(state, _R.NOT_CHARGED): Outcome.CAPTURE_REFUSED for state in _TAKING},
    (_S.VOIDING, _R.CHARGED): Outcome.CAPTURED,
    (_S.VOIDING, _R.NOT_CHARGED): Outcome.VOIDED,
    (_S.REFUNDING, _R.NOT_CHARGED): Outcome.REFUNDED,
    (_S.REFUNDING, _R.REPAID): Outcome.REFUNDED,
}
# What the provider may say if the resolution is to be believed. Silence contradicts nobody.
_NOTHING_TAKEN = frozenset({_P.DECLINED, _P.CANCELLED, _P.NOT_FOUND, _P.REFUNDED, _P.UNKNOWN})
_AGREES: Mapping[tuple[SagaState, Resolution], frozenset[PaymentStatus]] = {
    **{(state, _R.CHARGED): frozenset({_P.AUTHORIZED, _P.CAPTURED, _P.UNKNOWN}) for state in _ASKING},
    **{(state, _R.CHARGED): frozenset({_P.CAPTURED, _P.UNKNOWN}) for state in _TAKING},
    (_S.VOIDING, _R.CHARGED): frozenset({_P.CAPTURED, _P.UNKNOWN}),
    (_S.VOIDING, _R.NOT_CHARGED): _NOTHING_TAKEN,
    (_S.REFUNDING, _R.NOT_CHARGED): _NOTHING_TAKEN,
}


@dataclass(frozen=True, slots=True)
class Listing:
    """Which sagas to list; `after` is the id of the last one seen."""

    state: SagaState | None
    only_open: bool
    only_stuck: bool
    after: str | None
    limit: int


class SagaService:
    """Shows sagas, and moves the stuck ones as far as no invariant breaks."""

    def __init__(self, desk: Desk, engine: Engine, commands: Commands, clock: Clock) -> None:
        self._desk = desk
        self._engine = engine
        self._commands = commands
        self._clock = clock

    async def list_sagas(self, listing: Listing) -> list[Course]:
        """Sagas with their orders, oldest first."""

        async def body(connection: Connection) -> list[Course]:
            return await operator_store.list_sagas(
                connection,
                state=listing.state,
                only_open=listing.only_open,
                only_stuck=listing.only_stuck,
                after=listing.after,
                limit=listing.limit,
            )

        return await self._desk.database.transact("list_sagas", body, read_only=True)

    async def get_saga(self, saga_id: str) -> tuple[Course, list[TimelineEntry]]:
        """One saga with its order, and what happened so far. Raises SAGA_NOT_FOUND."""

        async def body(connection: Connection) -> tuple[Course | None, list[TimelineEntry]]:
            course = await operator_store.read_course(connection, saga_id)
            return course, await log_store.read_timeline(connection, saga_id)

        course, timeline = await self._desk.database.transact("get_saga", body, read_only=True)
        if course is None:
            raise Failure(Kind.NOT_FOUND, "SAGA_NOT_FOUND", "There is no such saga.")
        saga = course.saga
        if saga.is_parked and saga.update_time is not None:
            timeline.append(TimelineEntry(saga.update_time, "PARKED", OPERATOR, saga.stuck_reason))
        return course, timeline

    async def retry_saga(self, saga_id: str, *, reason: str, actor: str) -> Course:
        """Try the present step again now, here. Raises SAGA_NOT_FOUND, SAGA_ENDED."""
        await self._engine.until_ready()
        course = await wishes.retry(self._desk, self._entry(LogKind.RETRY, saga_id, reason, actor))
        self._engine.seize(course)
        return course

    async def abort_saga(self, saga_id: str, *, reason: str, actor: str) -> Course:
        """Turn the saga back before its stock is sold. Raises SAGA_NOT_FOUND, SAGA_PAST_COMMIT, ORDER_ENDED."""
        entry = self._entry(LogKind.ABORT, saga_id, reason, actor)
        course = await wishes.undo_order(self._desk, Wish.ABORT, entry)
        self._engine.wake()
        return course

    async def resolve_saga(self, saga_id: str, resolution: Resolution, *, reason: str, actor: str) -> Course:
        """Go on as the operator says the money stands, unless the provider says otherwise.

        Raises SAGA_NOT_FOUND, SAGA_NOT_STUCK, RESOLUTION_DOES_NOT_APPLY, RESOLUTION_CONTRADICTED, SAGA_MOVED.
        """
        await self._engine.until_ready()
        course, _ = await self.get_saga(saga_id)
        outcome = _outcome(course, resolution)
        await self._refuse_contradiction(course, resolution)
        entry = self._entry(LogKind.RESOLVE, saga_id, reason, actor, detail=resolution)
        after = await wishes.resolve(self._desk, course, outcome, entry)
        self._engine.seize(after)
        return after

    async def _refuse_contradiction(self, course: Course, resolution: Resolution) -> None:
        agrees = _AGREES.get((course.saga.state, resolution))
        if agrees is None:
            return
        said = await self._commands.payment_status(course.order.order_id)
        if said not in agrees:
            message = f"The payment provider says {said}."
            raise Failure(Kind.FAILED_PRECONDITION, "RESOLUTION_CONTRADICTED", message)

    def _entry(self, kind: LogKind, saga_id: str, reason: str, actor: str, *, detail: str = "") -> LogEntry:
        return LogEntry(
            saga_id=saga_id, entry_id=self._clock.uuid7(), kind=kind, actor=actor, reason=reason, detail=detail
        )


def _outcome(course: Course, resolution: Resolution) -> Outcome:
    saga = course.saga
    # One that was tried without an answer, or that waits for a person; what goes its way needs no help.
    if not (saga.is_parked or saga.attempts):
        raise Failure(Kind.FAILED_PRECONDITION, "SAGA_NOT_STUCK", "The saga is not stuck.")
    outcome = _OUTCOMES.get((saga.state, resolution))
    if outcome is None:
        message = f"In {saga.state}, {resolution!s} tells nothing that the saga waits for."
        raise Failure(Kind.FAILED_PRECONDITION, "RESOLUTION_DOES_NOT_APPLY", message)
    return outcome
