"""The relay with a real Redis that goes away, and kill -9 at each of the relay's steps: nothing is lost."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from sqlalchemy.engine import URL

from checkout_service.relay import LEASE, Relay
from mesh.db import Database
from mesh.errors import Failure
from mesh.events import Events, open_events
from tests.checkout_service.shop import until
from tests.checkout_service.telling import first_times, happens, nothing_waits, relay, told, unsent
from tests.support.servers import Redis

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Redis]:
    """A Redis of this module's own: what others publish would be in the same stream."""
    with Redis(tmp_path_factory.mktemp("relay") / "redis") as server:
        yield server


@pytest.fixture
async def stream(server: Redis) -> AsyncIterator[Events]:
    """The stream in Redis, empty."""
    server.restart()
    events = open_events(server.url)
    yield events
    await events.close()


@pytest.mark.survives("redis-killed")
async def test_while_redis_is_away_the_outbox_waits(database: Database, server: Redis, stream: Events) -> None:
    server.kill()
    await happens(database, ("o-1", 2), ("o-2", 2))
    sender = relay(database, stream)
    with pytest.raises(Failure, match="Events can be"):
        await sender.relay_once()
    assert await unsent(database) == [("o-1", 2), ("o-2", 2)]

    server.start()

    assert await sender.relay_once() == 2
    assert await told(stream) == [("o-1", 2), ("o-2", 2)]


async def test_a_relay_that_runs_drains_the_outbox_when_redis_is_back_and_another_may_try_meanwhile(
    database: Database, server: Redis, stream: Events, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("checkout_service.relay._AWAY_S", 0.1)
    os.kill(server.pid, signal.SIGSTOP)
    sender = relay(database, stream)
    sender.start()
    try:
        for sequence in range(1, 30):
            async with asyncio.timeout(2):
                await happens(database, ("o-1", sequence))
            sender.wake()
    finally:
        os.kill(server.pid, signal.SIGCONT)
    await until(lambda: nothing_waits(database))
    await sender.stop()

    assert first_times(await told(stream)) == [("o-1", sequence) for sequence in range(1, 30)]


@pytest.mark.survives("redis-flushed")
async def test_a_flushed_redis_goes_on_with_what_follows(database: Database, server: Redis, stream: Events) -> None:
    sender = relay(database, stream)
    await happens(database, ("o-1", 2))
    await sender.relay_once()
    server.restart()

    await happens(database, ("o-1", 3))
    await until(lambda: sent_again(sender))

    assert await told(stream) == [("o-1", 3)]


async def sent_again(sender: Relay) -> bool:
    try:
        return bool(await sender.relay_once())
    except Failure:
        # The first to use a connection from before the restart.
        return False


class Killable:
    """A relay in a process of its own."""

    def __init__(self, url: URL, redis_url: str) -> None:
        self._urls = (url.render_as_string(hide_password=False), redis_url)

    async def dies_at(self, failpoint: str) -> None:
        """Run it until the failpoint kills it."""
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "tests.checkout_service.relay_process",
            *self._urls,
            cwd=ROOT,
            env={**os.environ, "SHOP_TEST_FAILPOINTS": failpoint},
        )
        try:
            assert await asyncio.wait_for(process.wait(), 60) == -signal.SIGKILL
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()


@pytest.fixture
def killable(database_urls: dict[str, URL], server: Redis) -> Killable:
    return Killable(database_urls["checkout"], server.url)


@pytest.mark.survives("kill-before-publish", "kill-before-mark-sent")
@pytest.mark.parametrize(
    ("failpoint", "times"),
    [
        ("publish.order_events=crash_before", 1),
        ("transact.outbox_sent=crash_before", 2),
        ("transact.outbox_sent=crash_after", 1),
    ],
    ids=["before it is published", "before it is marked", "when it is marked"],
)
async def test_a_killed_relay_is_followed_at_its_leases_end_by_one_that_repeats_what_was_not_marked(
    database: Database, killable: Killable, stream: Events, failpoint: str, times: int
) -> None:
    happened = [("o-1", 2), ("o-1", 3), ("o-2", 2)]
    await happens(database, *happened)
    await killable.dies_at(failpoint)
    successor = relay(database, stream)

    successor.start()

    await until(lambda: nothing_waits(database), within_s=LEASE.total_seconds() + 5)
    await successor.stop()
    assert await told(stream) == happened * times
