"""The saga table walked in full: where it can lead, and what may still be owed when it rests."""

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from checkout_service.domain import ANSWERING, EDGES, ENDED, OrderState
from checkout_service.saga import (
    BEFORE_COMMIT,
    CAN_GIVE_UP,
    OPERATOR,
    OWING,
    RESTING,
    TABLE,
    UNDOING,
    Course,
    Outcome,
    Report,
    SagaState,
    Wish,
    advance,
    follow,
    next_step,
)
from tests.checkout_service.build import NOON, PATIENCE, course

CELLS = [(state, outcome) for state, row in TABLE.items() for outcome in row]
# What an answer says for good about the money, and about the stock.
NO_MONEY = {
    (SagaState.VOIDING, Outcome.VOIDED),
    (SagaState.REFUNDING, Outcome.REFUNDED),
    *((state, outcome) for state in SagaState for outcome in (Outcome.DECLINED, Outcome.CANCELLED)),
}
NO_STOCK = {
    (SagaState.RELEASING, Outcome.RELEASED),
    (SagaState.RETURNING, Outcome.RELEASED),
    (SagaState.RESERVING, Outcome.OUT_OF_STOCK),
}
# Where to learn that money was captured is to know it for good.
TAKES = (SagaState.CAPTURING, SagaState.FINDING_CAPTURE, SagaState.VOIDING)
PARKS = [(state, outcome) for state, outcome in CELLS if TABLE[state][outcome].parks]


@dataclass(frozen=True)
class Debts:
    """What may be set aside or held in the world while the saga stands where it stands."""

    money: bool = False
    stock: bool = False
    sold: bool = False
    captured: bool = False

    def after(self, state: SagaState, outcome: Outcome) -> "Debts":
        """What is possible once a command of `state` ended in `outcome`."""
        asked = state in (SagaState.AUTHORIZING, SagaState.FINDING_AUTHORIZATION, SagaState.AWAITING_PAYMENT)
        return Debts(
            money=(self.money or asked) and (state, outcome) not in NO_MONEY,
            stock=(self.stock or state is SagaState.RESERVING) and (state, outcome) not in NO_STOCK,
            sold=(self.sold or outcome is Outcome.COMMITTED) and outcome is not Outcome.RELEASED,
            captured=(self.captured or (state in TAKES and outcome is Outcome.CAPTURED))
            and (state, outcome) not in NO_MONEY,
        )


def walk() -> Iterable[tuple[Course, Debts]]:
    """Every distinct situation that any sequence of outcomes leads to."""
    start = (course(), Debts())
    seen, waiting = {key(*start)}, deque([start])
    while waiting:
        here, debts = waiting.popleft()
        yield here, debts
        for following in steps_from(here, debts):
            if key(*following) not in seen:
                seen.add(key(*following))
                waiting.append(following)


def steps_from(here: Course, debts: Debts) -> Iterable[tuple[Course, Debts]]:
    """Where any outcome leads, and any wish that comes meanwhile."""
    for wish in () if here.saga.wish else (Wish.CANCEL, Wish.ABORT, Wish.REFUND):
        yield Course(here.saga._replace(wish=wish), here.order), debts
    for outcome in outcomes_of(here, debts):
        there = advance(here, Report(outcome=outcome), at=NOON, by="checkout", patience=PATIENCE)
        yield there, debts.after(here.saga.state, outcome)
    for unrecorded in crashes_from(here, debts):
        yield here, unrecorded


def crashes_from(here: Course, debts: Debts, *, is_last: bool = False) -> Iterable[Debts]:
    """What may be owed when the process dies on a way that is recorded at its end: the saga stands where it stood."""
    for outcome in outcomes_of(here, debts):
        owed = debts.after(here.saga.state, outcome)
        yield owed
        there = advance(here, Report(outcome=outcome), at=NOON, by="checkout", patience=PATIENCE)
        step = next_step(here.saga.state, outcome)
        if step.goes_on and not is_last and there.saga.state is step.state:
            yield from crashes_from(there, owed, is_last=step.meanwhile)


def outcomes_of(here: Course, debts: Debts) -> list[Outcome]:
    """What may come next: nothing is called off unwished, nor refused or lost that was had for good."""
    impossible = {
        Outcome.CALLED_OFF: not here.saga.wish,
        Outcome.OUT_OF_STOCK: debts.money or debts.sold,
        Outcome.HOLD_LOST: debts.sold,
    }
    return [outcome for outcome in TABLE[here.saga.state] if not impossible.get(outcome)]


def key(here: Course, debts: Debts) -> tuple[Any, ...]:
    return here.saga.state, here.saga.fails_as, here.saga.wish, here.order.state, here.order.reason, debts


def reachable(state: SagaState) -> set[SagaState]:
    """Where the saga may be after any number of steps from `state`."""
    found: set[SagaState] = set()
    waiting = [state]
    while waiting:
        for step in TABLE[waiting.pop()].values():
            if step.state not in found:
                found.add(step.state)
                waiting.append(step.state)
    return found


@pytest.mark.parametrize("state", [state for state in SagaState if state not in RESTING])
def test_every_state_can_come_to_rest(state: SagaState) -> None:
    assert reachable(state) & RESTING


@pytest.mark.parametrize("state", [state for state in SagaState if state is not SagaState.RESERVING])
def test_every_state_is_reached_from_the_first(state: SagaState) -> None:
    assert state in reachable(SagaState.RESERVING)


def test_a_saga_that_rests_moves_no_more_but_to_undo_a_paid_order() -> None:
    assert TABLE[SagaState.UNDONE] == {}
    assert set(TABLE[SagaState.DONE]) == {Outcome.CALLED_OFF}


@pytest.mark.parametrize(("state", "outcome"), PARKS)
def test_a_saga_that_is_parked_stays_where_it_is_and_belongs_to_the_operator(
    state: SagaState, outcome: Outcome
) -> None:
    here = course(state, fails_as=(OrderState.CANCELLED, "CANCELLED"))

    there = advance(here, Report(outcome=outcome, error="why"), at=NOON, by="checkout", patience=PATIENCE)

    assert (there.saga.state, there.saga.owner, there.order) == (state, OPERATOR, here.order)
    assert (there.saga.stuck_reason, there.saga.last_error) == (TABLE[state][outcome].parks, "why")


@pytest.mark.parametrize("state", [s for s in SagaState if s not in RESTING | CAN_GIVE_UP])
def test_where_nothing_can_be_given_up_a_person_helps_in_the_end(state: SagaState) -> None:
    assert TABLE[state][Outcome.EXHAUSTED].parks


def test_every_cell_of_the_table_is_met_on_some_way() -> None:
    met = {(here.saga.state, outcome) for here, debts in walk() for outcome in outcomes_of(here, debts)}

    assert met == set(CELLS)


def test_no_way_through_the_table_takes_an_order_off_its_legal_edges() -> None:
    # walk() advances by every outcome, and an illegal edge raises.
    assert {here.order.state for here, _ in walk()} <= set(EDGES)


def test_a_saga_rests_only_when_its_order_is_paid_or_ended() -> None:
    for here, _ in walk():
        paid = here.order.state is OrderState.PAID
        given_back = here.saga.state in OWING and here.saga.fails_as == (OrderState.REFUNDED, here.saga.wish)
        assert here.saga.rests <= (here.order.state in ENDED | {OrderState.PAID})
        assert paid == (here.saga.state in (SagaState.SETTLING, SagaState.DONE) or given_back)


def test_an_order_that_was_never_answered_ends_in_an_answer() -> None:
    for here, _ in walk():
        if here.saga.state is SagaState.UNDONE:
            assert here.order.state in ANSWERING | {OrderState.REFUNDED}


@pytest.mark.survives("cancel-at-every-step")
@pytest.mark.parametrize("wish", [wish for wish in Wish if wish])
@pytest.mark.parametrize("state", sorted(BEFORE_COMMIT))
def test_a_wish_before_the_stock_commit_ends_cancelled_whatever_the_command_showed(
    state: SagaState, wish: Wish
) -> None:
    for outcome in TABLE[state]:
        there = advance(course(state, wish=wish), Report(outcome=outcome), at=NOON, by="checkout", patience=PATIENCE)
        assert there.saga.state in UNDOING
        assert there.saga.fails_as in {(OrderState.CANCELLED, wish), TABLE[state][outcome].fails_as}
        assert TABLE[state][outcome].order is None or there.order.state is not TABLE[state][outcome].order


@pytest.mark.survives("cancel-at-every-step")
@pytest.mark.parametrize("state", [SagaState.COMMITTING, SagaState.CAPTURING, SagaState.FINDING_CAPTURE])
def test_a_wish_after_the_stock_commit_waits_until_the_order_is_paid(state: SagaState) -> None:
    for outcome in TABLE[state]:
        wished, not_wished = (
            advance(course(state, wish=wish), Report(outcome=outcome), at=NOON, by="checkout", patience=PATIENCE)
            for wish in (Wish.CANCEL, Wish.NONE)
        )
        assert wished.saga.state is not_wished.saga.state


def test_a_paid_order_that_is_called_off_gives_back_once_its_cart_is_settled() -> None:
    settled = advance(
        course(SagaState.SETTLING, wish=Wish.CANCEL),
        Report(outcome=Outcome.SETTLED),
        at=NOON,
        by="checkout",
        patience=PATIENCE,
    )

    assert (settled.saga.state, settled.order.state) == (SagaState.RETURNING, OrderState.PAID)
    assert settled.saga.fails_as == (OrderState.REFUNDED, "CANCELLED")


def test_an_order_that_ends_unpaid_owes_no_money_and_holds_no_stock() -> None:
    ends = [debts for here, debts in walk() if here.saga.state is SagaState.UNDONE]

    assert ends
    assert not [debts for debts in ends if debts.money or debts.stock or debts.sold or debts.captured]


def test_an_order_is_paid_only_with_its_stock_sold_and_its_money_captured() -> None:
    ends = [debts for here, debts in walk() if here.saga.state in (SagaState.SETTLING, SagaState.DONE)]

    assert ends
    assert all(debts.sold and debts.captured for debts in ends)


@pytest.mark.parametrize("state", [SagaState.CAPTURING, SagaState.FINDING_CAPTURE])
def test_after_the_stock_commit_only_a_refused_capture_turns_back(state: SagaState) -> None:
    back = {outcome for outcome, step in TABLE[state].items() if step.fails_as is not None}

    nothing_to_capture = {Outcome.DECLINED, Outcome.CANCELLED, Outcome.NOT_FOUND, Outcome.REFUNDED}
    assert back <= {Outcome.CAPTURE_REFUSED} | nothing_to_capture
    assert {TABLE[state][outcome].fails_as for outcome in back} == {(OrderState.PAYMENT_FAILED, "CAPTURE_DECLINED")}


@pytest.mark.parametrize("state", [s for s in SagaState if Outcome.UNKNOWN in TABLE[s]])
def test_an_unknown_outcome_is_never_taken_for_a_failure(state: SagaState) -> None:
    step = TABLE[state][Outcome.UNKNOWN]

    assert step.fails_as is None
    assert step.state not in RESTING | {SagaState.VOIDING, SagaState.RELEASING} - {state}


def test_a_saga_gives_up_only_where_nothing_is_final_yet() -> None:
    assert {
        SagaState.RESERVING,
        SagaState.AUTHORIZING,
        SagaState.FINDING_AUTHORIZATION,
        SagaState.AWAITING_PAYMENT,
    } == CAN_GIVE_UP
    for state in CAN_GIVE_UP:
        assert TABLE[state][Outcome.GAVE_UP].state is SagaState.VOIDING


def test_what_is_not_recorded_at_once_is_found_again_by_the_command_that_stands() -> None:
    goes_on = {(state, outcome) for state, outcome in CELLS if TABLE[state][outcome].goes_on}
    meanwhile = {(state, outcome) for state, outcome in CELLS if TABLE[state][outcome].meanwhile}

    # The customer may have to be asked, an answer may have to be told: that is never left to memory.
    assert goes_on - meanwhile == {
        (SagaState.RESERVING, Outcome.RESERVED),
        (SagaState.COMMITTING, Outcome.COMMITTED),
        (SagaState.CAPTURING, Outcome.CAPTURED),
    }
    # Stock may be sold before it is sure that it shall be; money is not taken before that.
    assert meanwhile == {
        (SagaState.AUTHORIZING, Outcome.AUTHORIZED),
        (SagaState.FINDING_AUTHORIZATION, Outcome.AUTHORIZED),
    }
    assert {TABLE[state][outcome].state for state, outcome in meanwhile} == {SagaState.COMMITTING}


def test_a_way_ends_where_a_wish_leads_off_it() -> None:
    reports = [Report(outcome=outcome) for outcome in (Outcome.RESERVED, Outcome.AUTHORIZED)]

    straight, wished = (
        follow(course(wish=wish), reports, at=NOON, by="checkout", patience=PATIENCE)
        for wish in (Wish.NONE, Wish.CANCEL)
    )

    assert [here.saga.state for here in straight] == [SagaState.AUTHORIZING, SagaState.COMMITTING]
    assert [here.order.state for here in straight] == [OrderState.RESERVED, OrderState.AUTHORIZED]
    assert [here.saga.state for here in wished] == [SagaState.VOIDING]


@pytest.mark.parametrize(("state", "outcome"), [(s, o) for s in SagaState for o in Outcome if (s, o) not in CELLS])
def test_an_outcome_that_a_state_cannot_have_is_refused(state: SagaState, outcome: Outcome) -> None:
    with pytest.raises(ValueError, match=f"{state} cannot end in {outcome}"):
        next_step(state, outcome)


@given(st.lists(st.sampled_from(list(Outcome)), max_size=40))
def test_a_random_walk_stays_on_the_table_and_counts_its_events(outcomes: list[Outcome]) -> None:
    here, states = course(), [OrderState.RECEIVED]
    for outcome in outcomes:
        if outcome in TABLE[here.saga.state]:
            here = advance(here, Report(outcome=outcome), at=NOON, by="checkout", patience=PATIENCE)
            states += [here.order.state] if here.order.state is not states[-1] else []

    assert here.saga.state in TABLE
    assert here.order.sequence == len(states)
    assert all(follower in EDGES[state] for state, follower in pairwise(states))


@given(st.data())
def test_a_walk_whose_questions_are_answered_comes_to_rest(data: st.DataObject) -> None:
    here, draw = course(), _answers(data)
    for _ in range(60):
        if here.saga.rests:
            break
        here = advance(here, Report(outcome=draw(here)), at=NOON, by="checkout", patience=PATIENCE)

    # NOT_FOUND sends again, which a coordinator does only so often.
    assert here.saga.rests


def _answers(data: st.DataObject) -> Callable[[Course], Outcome]:
    endless = {Outcome.UNKNOWN, Outcome.NOT_FOUND}

    def draw(here: Course) -> Outcome:
        choices = [
            outcome
            for outcome, step in TABLE[here.saga.state].items()
            if outcome not in endless
            and not step.parks
            and not (here.saga.state is SagaState.FINDING_CAPTURE and step.state is SagaState.CAPTURING)
        ]
        return data.draw(st.sampled_from(choices))

    return draw
