"""The service as a program builds it: without a database at first, and sweeping by itself."""

import asyncio
import logging
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from inventory_service.app import InventoryApp, build, migrate
from inventory_service.config import InventorySettings
from inventory_service.domain.catalog import Draft
from inventory_service.domain.reservation import State
from inventory_service.sweeper import Sweeper
from mesh.clock import SYSTEM_CLOCK, Clock
from mesh.errors import Failure, unavailable
from mesh.program import open_kit
from tests.inventory_service.build import MUG, adjust, commit, release, reserve


@dataclass
class Calendar:
    """A clock that stands until it is moved."""

    time: datetime = datetime(2026, 1, 1, tzinfo=UTC)

    def now(self) -> datetime:
        return self.time


@pytest.fixture
def calendar() -> Calendar:
    return Calendar()


@pytest.fixture
def settings(tmp_path: Path) -> InventorySettings:
    return InventorySettings(data_dir=tmp_path)


@pytest.fixture
async def app(settings: InventorySettings, calendar: Calendar) -> AsyncIterator[InventoryApp]:
    kit = open_kit(settings, "{}", clock=Clock(now=calendar.now))
    app = await build(settings, kit)
    yield app
    await app.stop()
    await kit.channels.close()
    await kit.cache.close()


async def test_it_is_ready_when_the_schema_is_there(app: InventoryApp, settings: InventorySettings) -> None:
    assert not await app.ready()

    await migrate(settings)

    assert await app.ready()


async def test_holds_live_by_the_clock_that_is_given(
    app: InventoryApp, settings: InventorySettings, calendar: Calendar
) -> None:
    await migrate(settings)
    await app.catalog.create_product(Draft(sku="mug", facts=MUG))
    await app.stock.adjust_stock(adjust("mug", 1))
    held = await app.reservations.reserve(reserve("r1", ("mug", 1), ttl_s=60))
    assert held.expire_time == calendar.time + timedelta(seconds=60)

    calendar.time += timedelta(seconds=59, milliseconds=999)
    with pytest.raises(Failure, match="OUT_OF_STOCK"):
        await app.reservations.reserve(reserve("r2", ("mug", 1)))

    calendar.time += timedelta(milliseconds=1)
    await app.reservations.reserve(reserve("r3", ("mug", 1)))
    with pytest.raises(Failure, match="RESERVATION_EXPIRED"):
        await app.reservations.commit_reservation(commit("r1"))
    assert (await app.stock.get_stock("mug")).held == 1


async def test_the_sweeper_goes_on_at_once_while_there_is_a_backlog_and_after_failures(
    caplog: pytest.LogCaptureFixture,
) -> None:
    answers: list[int | Failure] = [250, 250, unavailable("DATABASE_UNAVAILABLE", "Away."), 3]
    done = asyncio.Event()

    async def expire() -> int:
        answer = answers.pop(0)
        if not answers:
            done.set()
        if isinstance(answer, Failure):
            raise answer
        return answer

    sweeper = Sweeper("expired", expire, full=250, every_s=0.01, clock=SYSTEM_CLOCK)
    with caplog.at_level(logging.WARNING):
        sweeper.start()
        async with asyncio.timeout(10):
            await done.wait()
            await sweeper.stop()

    assert answers == []
    assert [record.message for record in caplog.records] == ["sweep failed and goes on trying"]


async def test_a_started_app_sweeps(app: InventoryApp, settings: InventorySettings, calendar: Calendar) -> None:
    await migrate(settings)
    await app.catalog.create_product(Draft(sku="mug", facts=MUG))
    await app.stock.adjust_stock(adjust("mug", 1))
    await app.reservations.reserve(reserve("r1", ("mug", 1), ttl_s=60))
    calendar.time += timedelta(seconds=61)

    await app.start()

    async with asyncio.timeout(10):
        while (await app.stock.get_stock("mug")).held:
            pass


async def test_a_started_app_forgets_what_ended_a_week_ago(
    app: InventoryApp, settings: InventorySettings, calendar: Calendar
) -> None:
    await migrate(settings)
    await app.reservations.release_reservation(release("r1"))
    calendar.time += timedelta(days=7, seconds=1)
    await app.reservations.release_reservation(release("r2"))

    await app.start()

    async with asyncio.timeout(10):
        while await is_known(app, "r1"):
            pass
    assert (await app.reservations.get_reservation("r2")).state is State.RELEASED


async def is_known(app: InventoryApp, reservation_id: str) -> bool:
    try:
        await app.reservations.get_reservation(reservation_id)
    except Failure as failure:
        return failure.reason != "RESERVATION_NOT_FOUND"
    return True
