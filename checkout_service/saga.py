"""The saga as a table: a pure function (state, outcome) -> next step. The engine runs it, docs draw it, tests walk it.

A state names the command that is due. An outcome is what running the command showed; UNKNOWN is an outcome like any
other and never taken for a failure. Up to the stock commit everything can be undone (void + release); after it the saga
only goes forward, but for a capture refused for good, and for a wish to undo it that is granted once the order is paid
(return + refund). A saga that only a person can help is parked: it stays where it is and belongs to the operator.
"""

import enum
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import NamedTuple

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
    # The money was taken and goes back: first the stock, then the refund.
    RETURNING = "RETURNING"
    REFUNDING = "REFUNDING"
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
    REFUNDED = "REFUNDED"
    REFUND_REFUSED = "REFUND_REFUSED"
    # The wish to undo the order takes effect.
    CALLED_OFF = "CALLED_OFF"
    # The command may or may not have had its effect.
    UNKNOWN = "UNKNOWN"
    # Asked and tried often or long enough, or the customer's time to pay ran out.
    GAVE_UP = "GAVE_UP"
    # Tried as often as is sensible, in a state that cannot be given up.
    EXHAUSTED = "EXHAUSTED"


class Wish(enum.StrEnum):
    """Who wants the order undone; the value is the reason that the order shows in the end."""

    NONE = ""
    CANCEL = "CANCELLED"
    ABORT = "ABORTED_BY_OPERATOR"
    REFUND = "REFUNDED_BY_OPERATOR"


class Resolution(enum.StrEnum):
    """What an operator knows of the money of a stuck saga."""

    CHARGED = "charged"
    NOT_CHARGED = "not_charged"
    # Some other way than by the provider.
    REPAID = "repaid"


@dataclass(frozen=True, slots=True)
class Step:
    """Where an outcome leads: the saga's next state, the order's if it changes, and how the order ends if it fails.

    A step with `fails_as` fixes the undone end; the undoing that follows reaches it with the state UNDONE. An empty
    reason in it stands for the wish's. With `again` the same thing is tried once more, so its tries count on. A step
    that `parks` hands the saga to the operator, for the reason given. One that `goes_on` is recorded together with the
    step behind it: after a crash in between the same commands are run again, and find what they did. With `meanwhile`
    it is recorded while the command behind it runs, and nothing follows that before it is.
    """

    state: SagaState
    order: OrderState | None = None
    fails_as: tuple[OrderState, str] | None = None
    again: bool = False
    parks: str = ""
    goes_on: bool = False
    meanwhile: bool = False


# Owns the sagas that are parked.
OPERATOR = "operator"

_S, _O = SagaState, Outcome
_OUT_OF_STOCK = (OrderState.REJECTED, "OUT_OF_STOCK")
_EXPIRED = (OrderState.REJECTED, "RESERVATION_EXPIRED")
_DECLINED = (OrderState.PAYMENT_FAILED, "CARD_DECLINED")
_CANCELLED = (OrderState.PAYMENT_FAILED, "PAYMENT_CANCELLED")
_TIMEOUT = (OrderState.PAYMENT_FAILED, "PAYMENT_TIMEOUT")
_CAPTURE_REFUSED = (OrderState.PAYMENT_FAILED, "CAPTURE_DECLINED")

_CALLED_OFF = (OrderState.CANCELLED, "")
_REFUNDED = (OrderState.REFUNDED, "")


def _again(state: SagaState) -> Mapping[Outcome, Step]:
    """Rows of a state in which a command is tried until its outcome is known, or a person has to help."""
    return {_O.UNKNOWN: Step(state, again=True), _O.EXHAUSTED: Step(state, parks="ATTEMPTS_EXHAUSTED")}


_AUTHORIZATION_KNOWN = {
    # Until this is recorded the order may be called off: then what was sold comes back, and nothing is captured.
    _O.AUTHORIZED: Step(_S.COMMITTING, order=OrderState.AUTHORIZED, goes_on=True, meanwhile=True),
    # A provider that took the money at once; capturing it again is harmless.
    _O.CAPTURED: Step(_S.COMMITTING, order=OrderState.AUTHORIZED),
    _O.DECLINED: Step(_S.RELEASING, fails_as=_DECLINED),
    _O.CANCELLED: Step(_S.RELEASING, fails_as=_CANCELLED),
    _O.PENDING: Step(_S.AWAITING_PAYMENT, order=OrderState.PAYMENT_PENDING),
    _O.GAVE_UP: Step(_S.VOIDING, fails_as=_TIMEOUT),
    _O.HOLD_LOST: Step(_S.VOIDING, fails_as=_EXPIRED),
    _O.CALLED_OFF: Step(_S.VOIDING, fails_as=_CALLED_OFF),
}

TABLE: Mapping[SagaState, Mapping[Outcome, Step]] = {
    _S.RESERVING: {
        _O.RESERVED: Step(_S.AUTHORIZING, order=OrderState.RESERVED, goes_on=True),
        # Refused once is refused for ever, so nobody has gone on from here.
        _O.OUT_OF_STOCK: Step(_S.UNDONE, fails_as=_OUT_OF_STOCK),
        _O.UNKNOWN: Step(_S.RESERVING, again=True),
        # Somebody may have gone on and asked for money; the release bars a reserve that is still on its way.
        _O.HOLD_LOST: Step(_S.VOIDING, fails_as=_EXPIRED),
        _O.GAVE_UP: Step(_S.VOIDING, fails_as=_EXPIRED),
        _O.CALLED_OFF: Step(_S.VOIDING, fails_as=_CALLED_OFF),
    },
    _S.AUTHORIZING: {**_AUTHORIZATION_KNOWN, _O.UNKNOWN: Step(_S.FINDING_AUTHORIZATION, again=True)},
    _S.FINDING_AUTHORIZATION: {
        **_AUTHORIZATION_KNOWN,
        # Sent again under the same key, never a new one.
        _O.NOT_FOUND: Step(_S.AUTHORIZING, again=True),
        _O.UNKNOWN: Step(_S.FINDING_AUTHORIZATION, again=True),
    },
    _S.AWAITING_PAYMENT: {
        _O.AUTHORIZED: Step(_S.COMMITTING, order=OrderState.AUTHORIZED),
        _O.DECLINED: Step(_S.VOIDING, fails_as=_DECLINED),
        _O.CANCELLED: Step(_S.VOIDING, fails_as=_CANCELLED),
        _O.GAVE_UP: Step(_S.VOIDING, fails_as=_TIMEOUT),
        _O.CALLED_OFF: Step(_S.VOIDING, fails_as=_CALLED_OFF),
    },
    _S.COMMITTING: {
        _O.COMMITTED: Step(_S.CAPTURING, goes_on=True),
        _O.HOLD_LOST: Step(_S.VOIDING, fails_as=_EXPIRED),
        **_again(_S.COMMITTING),
    },
    _S.CAPTURING: {
        _O.CAPTURED: Step(_S.SETTLING, order=OrderState.PAID, goes_on=True),
        _O.CAPTURE_REFUSED: Step(_S.VOIDING, fails_as=_CAPTURE_REFUSED),
        _O.UNKNOWN: Step(_S.FINDING_CAPTURE, again=True),
        _O.EXHAUSTED: Step(_S.CAPTURING, parks="ATTEMPTS_EXHAUSTED"),
    },
    _S.FINDING_CAPTURE: {
        _O.CAPTURED: Step(_S.SETTLING, order=OrderState.PAID),
        _O.CAPTURE_REFUSED: Step(_S.VOIDING, fails_as=_CAPTURE_REFUSED),
        _O.AUTHORIZED: Step(_S.CAPTURING, again=True),
        _O.PENDING: Step(_S.CAPTURING, again=True),
        **_again(_S.FINDING_CAPTURE),
        # There is nothing left to capture.
        _O.DECLINED: Step(_S.VOIDING, fails_as=_CAPTURE_REFUSED),
        _O.CANCELLED: Step(_S.VOIDING, fails_as=_CAPTURE_REFUSED),
        _O.NOT_FOUND: Step(_S.VOIDING, fails_as=_CAPTURE_REFUSED),
        _O.REFUNDED: Step(_S.VOIDING, fails_as=_CAPTURE_REFUSED),
    },
    _S.SETTLING: {
        _O.SETTLED: Step(_S.DONE),
        **_again(_S.SETTLING),
    },
    # Cancelling a key is final at the provider: an authorization that arrives later is refused there.
    _S.VOIDING: {
        _O.VOIDED: Step(_S.RELEASING),
        # The money was taken all the same, and goes back.
        _O.CAPTURED: Step(_S.RETURNING),
        **_again(_S.VOIDING),
    },
    # Gives a hold back and returns what was sold; bars what never came.
    _S.RELEASING: {
        _O.RELEASED: Step(_S.UNDONE),
        **_again(_S.RELEASING),
    },
    _S.RETURNING: {
        _O.RELEASED: Step(_S.REFUNDING),
        **_again(_S.RETURNING),
    },
    _S.REFUNDING: {
        _O.REFUNDED: Step(_S.UNDONE),
        _O.REFUND_REFUSED: Step(_S.REFUNDING, parks="REFUND_REFUSED"),
        **_again(_S.REFUNDING),
    },
    # Rests, but a paid order may still be called off.
    _S.DONE: {_O.CALLED_OFF: Step(_S.RETURNING, fails_as=_REFUNDED)},
    _S.UNDONE: {},
}

RESTING = frozenset({_S.DONE, _S.UNDONE})
# On the way to an undone end; a wish for the same changes nothing any more.
UNDOING = frozenset({_S.VOIDING, _S.RELEASING, _S.RETURNING, _S.REFUNDING, _S.UNDONE})
# Where giving up is possible: elsewhere a command is tried until its outcome is known.
CAN_GIVE_UP = frozenset(state for state, row in TABLE.items() if _O.GAVE_UP in row)
# Before the stock commit counts: a wish to undo the order leads to CANCELLED.
BEFORE_COMMIT = frozenset(state for state, row in TABLE.items() if _O.CALLED_OFF in row) - RESTING
# The money is ours, and due back.
OWING = frozenset({_S.RETURNING, _S.REFUNDING})


class Saga(NamedTuple):
    """The durable course of one order. `epoch` fences: whoever takes the saga over counts it up.

    A tuple, because it is copied with changes many times on its way.
    """

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
    # Who wants the order undone, and why the saga is parked; empty for nobody and nothing.
    wish: Wish = Wish.NONE
    stuck_reason: str = ""
    # When the provider is to be asked for payments that should not be.
    check_time: datetime | None = None
    # Until when stock is held, as far as we know.
    held_until: datetime | None = None
    payment_token: str = ""
    create_time: datetime | None = None
    update_time: datetime | None = None

    @property
    def rests(self) -> bool:
        """Whether nothing is due any more."""
        return self.state in RESTING

    @property
    def is_parked(self) -> bool:
        """Whether it waits for the operator."""
        return self.owner == OPERATOR


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
    # A version of the cart that what was bought has left.
    settled_version: int = 0
    # Why the outcome is not known.
    error: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How long things may take."""

    # From the order, or from the moment its payment is pending, until it is given up.
    payment: timedelta
    first_retry: timedelta = timedelta(milliseconds=100)
    # Pauses double up to `long_retry`, then grow by a twentieth up to `longest_retry`: what has failed for long is
    # tried less often, and what comes back is noticed after a twentieth of the time it was away.
    long_retry: timedelta = timedelta(seconds=5)
    longest_retry: timedelta = timedelta(minutes=10)
    # How often a command that cannot be given up is tried until the operator is called: about three days.
    attempts: int = 500
    # How often an authorization that got no answer is sent, always under the same key: a provider that is away for
    # three seconds costs nobody an order, and nobody waits longer than PlaceOrder does.
    authorizations: int = 5
    # How long after an unpaid end the provider is asked whether there is a payment nevertheless.
    check_after: timedelta = timedelta(minutes=1)


class Course(NamedTuple):
    """An order and its saga, as they stand together."""

    saga: Saga
    order: Order


def advance(course: Course, report: Report, *, at: datetime, by: str, patience: Patience) -> Course:
    """Where a report takes an order and its saga. Pure. Raises ValueError for an outcome that the table lacks."""
    saga, order = course.saga, course.order
    step = _wished(saga, next_step(saga.state, report.outcome))
    change = order_change(course, step)
    if report.available:
        order = order.with_available(report.available)
    if report.payment_id:
        order = order._replace(payment_id=report.payment_id)
    if change is not None:
        order = order.moved(change[0], reason=change[1], at=at, by=by)
    return Course(_moved(saga, step, report, at=at, patience=patience), order)


def follow(course: Course, reports: Sequence[Report], *, at: datetime, by: str, patience: Patience) -> list[Course]:
    """Where reports, each made on the way that the one before leads, take an order and its saga, step by step.

    It ends early where a wish leads off that way: what was reported behind it is found again by undoing it. Pure.
    Raises ValueError as `advance`.
    """
    path: list[Course] = []
    for report in reports:
        straight = next_step(course.saga.state, report.outcome).state
        course = advance(course, report, at=at, by=by, patience=patience)
        path.append(course)
        if course.saga.state is not straight:
            break
    return path


def gives_up(saga: Saga, *, at: datetime, patience: Patience) -> Outcome | None:
    """Why the state is not to be tried (again): CALLED_OFF on a wish, GAVE_UP or EXHAUSTED; None if it is."""
    if saga.wish and saga.state in BEFORE_COMMIT:
        return Outcome.CALLED_OFF
    if saga.state not in CAN_GIVE_UP:
        return Outcome.EXHAUSTED if saga.attempts >= patience.attempts else None
    if saga.state is SagaState.AUTHORIZING and saga.authorizations >= patience.authorizations:
        return Outcome.GAVE_UP
    return Outcome.GAVE_UP if saga.deadline is not None and at >= saga.deadline else None


def order_change(course: Course, step: Step) -> tuple[OrderState, str] | None:
    """The order's new state and reason that go with the step, if it changes."""
    saga = course.saga
    if step.state is SagaState.UNDONE:
        end = _end(saga, step)
        if end is None:
            raise ValueError(f"{saga.state} is undone without saying how")
        return end
    return (step.order, "") if step.order is not None else None


def _wished(saga: Saga, step: Step) -> Step:
    """The step, or the one that a wish to undo the order puts in its place."""
    if not saga.wish or step.state in UNDOING:
        return step
    if saga.state in BEFORE_COMMIT:
        return TABLE[saga.state][Outcome.CALLED_OFF]
    return TABLE[SagaState.DONE][Outcome.CALLED_OFF] if step.state is SagaState.DONE else step


def _end(saga: Saga, step: Step) -> tuple[OrderState, str] | None:
    """How the order ends undone, as fixed by this step or one before."""
    if step.fails_as is None:
        return saga.fails_as
    state, reason = step.fails_as
    return state, reason or saga.wish


def _moved(saga: Saga, step: Step, report: Report, *, at: datetime, patience: Patience) -> Saga:
    rests = step.state in RESTING
    unknown = report.outcome is Outcome.UNKNOWN and step.again
    attempts = saga.attempts + unknown if step.again or step.parks else 0
    # Where a payment may have been asked for, one that should not be is looked for once more.
    checked = step.state is SagaState.UNDONE and saga.state is not SagaState.RESERVING
    return saga._replace(
        state=step.state,
        owner=OPERATOR if step.parks else "" if rests else saga.owner,
        stuck_reason=step.parks,
        attempts=attempts,
        authorizations=saga.authorizations + (unknown and saga.state is SagaState.AUTHORIZING),
        last_error=report.error or saga.last_error if unknown or step.parks else "",
        deadline=at + patience.payment if step.state is SagaState.AWAITING_PAYMENT else saga.deadline,
        next_attempt_time=at + _pause(attempts, patience) if unknown else None,
        fails_as=_end(saga, step),
        check_time=at + patience.check_after if checked else saga.check_time,
        held_until=at + report.held_for if report.held_for is not None else saga.held_until,
        payment_token="" if rests else saga.payment_token,
        update_time=at,
    )


def _pause(attempts: int, patience: Patience) -> timedelta:
    doublings: int = 2 ** min(attempts - 1, 20)
    doubled = patience.first_retry * doublings
    if doubled <= patience.long_retry:
        return doubled
    # How many tries came before the pauses stopped doubling.
    steep = math.ceil(math.log2(patience.long_retry / patience.first_retry))
    growth: float = 1.05 ** min(attempts - 1 - steep, 400)
    return min(patience.long_retry * growth, patience.longest_retry)
