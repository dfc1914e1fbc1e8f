"""One saga, two coordinators, and everything that can come between: it rests only where the world agrees with it.

The table and the commands are checkout's own, the rules of stock are inventory's; messages are lost, doubled and late,
coordinators stop between any two steps and go on, people change their minds. Two promises more: money is taken at most
once, and whatever happens, the saga ends when the world works again.
"""

from collections.abc import Coroutine, Iterable
from datetime import timedelta
from typing import Any, TypeVar, cast

from hypothesis import given, settings
from hypothesis import strategies as st

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

# One thing after the other, each with a number that decides between several ways. Most of all, steps are made.
EVENTS = [
    *["step"] * 14,
    *["send", "record"] * 3,
    "take over",
    "ask again",
    "cancel",
    "abort",
    "refund",
    *["customer pays", "customer declines"],
    "time passes",
    "much time passes",
    "sweep",
    "late message",
]
scripts = st.lists(
    st.tuples(
        st.sampled_from(EVENTS),
        st.lists(st.sampled_from([*[Fate.ANSWERED] * 6, *Fate]), min_size=2, max_size=2),
        st.integers(0, 3),
    ),
    min_size=10,
    max_size=40,
)
first_answers = st.sampled_from([*[PaymentStatus.AUTHORIZED] * 3, PaymentStatus.PENDING, PaymentStatus.DECLINED])


def at_once(call: Coroutine[Any, Any, T]) -> T:
    """The answer of a call that waits for nothing."""
    try:
        call.send(None)
    except StopIteration as stop:
        return cast("T", stop.value)
    raise AssertionError("it waits")


def where(believed: Course) -> tuple[int, str, str]:
    """What a step compares before it sets."""
    return believed.saga.epoch, believed.saga.owner, believed.saga.state


class World:
    """`stored` is what the database says; `copies` is what each coordinator believes, and `reports` what it found."""

    def __init__(self, *, on_hand: int, first: PaymentStatus, captures: bool, refunds: bool) -> None:
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

    def happen(self, event: str, fates: list[Fate], number: int) -> None:
        """One thing; nothing, where there is nothing for it to happen to."""
        match event:
            case "step" | "send":
                self.step(fates, number, records=event == "step")
            case "record" if self.reports:
                self.record(pick(self.reports, number), answered=number > 0)
            case "take over":
                self.take_over(f"coordinator-{1 + number % 2}")
            case "ask again" if self.stored.saga.is_parked:
                self.ask_again(f"coordinator-{1 + number % 2}")
            case "cancel" | "abort" | "refund":
                self.wish(Wish[event.upper()], f"coordinator-{1 + number % 2}")
            case "customer pays" | "customer declines":
                self.customer_decides(willing=event == "customer pays", told=number > 0)
            case "time passes" | "much time passes":
                self.pass_time(1 if event == "time passes" else 1300)
            case "sweep":
                self.inventory.sweep()
            case "late message" if self.post.late:
                self.post.late.pop(number % len(self.post.late))()

    def step(self, fates: list[Fate], number: int, *, records: bool) -> None:
        """Some coordinator sends its command and, perhaps, records what it showed."""
        idle = self.copies.keys() - self.reports.keys()
        if not idle:
            return
        who = pick(idle, number)
        self.send(who, fates)
        if records and who in self.reports:
            self.record(who, answered=True)

    def send(self, who: str, fates: list[Fate]) -> None:
        """Run the command of the state that a coordinator believes in."""
        self.post.fates = fates.copy()
        try:
            report = self.next_report(self.copies[who])
        except StaleCoordinatorError:
            del self.copies[who]
        else:
            if report is not None:
                self.reports[who] = report
        self.post.fates = []

    def record(self, who: str, *, answered: bool) -> None:
        """Make the step that a report leads to, if the saga still stands where its coordinator believes it does."""
        report, believed, standing = self.reports.pop(who), self.copies.pop(who), self.stored
        if where(believed) != where(standing):
            return
        believed = believed._replace(saga=believed.saga._replace(wish=standing.saga.wish))
        self.stored = advance(believed, report, at=self.now, by="checkout", patience=PATIENCE)
        if not self.stored.saga.rests and not self.stored.saga.is_parked:
            # Who is not told that it was recorded goes on with what it believes.
            self.copies[who] = self.stored if answered else believed

    def take_over(self, who: str) -> None:
        """A coordinator takes the saga from another, or finds the one that it lost sight of."""
        if self.stored.saga.rests or self.stored.saga.is_parked:
            return
        if self.stored.saga.owner != who:
            self.seize(who, next_attempt_time=None)
        elif who not in self.copies:
            self.copies[who] = self.stored

    def ask_again(self, who: str) -> None:
        """The operator has a parked saga tried again."""
        self.seize(who, next_attempt_time=None, attempts=0, authorizations=0, stuck_reason="")

    def wish(self, wish: Wish, who: str) -> None:
        """Somebody wants the order undone, which is taken as far as checkout takes it."""
        try:
            _refuse_wish(wish, self.stored)
        except Failure:
            return
        if self.stored.saga.wish or self.stored.order.state in ("CANCELLED", "REFUNDED"):
            return
        if self.stored.saga.state is not SagaState.DONE:
            self.stored = self.stored._replace(saga=self.stored.saga._replace(wish=wish))
            return
        self.seize(who, wish=wish)
        report = Report(outcome=Outcome.CALLED_OFF)
        self.stored = advance(self.stored, report, at=self.now, by="somebody", patience=PATIENCE)
        self.copies[who] = self.stored

    def customer_decides(self, *, willing: bool, told: bool) -> None:
        """A customer confirms a pending payment, or does not; a webhook may tell."""
        if self.provider.state is PaymentStatus.PENDING:
            self.provider.customer_pays(willing=willing)
            if told:
                self.webhook = Outcome.AUTHORIZED if willing else Outcome.DECLINED

    def pass_time(self, seconds: int) -> None:
        """Later, by every clock."""
        self.now += timedelta(seconds=seconds)
        self.inventory.book.now = self.now

    def check(self) -> None:
        """What must be so at any time, and what must be so while the saga rests."""
        assert self.provider.captured <= 1
        assert self.provider.refunded <= self.provider.captured
        assert 0 <= self.inventory.shelf.held <= self.inventory.shelf.on_hand
        if not self.stored.saga.rests:
            return
        stock, money = RESTS[self.stored.order.state]
        assert self.inventory.state in stock, (self.stored.order.state, self.inventory.state)
        assert self.provider.state in money, (self.stored.order.state, self.provider.state)
        assert (self.stored.saga.state is SagaState.DONE) == (self.stored.order.state == "PAID")
        if self.stored.saga.state is SagaState.DONE:
            assert self.carts.settled == {self.stored.order.order_id}

    def come_to_rest(self) -> None:
        """The world works again: the saga ends, and nothing that is still under way changes what it left."""
        self.provider.refunds = True
        for _ in range(ENOUGH_STEPS):
            if self.stored.saga.rests:
                break
            self.go_on("coordinator-2")
            self.check()
        assert self.stored.saga.rests
        for arrives in self.post.late:
            arrives()
            self.check()

    def go_on(self, who: str) -> None:
        """One step by whoever finds it, an operator included."""
        if self.stored.saga.is_parked:
            self.ask_again(who)
        if self.copies.get(who) != self.stored:
            self.seize(who)
        self.pass_time(300)
        self.send(who, [])
        if who in self.reports:
            self.record(who, answered=True)

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
        saga = self.stored.saga._replace(owner=who, epoch=self.stored.saga.epoch + 1, **changes)
        self.stored = self.copies[who] = self.stored._replace(saga=saga)
        self.reports.pop(who, None)


def pick(names: Iterable[str], number: int) -> str:
    """One of them, the same for the same number."""
    ordered = sorted(names)
    return ordered[number % len(ordered)]


@settings(max_examples=500, deadline=None)
@given(
    script=scripts,
    on_hand=st.sampled_from([5, 5, 5, 0]),
    first=first_answers,
    captures=st.sampled_from([True, True, False]),
    refunds=st.booleans(),
)
def test_whatever_comes_between_it_rests_only_where_the_world_agrees(
    script: list[tuple[str, list[Fate], int]], on_hand: int, first: PaymentStatus, *, captures: bool, refunds: bool
) -> None:
    world = World(on_hand=on_hand, first=first, captures=captures, refunds=refunds)
    for event, fates, number in script:
        world.happen(event, fates, number)
        world.check()

    world.come_to_rest()
