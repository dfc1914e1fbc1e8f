"""Whatever is asked in whatever order, while time passes: the service answers as a model without a database does."""

from datetime import timedelta
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import invariant, precondition, rule, run_state_machine_as_test
from sqlalchemy import select

from inventory_service.app import MIGRATIONS
from inventory_service.domain.reservation import Commit, Extend, Failed, Line, Release, Request, Reserve
from inventory_service.domain.stock import Adjust
from inventory_service.store import Connection
from inventory_service.tables import reservation_lines, reservations, stock
from mesh.errors import Failure
from tests.inventory_service.build import Replica, assert_balanced
from tests.inventory_service.conftest import assemble
from tests.inventory_service.stock_model import Entry, StockModel
from tests.support.stateful import ServiceMachine, make_template

SKUS = ("a", "b")
START = 6

ids = st.sampled_from(["r1", "r2", "r3", "r4"])
epochs = st.integers(0, 2)
ttls = st.sampled_from([10, 60])
lines = st.lists(st.builds(Line, st.sampled_from(SKUS), st.integers(1, 4)), min_size=1, max_size=3).map(tuple)
requests = st.one_of(
    st.builds(Reserve, reservation_id=ids, lines=lines, epoch=epochs, ttl_s=ttls),
    st.builds(Commit, reservation_id=ids, actor=st.just("checkout"), epoch=epochs),
    st.builds(Release, reservation_id=ids, actor=st.just("checkout"), epoch=epochs, return_committed=st.booleans()),
    st.builds(Extend, reservation_id=ids, epoch=epochs, ttl_s=ttls),
)


class Stock(ServiceMachine):
    """Requests alone and together, adjustments, sweeps, and a clock that only moves when it is moved."""

    replica: Replica
    model: StockModel

    async def open(self) -> None:
        self.replica = assemble(await self.database())
        self.model = StockModel(now=self.now, on_hand=dict.fromkeys(SKUS, 0))
        for sku in SKUS:
            await self.replica.put(sku)
            assert await self.adjusted(f"first-{sku}", sku, START) == self.model.adjust(f"first-{sku}", sku, START)

    async def close(self) -> None:
        await assert_balanced(self.replica.database)
        await self.replica.app.stop()

    @rule(request=requests)
    def one_request(self, request: Request) -> None:
        assert self.told([request]) == self.model.send([request])

    @rule(batch=st.lists(requests, min_size=2, max_size=5))
    def requests_that_arrive_together(self, batch: list[Request]) -> None:
        assert self.told(batch) == self.model.send(batch)

    @rule(
        key=st.sampled_from(["k1", "k2", "k3"]),
        sku=st.sampled_from(SKUS),
        delta=st.integers(-4, 4).filter(bool),
    )
    def an_operator_counts(self, key: str, sku: str, delta: int) -> None:
        assert self.run(self.adjusted(key, sku, delta)) == self.model.adjust(key, sku, delta)

    @rule(seconds=st.sampled_from([1, 9, 10, 51, 60]))
    def time_passes(self, seconds: int) -> None:
        self.pass_time(timedelta(seconds=seconds))

    @precondition(lambda self: self.model.overdue())
    @rule()
    def the_sweeper_comes(self) -> None:
        assert self.run(self.replica.app.reservations.expire()) == len(self.model.overdue())
        self.model.sweep()

    @precondition(lambda self: self.model.book)
    @rule(days=st.sampled_from([6, 8]))
    def days_pass_and_the_past_is_forgotten(self, days: int) -> None:
        self.pass_time(timedelta(days=days))
        before = len(self.model.book)
        self.model.forget()
        assert self.run(self.replica.app.reservations.forget()) == before - len(self.model.book)

    @invariant()
    def the_database_is_what_the_model_has(self) -> None:
        counters, found = self.run(self.replica.database.transact("look", snapshot, read_only=True))
        assert counters == {sku: (self.model.on_hand[sku], self.model.held(sku)) for sku in SKUS}
        assert found == self.model.book

    def told(self, batch: list[Request]) -> list[str]:
        outcomes = self.run(self.replica.app.reservations.batch(batch))
        return [each.failure.reason if isinstance(each, Failed) else str(each.state) for each in outcomes]

    def pass_time(self, by: timedelta) -> None:
        self.now += by
        self.model.now = self.now

    async def adjusted(self, key: str, sku: str, delta: int) -> str:
        adjustment = Adjust(sku=sku, delta=delta, reason="counted", request_id=key, actor="operator-1")
        try:
            await self.replica.app.stock.adjust_stock(adjustment)
        except Failure as failure:
            return failure.reason
        return "done"


async def snapshot(connection: Connection) -> tuple[dict[str, tuple[int, int]], dict[str, Entry]]:
    """The counters of each SKU, and each reservation as the model keeps it."""
    counters = {row.sku: (row.on_hand, row.held) for row in await connection.execute(select(stock))}
    book = {
        row.reservation_id: Entry(row.state, {}, row.epoch, row.expire_time, row.end_time)
        for row in await connection.execute(select(reservations))
    }
    for line in await connection.execute(select(reservation_lines)):
        book[line.reservation_id].lines[line.sku] = line.quantity
    return counters, book


def test_any_sequence_of_requests_does_what_the_model_does(tmp_path: Path) -> None:
    class StockHere(Stock):
        template = make_template(tmp_path / "template.db", MIGRATIONS)

    run_state_machine_as_test(StockHere, settings=settings(max_examples=40, stateful_step_count=30, deadline=None))
