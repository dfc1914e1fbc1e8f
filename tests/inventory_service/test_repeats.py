"""A connection that is lost during COMMIT leaves open whether it went through: the same transaction runs again."""

from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pymysql  # type: ignore[import-untyped]
import pytest
from sqlalchemy.engine import URL
from sqlalchemy.exc import OperationalError
from sqlalchemy.ext.asyncio import AsyncEngine

from inventory_service.domain.catalog import Change, Draft
from inventory_service.domain.reservation import State
from mesh.clock import SYSTEM_CLOCK
from mesh.db import Database, open_database
from tests.inventory_service.build import MUG, Replica, adjust, assert_balanced, commit, release, reserve
from tests.inventory_service.conftest import assemble


class LossyDatabase(Database):
    """Commits what writes, and then loses the connection before the answer, every other time."""

    def __init__(self, engine: AsyncEngine) -> None:
        super().__init__(engine, clock=SYSTEM_CLOCK)
        self.losses = 0
        self._loses_next = True

    async def _once(self, body: Any, *, read_only: bool) -> Any:
        answer = await super()._once(body, read_only=read_only)
        if read_only:
            return answer
        self._loses_next = not self._loses_next
        if not self._loses_next:
            self.losses += 1
            raise OperationalError("COMMIT", {}, pymysql.err.OperationalError(2013, "Lost connection"))
        return answer


@pytest.fixture
async def lossy(database_url: URL) -> AsyncIterator[Replica]:
    database = await open_database(database_url)
    replica = assemble(LossyDatabase(database._engine))
    yield replica
    await replica.app.stop()


@pytest.mark.survives("commit-cut")
async def test_every_write_happens_once(lossy: Replica) -> None:
    catalog, stock, reservations = lossy.app.catalog, lossy.app.stock, lossy.app.reservations

    created = await catalog.create_product(Draft(sku="mug", facts=MUG))
    change = Change(sku="mug", etag=created.etag, facts=replace(MUG, name="New"), fields=("name",))
    assert (await catalog.update_product(change)).facts.name == "New"
    assert (await stock.adjust_stock(adjust("mug", 10))).on_hand == 10
    states = [
        (await reservations.reserve(reserve("r1", ("mug", 4)))).state,
        (await reservations.commit_reservation(commit("r1"))).state,
        (await reservations.release_reservation(release("r1", return_committed=True))).state,
        (await reservations.release_reservation(release("r2"))).state,
        (await reservations.reserve(reserve("r3", ("mug", 3)))).state,
    ]
    await lossy.end_of_time_for("r3")
    await reservations.expire()
    await catalog.delete_product("mug", etag="")

    assert states == [State.HELD, State.COMMITTED, State.RETURNED, State.RELEASED, State.HELD]
    assert await lossy.counters("mug") == (10, 0)
    assert isinstance(lossy.database, LossyDatabase)
    assert lossy.database.losses == 11
    await assert_balanced(lossy.database)
