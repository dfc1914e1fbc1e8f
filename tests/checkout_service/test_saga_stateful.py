"""One saga, two coordinators, and everything that can come between: it rests only where the world agrees with it.

The table and the commands are checkout's own, the rules of stock are inventory's; messages are lost, doubled and late,
coordinators stop between any two steps and go on, people change their minds. Two promises more: money is taken at most
once, and whatever happens, the saga ends when the world works again.
"""

from collections.abc import Coroutine
from dataclasses import replace
from datetime import timedelta
from typing import Any, TypeVar, cast

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from checkout_service.commands import Commands, StaleCoordinatorError
from checkout_service.payments.provider import PaymentStatus
from checkout_service.saga import Course, Outcome, Patience, Report, SagaState, Wish, advance, gives_up
from checkout_service.wishes import _refuse_wish
from mesh.errors import Failure
from tests.checkout_service.build import NOON, course
from tests.checkout_service.saga_world import RESTS, Carts, Fate, Inventory, Post, Provider

T = TypeVar("T")

PATIENCE = Patience(payment=timedelta(minutes=15), attempts=4)
ENOUGH_STEPS = 60

coordinators = st.sampled_from(["coordinator-1", "coordinator-2"])
fates = st.lists(st.sampled_from(Fate), max_size=2)


def at_once(call: Coroutine[Any, Any, T]) -> T:
    """The answer of a call that waits for nothing."""
    try:
        call.send(None)
    except StopIteration as stop:
        return cast("T", stop.value)
    raise AssertionError("it waits")


class World(RuleBasedStateMachine):
    """`stored` is what the database says; `copies` is what each coordinator believes, and `reports` what it found."""

    @initialize(
        on_hand=st.sampled_from([0, 5, 5, 5]),
        first=st.sampled_from([PaymentStatus.AUTHORIZED, PaymentStatus.PENDING, PaymentStatus.DECLINED]),
        captures=st.booleans(),
        refunds=st.booleans(),
    )
    def an_order_is_placed(self, on_hand: int, first: PaymentStatus, *, captures: bool, refunds: bool) -> None:
        self.now = NOON
        self.post = Post()
        self.inventory = Inventory(self.post, now=self.now, on_hand=on_hand)
        self.provider = Provider(self.post, first=first, captures=captures, refunds=refunds)
        self.carts = Carts(self.post)
        self.commands = Commands(
            cast("Any", self.inventory), cast("Any", self.carts), self.provider, payment_timeout=PATIENCE.payment
        )
        self.stored = course(owner="coordinator-1")
        self.copies = {"coordinator-1": self.stored}
        self.reports: dict[str, Report] = {}
        self.webhook: Outcome | None = None

    @rule(who=coordinators, fates=fates)
    def a_command_is_sent(self, who: str, fates: list[Fate]) -> None:
        believed = self.copies.get(who)
        if believed is None or who in self.reports:
            return
        self.post.fates = fates
        try:
            report = self.next_report(believed)
        except StaleCoordinatorError:
            del self.copies[who]
        else:
            if report is not None:
                self.reports[who] = report
        self.post.fates = []

    @rule(who=coordinators, answered=st.booleans())
    def what_it_showed_is_recorded(self, who: str, *, answered: bool) -> None:
        if who not in self.reports:
            return
        report, believed, standing = self.reports.pop(who), self.copies[who], self.stored
        same = (believed.saga.epoch, believed.saga.owner, believed.saga.state) == (
            standing.saga.epoch,
            standing.saga.owner,
            standing.saga.state,
        )
        if not same:
            del self.copies[who]
            return
        believed = replace(believed, saga=replace(believed.saga, wish=standing.saga.wish))
        self.stored = advance(believed, report, at=self.now, by="checkout", patience=PATIENCE)
        if self.stored.saga.rests or self.stored.saga.is_parked:
            del self.copies[who]
        elif answered:
            self.copies[who] = self.stored

    @precondition(lambda self: not self.stored.saga.rests and not self.stored.saga.is_parked)
    @rule(who=coordinators)
    def a_coordinator_takes_over(self, who: str) -> None:
        # Or the same one finds the saga that it lost sight of.
        if self.stored.saga.owner != who:
            self.seize(who, next_attempt_time=None)
        elif who not in self.copies:
            self.copies[who] = self.stored

    @precondition(lambda self: self.stored.saga.is_parked)
    @rule(who=coordinators)
    def the_operator_has_it_tried_again(self, who: str) -> None:
        self.seize(who, next_attempt_time=None, attempts=0, authorizations=0, stuck_reason="")

    @rule(who=coordinators, wish=st.sampled_from([Wish.CANCEL, Wish.ABORT, Wish.REFUND]))
    def somebody_wants_it_undone(self, who: str, wish: Wish) -> None:
        try:
            _refuse_wish(wish, self.stored)
        except Failure:
            return
        if self.stored.saga.wish or self.stored.order.state in ("CANCELLED", "REFUNDED"):
            return
        if self.stored.saga.state is not SagaState.DONE:
            self.stored = replace(self.stored, saga=replace(self.stored.saga, wish=wish))
            return
        self.seize(who, wish=wish)
        report = Report(outcome=Outcome.CALLED_OFF)
        self.stored = advance(self.stored, report, at=self.now, by="somebody", patience=PATIENCE)
        self.copies[who] = self.stored

    @precondition(lambda self: self.provider.state is PaymentStatus.PENDING)
    @rule(willing=st.booleans(), told=st.booleans())
    def the_customer_decides(self, *, willing: bool, told: bool) -> None:
        self.provider.customer_pays(willing=willing)
        if told:
            self.webhook = Outcome.AUTHORIZED if willing else Outcome.DECLINED

    @rule(seconds=st.sampled_from([1, 300, 900, 1300]))
    def time_passes(self, seconds: int) -> None:
        self.now += timedelta(seconds=seconds)
        self.inventory.book.now = self.now

    @rule()
    def the_sweeper_comes(self) -> None:
        for reservation_id in list(self.inventory.book.reservations):
            self.inventory.book.expire(reservation_id)

    @precondition(lambda self: self.post.late)
    @rule(data=st.data())
    def a_message_arrives_late(self, data: st.DataObject) -> None:
        self.post.late.pop(data.draw(st.integers(0, len(self.post.late) - 1)))()

    @invariant()
    def money_is_taken_and_given_back_at_most_once(self) -> None:
        assert self.provider.captured <= 1
        assert self.provider.refunded <= self.provider.captured

    @invariant()
    def no_stock_is_made_up(self) -> None:
        shelf = self.inventory.shelf
        assert 0 <= shelf.held <= shelf.on_hand

    @invariant()
    def it_rests_only_where_the_world_agrees(self) -> None:
        if not self.stored.saga.rests:
            return
        stock, money = RESTS[self.stored.order.state]
        # A hold whose order is over may be left only until somebody looks at the clock.
        assert self.inventory.state in stock, (self.stored.order.state, self.inventory.state)
        assert self.provider.state in money, (self.stored.order.state, self.provider.state)
        assert (self.stored.saga.state is SagaState.DONE) == (self.stored.order.state == "PAID")
        if self.stored.saga.state is SagaState.DONE:
            assert self.carts.settled == {self.stored.order.order_id}

    def teardown(self) -> None:
        """The world works again: the saga ends, and nothing that is still under way changes what it left."""
        if not hasattr(self, "stored"):
            return
        self.provider.refunds = True
        for _ in range(ENOUGH_STEPS):
            if self.stored.saga.rests:
                break
            self.go_on()
        assert self.stored.saga.rests
        self.it_rests_only_where_the_world_agrees()
        for arrives in self.post.late:
            arrives()
        self.money_is_taken_and_given_back_at_most_once()
        self.it_rests_only_where_the_world_agrees()

    def go_on(self) -> None:
        """One step by whoever finds it, an operator included."""
        who = "coordinator-2"
        if self.stored.saga.is_parked:
            self.the_operator_has_it_tried_again(who)
        if self.copies.get(who) != self.stored:
            self.seize(who)
        self.time_passes(300)
        self.a_command_is_sent(who, [])
        self.what_it_showed_is_recorded(who, answered=True)

    def next_report(self, believed: Course) -> Report | None:
        """What the engine would report of this state, if there is anything to report yet."""
        saga = believed.saga
        if saga.state is SagaState.AWAITING_PAYMENT and not saga.wish:
            if self.webhook is not None:
                return Report(outcome=self.webhook)
            overdue = saga.deadline is not None and self.now >= saga.deadline
            return Report(outcome=Outcome.GAVE_UP) if overdue else None
        due = gives_up(saga, at=self.now, patience=PATIENCE)
        return Report(outcome=due) if due is not None else at_once(self.commands.run(believed, at=self.now))

    def seize(self, who: str, **changes: Any) -> None:
        """Put the saga into somebody's hands, one epoch on."""
        saga = replace(self.stored.saga, owner=who, epoch=self.stored.saga.epoch + 1, **changes)
        self.stored = self.copies[who] = replace(self.stored, saga=saga)
        self.reports.pop(who, None)


TestWorld: Any = World.TestCase
TestWorld.settings = settings(max_examples=300, stateful_step_count=40, deadline=None)
