"""The saga as a table: a pure function (state, outcome) -> next step. The engine runs it, docs draw it, tests walk it.

A state names the command that is due. An outcome is what running the command showed; UNKNOWN is an outcome like any
other and never taken for a failure. Up to the stock commit everything can be undone (void + release); after it the saga
only goes forward, but for one exception: a capture refused for good.
"""

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from checkout_service.domain import Order, OrderState


class SagaState(enum.StrEnum):
    """What is due next."""

    RESERVING = "RESERVING"
    AUTHORIZING = "AUTHORIZING"
    # The authorization's outcome is not known: ask for it by its key.
    FINDING_AUTHORIZATION = "FINDING_AUTHORIZATION"
    AWAITING_PAYMENT = "AWAITING_PAYMENT"
    COMMITTING = "COMMITTING"
    CAPTURING = "CAPTURING"
    FINDING_CAPTURE = "FINDING_CAPTURE"
    SETTLING = "SETTLING"
    VOIDING = "VOIDING"
    RELEASING = "RELEASING"
    DONE = "DONE"
    UNDONE = "UNDONE"


class Outcome(enum.StrEnum):
    """What running a command showed."""

    RESERVED = "RESERVED"
    OUT_OF_STOCK = "OUT_OF_STOCK"
    HOLD_LOST = "HOLD_LOST"
    AUTHORIZED = "AUTHORIZED"
    DECLINED = "DECLINED"
    PENDING = "PENDING"
    CANCELLED = "CANCELLED"
    # The provider does not know the key: nothing was sent, or it never arrived.
    NOT_FOUND = "NOT_FOUND"
    COMMITTED = "COMMITTED"
    CAPTURED = "CAPTURED"
    CAPTURE_REFUSED = "CAPTURE_REFUSED"
    SETTLED = "SETTLED"
    VOIDED = "VOIDED"
    RELEASED = "RELEASED"
    # The command may or may not have had its effect.
    UNKNOWN = "UNKNOWN"
    # Asked and tried often or long enough, or the customer's time to pay ran out.
    GAVE_UP = "GAVE_UP"


@dataclass(frozen=True, slots=True)
class Step:
    """Where an outcome leads: the saga's next state, the order's if it changes, and how the order ends if it fails.

    A step with `fails_as` fixes the unpaid end; the undoing that follows reaches it with the state UNDONE.
    """

    state: SagaState
    order: OrderState | None = None
    fails_as: tuple[OrderState, str] | None = None


_S, _O = SagaState, Outcome
_OUT_OF_STOCK = (OrderState.REJECTED, "OUT_OF_STOCK")
_EXPIRED = (OrderState.REJECTED, "RESERVATION_EXPIRED")
_DECLINED = (OrderState.PAYMENT_FAILED, "CARD_DECLINED")
_CANCELLED = (OrderState.PAYMENT_FAILED, "PAYMENT_CANCELLED")
_TIMEOUT = (OrderState.PAYMENT_FAILED, "PAYMENT_TIMEOUT")
_CAPTURE_REFUSED = (OrderState.PAYMENT_FAILED, "CAPTURE_DECLINED")

_AUTHORIZATION_KNOWN = {
    _O.AUTHORIZED: Step(_S.COMMITTING, order=OrderState.AUTHORIZED),
    # A provider that took the money at once; capturing it again is harmless.
    _O.CAPTURED: Step(_S.COMMITTING, order=OrderState.AUTHORIZED),
    _O.DECLINED: Step(_S.RELEASING, fails_as=_DECLINED),
    _O.CANCELLED: Step(_S.RELEASING, fails_as=_CANCELLED),
    _O.PENDING: Step(_S.AWAITING_PAYMENT, order=OrderState.PAYMENT_PENDING),
    _O.GAVE_UP: Step(_S.VOIDING, fails_as=_TIMEOUT),
    _O.HOLD_LOST: Step(_S.VOIDING, fails_as=_EXPIRED),
}

TABLE: Mapping[SagaState, Mapping[Outcome, Step]] = {
    _S.RESERVING: {
        _O.RESERVED: Step(_S.AUTHORIZING, order=OrderState.RESERVED),
        _O.OUT_OF_STOCK: Step(_S.UNDONE, fails_as=_OUT_OF_STOCK),
        _O.HOLD_LOST: Step(_S.UNDONE, fails_as=_EXPIRED),
        _O.UNKNOWN: Step(_S.RESERVING),
        # The release bars a reserve that is still on its way.
        _O.GAVE_UP: Step(_S.RELEASING, fails_as=_EXPIRED),
    },
    _S.AUTHORIZING: {**_AUTHORIZATION_KNOWN, _O.UNKNOWN: Step(_S.FINDING_AUTHORIZATION)},
    _S.FINDING_AUTHORIZATION: {
        **_AUTHORIZATION_KNOWN,
        # Sent again under the same key, never a new one.
        _O.NOT_FOUND: Step(_S.AUTHORIZING),
        _O.UNKNOWN: Step(_S.FINDING_AUTHORIZATION),
    },
    _S.AWAITING_PAYMENT: {
        _O.AUTHORIZED: Step(_S.COMMITTING, order=OrderState.AUTHORIZED),
        _O.DECLINED: Step(_S.VOIDING, fails_as=_DECLINED),
        _O.CANCELLED: Step(_S.VOIDING, fails_as=_CANCELLED),
        _O.GAVE_UP: Step(_S.VOIDING, fails_as=_TIMEOUT),
    },
    _S.COMMITTING: {
        _O.COMMITTED: Step(_S.CAPTURING),
        _O.HOLD_LOST: Step(_S.VOIDING, fails_as=_EXPIRED),
        _O.UNKNOWN: Step(_S.COMMITTING),
    },
    _S.CAPTURING: {
        _O.CAPTURED: Step(_S.SETTLING, order=OrderState.PAID),
        _O.CAPTURE_REFUSED: Step(_S.VOIDING, fails_as=_CAPTURE_REFUSED),
        _O.UNKNOWN: Step(_S.FINDING_CAPTURE),
    },
    _S.FINDING_CAPTURE: {
        _O.CAPTURED: Step(_S.SETTLING, order=OrderState.PAID),
        _O.CAPTURE_REFUSED: Step(_S.VOIDING, fails_as=_CAPTURE_REFUSED),
        _O.AUTHORIZED: Step(_S.CAPTURING),
        _O.PENDING: Step(_S.CAPTURING),
        _O.UNKNOWN: Step(_S.FINDING_CAPTURE),
        # There is nothing left to capture.
        _O.DECLINED: Step(_S.VOIDING, fails_as=_CAPTURE_REFUSED),
        _O.CANCELLED: Step(_S.VOIDING, fails_as=_CAPTURE_REFUSED),
        _O.NOT_FOUND: Step(_S.VOIDING, fails_as=_CAPTURE_REFUSED),
    },
    _S.SETTLING: {
        _O.SETTLED: Step(_S.DONE),
        _O.UNKNOWN: Step(_S.SETTLING),
    },
    # Cancelling a key is final at the provider: an authorization that arrives later is refused there.
    _S.VOIDING: {
        _O.VOIDED: Step(_S.RELEASING),
        _O.UNKNOWN: Step(_S.VOIDING),
    },
    # Gives a hold back and returns what was sold; bars what never came.
    _S.RELEASING: {
        _O.RELEASED: Step(_S.UNDONE),
        _O.UNKNOWN: Step(_S.RELEASING),
    },
    _S.DONE: {},
    _S.UNDONE: {},
}

RESTING = frozenset({_S.DONE, _S.UNDONE})
# Where giving up is possible: elsewhere a command is tried until its outcome is known.
CAN_GIVE_UP = frozenset(state for state, row in TABLE.items() if _O.GAVE_UP in row)


@dataclass(frozen=True, slots=True, kw_only=True)
class Saga:
    """The durable course of one order. `epoch` fences: whoever takes the saga over counts it up."""

    saga_id: str
    state: SagaState
    epoch: int
    owner: str
    attempts: int = 0
    # How often an authorization was sent that got no answer; asking for it does not count.
    authorizations: int = 0
    last_error: str = ""
    # When the present state is given up (the customer's time to pay), and when the next try is due: db.now().
    deadline: datetime | None = None
    next_attempt_time: datetime | None = None
    # How the order ends once everything is undone.
    fails_as: tuple[OrderState, str] | None = None
    # Until when stock is held, as far as we know.
    held_until: datetime | None = None
    payment_token: str = ""
    create_time: datetime | None = None
    update_time: datetime | None = None

    @property
    def rests(self) -> bool:
        """Whether nothing is due any more."""
        return self.state in RESTING


def next_step(state: SagaState, outcome: Outcome) -> Step:
    """The step that the table has for this outcome. Raises ValueError where it has none."""
    try:
        return TABLE[state][outcome]
    except KeyError:
        raise ValueError(f"{state} cannot end in {outcome}") from None


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """An outcome with the facts that came with it."""

    outcome: Outcome
    # The provider's id of the payment, when it gave one.
    payment_id: str = ""
    # Per SKU, what a refusal for want of stock saw.
    available: Mapping[str, int] = field(default_factory=dict)
    # How long stock is held from now, when that was just agreed.
    held_for: timedelta | None = None
    # Why the outcome is not known.
    error: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How long things may take."""

    # From the order, or from the moment its payment is pending, until it is given up.
    payment: timedelta
    first_retry: timedelta = timedelta(milliseconds=100)
    longest_retry: timedelta = timedelta(seconds=5)
    # How often an authorization that got no answer is sent, always under the same key.
    authorizations: int = 3


@dataclass(frozen=True, slots=True)
class Course:
    """An order and its saga, as they stand together."""

    saga: Saga
    order: Order


def advance(course: Course, report: Report, *, at: datetime, by: str, patience: Patience) -> Course:
    """Where a report takes an order and its saga. Pure. Raises ValueError for an outcome that the table lacks."""
    saga, order = course.saga, course.order
    step = next_step(saga.state, report.outcome)
    change = order_change(saga, step)
    if report.available:
        order = order.with_available(report.available)
    if report.payment_id:
        order = replace(order, payment_id=report.payment_id)
    if change is not None:
        order = order.moved(change[0], reason=change[1], at=at, by=by)
    return Course(_moved(saga, step, report, at=at, patience=patience), order)


def gives_up(saga: Saga, *, at: datetime, patience: Patience) -> bool:
    """Whether the present state has been tried long or often enough to give up."""
    if saga.state not in CAN_GIVE_UP:
        return False
    if saga.state is SagaState.AUTHORIZING and saga.authorizations >= patience.authorizations:
        return True
    return saga.deadline is not None and at >= saga.deadline


def order_change(saga: Saga, step: Step) -> tuple[OrderState, str] | None:
    """The order's new state and reason that go with the step, if it changes."""
    if step.state is SagaState.UNDONE:
        end = step.fails_as or saga.fails_as
        if end is None:
            raise ValueError(f"{saga.state} ends unpaid without saying how")
        return end
    return (step.order, "") if step.order is not None else None


def _moved(saga: Saga, step: Step, report: Report, *, at: datetime, patience: Patience) -> Saga:
    rests = step.state in RESTING
    unknown = report.outcome is Outcome.UNKNOWN
    # Sending an authorization again does not make the tries before it undone.
    counts_on = unknown or report.outcome is Outcome.NOT_FOUND
    attempts = saga.attempts + unknown if counts_on else 0
    return replace(
        saga,
        state=step.state,
        owner="" if rests else saga.owner,
        attempts=attempts,
        authorizations=saga.authorizations + (unknown and saga.state is SagaState.AUTHORIZING),
        last_error=report.error if unknown else "",
        deadline=at + patience.payment if step.state is SagaState.AWAITING_PAYMENT else saga.deadline,
        next_attempt_time=at + _pause(attempts, patience) if unknown else None,
        fails_as=step.fails_as or saga.fails_as,
        held_until=at + report.held_for if report.held_for is not None else saga.held_until,
        payment_token="" if rests else saga.payment_token,
        update_time=at,
    )


def _pause(attempts: int, patience: Patience) -> timedelta:
    doublings: int = 2 ** min(attempts - 1, 20)
    return min(patience.first_retry * doublings, patience.longest_retry)
