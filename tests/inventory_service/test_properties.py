"""Any sequence of requests keeps the books balanced and answers as a much simpler model does."""

import itertools
from dataclasses import dataclass, field
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from inventory_service.domain.reservation import Commit, Failed, Release, Request, Reserve
from mesh.errors import Failure
from tests.inventory_service.build import Replica, adjust, assert_balanced, commit, release, reserve

SKUS = ("a", "b")
START = 5

reserves = st.builds(
    lambda number, lines: ("reserve", number, lines),
    st.integers(0, 3),
    st.lists(st.tuples(st.sampled_from(SKUS), st.integers(1, 4)), min_size=1, max_size=3),
)
endings = st.one_of(
    st.builds(lambda number: ("commit", number), st.integers(0, 3)),
    st.builds(lambda number, back: ("release", number, back), st.integers(0, 3), st.booleans()),
)
# Requests of one list arrive together; between lists time passes for some, and an operator counts. Reserves do not
# arrive with releases: whether a release or the end of its time ended an overdue hold would be anybody's guess.
steps = st.lists(
    st.one_of(
        st.one_of(st.lists(reserves, min_size=1), st.lists(endings, min_size=1)).map(lambda batch: ("batch", batch)),
        st.integers(0, 3).map(lambda number: ("expire", number)),
        st.tuples(st.sampled_from(SKUS), st.integers(-4, 4).filter(bool)).map(lambda change: ("adjust", *change)),
    ),
    max_size=12,
)


@dataclass
class Model:
    """Stock as a person with a pencil would keep it."""

    on_hand: dict[str, int] = field(default_factory=lambda: dict.fromkeys(SKUS, START))
    # State and lines of each reservation; lines of a tombstone are None.
    book: dict[int, tuple[str, dict[str, int] | None]] = field(default_factory=dict)
    # Holds whose time is over although nobody has looked.
    overdue: set[int] = field(default_factory=set)

    def held(self, sku: str) -> int:
        return sum(lines[sku] for state, lines in self.book.values() if state == "HELD" and lines and sku in lines)

    def give_back_overdue(self, skus: set[str] | None = None) -> None:
        for number in list(self.overdue):
            state, lines = self.book[number]
            if state == "HELD" and (skus is None or skus & (lines or {}).keys()):
                self.book[number] = ("EXPIRED", lines)

    def reserve(self, number: int, asked: list[tuple[str, int]]) -> str:
        lines = {sku: sum(units for name, units in asked if name == sku) for sku in dict(asked)}
        if number in self.book:
            if self.book[number][1] not in (None, lines):
                return "RESERVATION_ID_REUSED"
            self.meet(number)
            state, _ = self.book[number]
            return {
                "REFUSED": "OUT_OF_STOCK",
                "RELEASED": "RESERVATION_RELEASED",
                "EXPIRED": "RESERVATION_EXPIRED",
                "RETURNED": "RESERVATION_RETURNED",
            }.get(state, state)
        short = {sku for sku, units in lines.items() if units > self.on_hand[sku] - self.held(sku)}
        self.give_back_overdue(short)
        refused = any(units > self.on_hand[sku] - self.held(sku) for sku, units in lines.items())
        self.book[number] = ("REFUSED" if refused else "HELD", lines)
        return "OUT_OF_STOCK" if refused else "HELD"

    def commit(self, number: int) -> str:
        if number not in self.book:
            return "RESERVATION_NOT_FOUND"
        self.meet(number)
        state, lines = self.book[number]
        if state not in ("HELD", "COMMITTED"):
            return f"RESERVATION_{state}"
        if state == "HELD":
            for sku, units in (lines or {}).items():
                self.on_hand[sku] -= units
            self.book[number] = ("COMMITTED", lines)
        return "COMMITTED"

    def release(self, number: int, back: bool) -> str:  # noqa: FBT001 - as drawn
        state, lines = self.book.get(number, ("HELD", None))
        if state == "HELD":
            self.book[number] = ("RELEASED", lines)
        if state == "COMMITTED":
            if not back:
                return "RESERVATION_COMMITTED"
            for sku, units in (lines or {}).items():
                self.on_hand[sku] += units
            self.book[number] = ("RETURNED", lines)
        return self.book[number][0]

    def adjust(self, sku: str, delta: int) -> str:
        if self.on_hand[sku] + delta < self.held(sku):
            return "STOCK_HELD"
        self.on_hand[sku] += delta
        return "done"

    def meet(self, number: int) -> None:
        state, lines = self.book[number]
        if number in self.overdue and state == "HELD":
            self.book[number] = ("EXPIRED", lines)


class Subject:
    """The service, spoken to in the model's words. Names are made its own by a prefix."""

    def __init__(self, replica: Replica, prefix: str) -> None:
        self.replica = replica
        self.prefix = prefix

    async def batch(self, batch: list[Any]) -> list[str]:
        outcomes = await self.replica.app.reservations.batch([self._request(*each) for each in batch])
        return [each.failure.reason if isinstance(each, Failed) else str(each.state) for each in outcomes]

    async def adjust(self, sku: str, delta: int) -> str:
        try:
            await self.replica.app.stock.adjust_stock(adjust(self.prefix + sku, delta))
        except Failure as failure:
            return failure.reason
        return "done"

    async def overdue(self, number: int) -> None:
        await self.replica.end_of_time_for(f"{self.prefix}{number}")

    async def counters(self) -> dict[str, tuple[int, int]]:
        return {sku: await self.replica.counters(self.prefix + sku) for sku in SKUS}

    def _request(self, kind: str, number: int, *rest: Any) -> Request:
        name = f"{self.prefix}{number}"
        request: Reserve | Commit | Release
        match kind:
            case "reserve":
                request = reserve(name, *((self.prefix + sku, units) for sku, units in rest[0]))
            case "commit":
                request = commit(name)
            case _:
                request = release(name, return_committed=rest[0])
        return request


def told(model: Model, batch: list[Any]) -> list[str]:
    return [str(getattr(model, kind)(*rest)) for kind, *rest in batch]


async def play(subject: Subject, drawn: list[Any]) -> None:
    """Do the steps to both; every answer and both counters must be the same after each."""
    model = Model()
    for sku in SKUS:
        await subject.replica.put(subject.prefix + sku, START)
    for kind, *rest in drawn:
        match kind:
            case "batch":
                assert await subject.batch(rest[0]) == told(model, rest[0])
            case "adjust":
                assert await subject.adjust(*rest) == model.adjust(*rest)
            case "expire":
                if rest[0] in model.book:
                    model.overdue.add(rest[0])
                await subject.overdue(rest[0])
        assert await subject.counters() == {sku: (model.on_hand[sku], model.held(sku)) for sku in SKUS}
    await subject.replica.app.reservations.expire()
    model.give_back_overdue()
    assert await subject.counters() == {sku: (model.on_hand[sku], model.held(sku)) for sku in SKUS}
    await assert_balanced(subject.replica.database)


PREFIXES = (f"x{number}." for number in itertools.count())


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(drawn=steps)
async def test_any_sequence_of_requests_does_what_the_model_does(replica: Replica, drawn: list[Any]) -> None:
    await play(Subject(replica, next(PREFIXES)), drawn)
