"""What a step does to an order and its saga beyond the table: tries, pauses, deadlines, what is remembered."""

from datetime import timedelta

import pytest

from checkout_service.domain import OrderState
from checkout_service.saga import Course, Outcome, Report, SagaState, advance, gives_up
from tests.checkout_service.build import NOON, OWNER, PATIENCE, course

LATER = NOON + timedelta(seconds=7)


def after(here: Course, *outcomes: Outcome, **facts: object) -> Course:
    for outcome in outcomes:
        report = Report(outcome=outcome, **facts)  # type: ignore[arg-type]
        here = advance(here, report, at=LATER, by="checkout", patience=PATIENCE)
    return here


def test_unknown_outcomes_are_counted_and_told() -> None:
    saga = after(course(SagaState.COMMITTING), Outcome.UNKNOWN, Outcome.UNKNOWN, error="no answer").saga

    assert (saga.state, saga.attempts, saga.last_error) == (SagaState.COMMITTING, 2, "no answer")


@pytest.mark.parametrize(("tries", "pause_s"), [(1, 0.1), (2, 0.2), (3, 0.4), (6, 3.2), (7, 5), (8, 5.25), (499, 600)])
def test_pauses_double_up_to_five_seconds_then_grow_slowly_up_to_ten_minutes(tries: int, pause_s: float) -> None:
    saga = after(course(SagaState.COMMITTING), *[Outcome.UNKNOWN] * tries).saga

    assert saga.next_attempt_time == LATER + timedelta(seconds=pause_s)


def test_a_known_outcome_starts_counting_anew_and_waits_for_nothing() -> None:
    saga = after(
        course(SagaState.COMMITTING, attempts=5, last_error="no answer", next_attempt_time=NOON), Outcome.COMMITTED
    ).saga

    assert (saga.attempts, saga.last_error, saga.next_attempt_time) == (0, "", None)


def test_sending_an_authorization_again_keeps_the_count_of_tries() -> None:
    saga = after(
        course(SagaState.AUTHORIZING), Outcome.UNKNOWN, Outcome.NOT_FOUND, Outcome.UNKNOWN, Outcome.NOT_FOUND
    ).saga

    assert (saga.state, saga.attempts, saga.next_attempt_time) == (SagaState.AUTHORIZING, 2, None)


def test_an_authorization_is_given_up_after_five_tries() -> None:
    tried = [course(SagaState.AUTHORIZING, authorizations=n).saga for n in range(7)]

    told = [gives_up(saga, at=NOON, patience=PATIENCE) for saga in tried]
    assert told == [None] * 5 + [Outcome.GAVE_UP] * 2


def test_asking_in_vain_for_an_authorization_is_not_sending_it() -> None:
    outage = [Outcome.UNKNOWN] * 20

    saga = after(course(SagaState.AUTHORIZING), *outage, Outcome.NOT_FOUND).saga

    assert (saga.state, saga.attempts, saga.authorizations) == (SagaState.AUTHORIZING, 20, 1)
    assert not gives_up(saga, at=LATER, patience=PATIENCE)


@pytest.mark.parametrize(
    "state", [SagaState.RESERVING, SagaState.AUTHORIZING, SagaState.FINDING_AUTHORIZATION, SagaState.AWAITING_PAYMENT]
)
def test_before_the_stock_commit_a_saga_gives_up_at_its_deadline(state: SagaState) -> None:
    saga = course(state).saga
    deadline = NOON + PATIENCE.payment

    assert not gives_up(saga, at=deadline - timedelta(microseconds=1), patience=PATIENCE)
    assert gives_up(saga, at=deadline, patience=PATIENCE) is Outcome.GAVE_UP


@pytest.mark.parametrize(
    "state",
    [
        SagaState.COMMITTING,
        SagaState.CAPTURING,
        SagaState.FINDING_CAPTURE,
        SagaState.SETTLING,
        SagaState.VOIDING,
        SagaState.RELEASING,
        SagaState.RETURNING,
        SagaState.REFUNDING,
    ],
)
def test_from_the_stock_commit_on_and_in_undoing_a_saga_never_gives_up(state: SagaState) -> None:
    saga = course(state, attempts=PATIENCE.attempts - 1).saga

    assert not gives_up(saga, at=NOON + timedelta(days=365), patience=PATIENCE)


def test_a_pending_payment_gets_its_time_from_that_moment() -> None:
    waiting = after(course(SagaState.AUTHORIZING), Outcome.PENDING, payment_id="pay_1")

    assert waiting.saga.deadline == LATER + PATIENCE.payment
    assert (waiting.order.state, waiting.order.payment_id) == (OrderState.PAYMENT_PENDING, "pay_1")


def test_a_hold_that_was_just_agreed_is_remembered() -> None:
    held = after(course(), Outcome.RESERVED, held_for=timedelta(minutes=20))

    assert held.saga.held_until == LATER + timedelta(minutes=20)
    assert after(held, Outcome.AUTHORIZED).saga.held_until == held.saga.held_until


@pytest.mark.parametrize(
    ("here", "outcome"),
    [(course(SagaState.SETTLING), Outcome.SETTLED), (course(SagaState.RESERVING), Outcome.OUT_OF_STOCK)],
    ids=["done", "undone"],
)
def test_at_rest_nobody_owns_the_saga_and_the_token_is_forgotten(here: Course, outcome: Outcome) -> None:
    assert here.saga.owner == OWNER

    saga = after(here, outcome).saga

    assert (saga.owner, saga.payment_token) == ("", "")


def test_the_unpaid_end_is_fixed_when_undoing_begins() -> None:
    here = after(course(SagaState.AUTHORIZING, attempts=3), Outcome.GAVE_UP)
    assert (here.saga.state, here.order.state) == (SagaState.VOIDING, OrderState.RESERVED)

    end = after(here, Outcome.UNKNOWN, Outcome.VOIDED, Outcome.UNKNOWN, Outcome.RELEASED).order

    assert (end.state, end.reason, end.sequence) == (OrderState.PAYMENT_FAILED, "PAYMENT_TIMEOUT", 2)


def test_a_refusal_for_want_of_stock_keeps_what_it_saw() -> None:
    end = after(course(), Outcome.OUT_OF_STOCK, available={"mug": 1}).order

    assert (end.state, end.reason) == (OrderState.REJECTED, "OUT_OF_STOCK")
    assert [line.available for line in end.lines] == [1]


def test_undoing_that_knows_no_end_is_refused() -> None:
    with pytest.raises(ValueError, match="without saying how"):
        after(course(SagaState.RELEASING), Outcome.RELEASED)


def test_a_step_changes_the_order_once_and_tells_who_and_when() -> None:
    paid = after(course(SagaState.CAPTURING), Outcome.CAPTURED).order

    assert (paid.state, paid.sequence, paid.update_time, paid.updated_by) == (OrderState.PAID, 2, LATER, "checkout")
    assert paid.invoice_number.startswith("INV-2026-")
