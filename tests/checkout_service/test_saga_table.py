"""The saga table walked in full: where it can lead, and what may still be owed when it rests."""

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from checkout_service.domain import ANSWERING, EDGES, OrderState
from checkout_service.saga import (
    CAN_GIVE_UP,
    RESTING,
    TABLE,
    Course,
    Outcome,
    Report,
    SagaState,
    advance,
    next_step,
)
from tests.checkout_service.build import NOON, PATIENCE, course

CELLS = [(state, outcome) for state, row in TABLE.items() for outcome in row]
# What an answer says for good about the money, and about the stock.
NO_MONEY = {
    (SagaState.VOIDING, Outcome.VOIDED),
    *((state, outcome) for state in SagaState for outcome in (Outcome.DECLINED, Outcome.CANCELLED)),
}
NO_STOCK = {
    (SagaState.RELEASING, Outcome.RELEASED),
    (SagaState.RESERVING, Outcome.OUT_OF_STOCK),
    (SagaState.RESERVING, Outcome.HOLD_LOST),
}


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
            captured=self.captured
            or (state in (SagaState.CAPTURING, SagaState.FINDING_CAPTURE) and outcome is Outcome.CAPTURED),
        )


def walk() -> Iterable[tuple[Course, Debts]]:
    """Every distinct situation that any sequence of outcomes leads to."""
    start = (course(), Debts())
    seen, waiting = {key(*start)}, deque([start])
    while waiting:
        here, debts = waiting.popleft()
        yield here, debts
        for outcome in TABLE[here.saga.state]:
            there = advance(here, Report(outcome=outcome), at=NOON, by="checkout", patience=PATIENCE)
            following = (there, debts.after(here.saga.state, outcome))
            if key(*following) not in seen:
                seen.add(key(*following))
                waiting.append(following)


def key(here: Course, debts: Debts) -> tuple[Any, ...]:
    return here.saga.state, here.saga.fails_as, here.order.state, here.order.reason, debts


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


@pytest.mark.parametrize("state", sorted(RESTING))
def test_a_saga_that_rests_moves_no_more(state: SagaState) -> None:
    assert TABLE[state] == {}


def test_every_cell_of_the_table_is_met_on_some_way() -> None:
    met = {(here.saga.state, outcome) for here, _ in walk() for outcome in TABLE[here.saga.state]}

    assert met == set(CELLS)


def test_no_way_through_the_table_takes_an_order_off_its_legal_edges() -> None:
    # walk() advances by every outcome, and an illegal edge raises.
    assert {here.order.state for here, _ in walk()} <= set(EDGES)


def test_a_saga_rests_exactly_when_its_order_has_an_answer() -> None:
    for here, _ in walk():
        paid = here.order.state is OrderState.PAID
        assert here.saga.rests <= (here.order.state in ANSWERING)
        assert paid == (here.saga.state in (SagaState.SETTLING, SagaState.DONE))


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

    assert back <= {Outcome.CAPTURE_REFUSED, Outcome.DECLINED, Outcome.CANCELLED, Outcome.NOT_FOUND}
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
    assert TABLE[SagaState.RESERVING][Outcome.GAVE_UP].state is SagaState.RELEASING
    for state in CAN_GIVE_UP - {SagaState.RESERVING}:
        assert TABLE[state][Outcome.GAVE_UP].state is SagaState.VOIDING


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
            and not (here.saga.state is SagaState.FINDING_CAPTURE and step.state is SagaState.CAPTURING)
        ]
        return data.draw(st.sampled_from(choices))

    return draw
