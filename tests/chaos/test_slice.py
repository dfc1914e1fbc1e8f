"""A slice of the crash matrix; `make chaos` plays all of it."""

from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from mesh.failpoint import Mode
from tests.chaos.matrix import Case, Phase
from tests.chaos.stage import Stage
from tests.chaos.stories import cancelled, refunded
from tests.e2e.running_shop import own_databases

CASES = (
    # The order row stands, nobody was told.
    Case("transact.place_orders", Mode.CRASH_AFTER, Phase.TRAFFIC, at=2),
    # The stock is held, nobody wrote it down.
    Case("call.BatchReserve", Mode.CRASH_AFTER, Phase.TRAFFIC),
    # The money is set aside or taken, nobody wrote it down.
    Case("transact.payment_book", Mode.CRASH_AFTER, Phase.TRAFFIC, at=3),
    # The stock is sold, the order is not paid yet.
    Case("call.BatchCommit", Mode.TIME_OUT, Phase.TRAFFIC),
    # In the middle of undoing.
    Case("call.BatchRelease", Mode.CRASH_BEFORE, Phase.TRAFFIC),
    Case("transact.saga_steps", Mode.TIME_OUT, Phase.TRAFFIC, at=3, besides=(cancelled,)),
    Case("transact.settle reservations", Mode.DUPLICATE, Phase.TRAFFIC, at=2, besides=(refunded,)),
    # The database is away, for as long as one transaction tries.
    Case("transact.saga_steps", Mode.ERROR, Phase.TRAFFIC, at=2),
    # Killed again while it recovers.
    Case("transact.take_over", Mode.CRASH_AFTER, Phase.RECOVERY),
)


@contextmanager
def sqlite() -> Iterator[Mapping[str, str]]:
    yield {}


@pytest.fixture(params=["sqlite", "mariadb"])
async def stage(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Stage]:
    if request.param == "sqlite":
        stage = Stage("sqlite", tmp_path, sqlite)
    else:
        servers = request.getfixturevalue("mariadb_url"), request.getfixturevalue("redis_url")
        stage = Stage("mariadb", tmp_path, lambda: own_databases(*servers))
    yield stage
    await stage.close()


@pytest.mark.timeout(300)
async def test_whatever_strikes_every_order_ends_as_it_should_and_the_books_agree(stage: Stage) -> None:
    results = [await stage.play(case) for case in CASES]

    assert [(str(result.case), problem) for result in results for problem in result.problems] == []
    assert await stage.last_audit() == []
    assert [str(result.case) for result in results if bool(result.deaths) != result.case.mode.startswith("crash")] == []
