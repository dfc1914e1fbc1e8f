"""One contract for both kinds of streams, and what only Redis can do to us."""

import asyncio
import os
import signal
import time
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import redis.asyncio

from mesh.errors import Failure, Kind
from mesh.events import START, TIMEOUT_S, Event, Events, MemoryEvents, RedisEvents, open_events
from mesh.failpoint import Failpoints
from tests.support.servers import Redis


@pytest.fixture(params=["memory", "redis"])
def url(request: pytest.FixtureRequest) -> str | None:
    return str(request.getfixturevalue("redis_url")) if request.param == "redis" else None


@pytest.fixture
async def events(url: str | None) -> AsyncIterator[Events]:
    events = open_events(url)
    yield events
    await events.close()


@pytest.fixture
def stream() -> str:
    """A stream that no other test uses: they share one Redis."""
    return uuid.uuid4().hex


def numbered(first: int, last: int) -> list[Event]:
    return [Event(f"e-{number}", bytes([number % 256])) for number in range(first, last + 1)]


async def ids(events: Events, stream: str) -> list[str]:
    return [entry.event.event_id for entry in await events.read(stream, limit=1000)]


async def test_what_was_published_is_read_in_its_order(events: Events, stream: str) -> None:
    await events.publish(stream, [Event("b", b"\x00\xff"), Event("a", b"")])
    await events.publish(stream, [Event("c", b"3")])

    found = await events.read(stream, limit=10)

    assert [entry.event for entry in found] == [Event("b", b"\x00\xff"), Event("a", b""), Event("c", b"3")]


async def test_reading_goes_on_behind_a_position(events: Events, stream: str) -> None:
    await events.publish(stream, numbered(1, 5))

    first = await events.read(stream, after=START, limit=2)
    rest = await events.read(stream, after=first[-1].position, limit=10)

    assert [entry.event for entry in first + rest] == numbered(1, 5)
    assert await events.read(stream, after=rest[-1].position, limit=10) == []


async def test_a_reader_at_the_end_finds_what_comes_later(events: Events, stream: str) -> None:
    await events.publish(stream, numbered(1, 1))
    [seen] = await events.read(stream, limit=10)
    await events.publish(stream, numbered(2, 2))

    assert [entry.event for entry in await events.read(stream, after=seen.position, limit=10)] == numbered(2, 2)


async def test_publishing_again_appends_again_under_the_same_id(events: Events, stream: str) -> None:
    await events.publish(stream, numbered(1, 2))
    await events.publish(stream, numbered(1, 2))

    assert await ids(events, stream) == ["e-1", "e-2", "e-1", "e-2"]


async def test_streams_do_not_mix_and_an_unknown_one_is_empty(events: Events, stream: str) -> None:
    await events.publish(stream, numbered(1, 1))
    await events.publish(f"{stream}.other", numbered(2, 2))
    await events.publish(f"{stream}.empty", [])

    assert await ids(events, stream) == ["e-1"]
    assert await events.read(f"{stream}.empty", limit=10) == []
    assert await events.read(f"{stream}.unknown", limit=10) == []


async def test_memory_keeps_the_latest_entries_at_their_positions() -> None:
    events = MemoryEvents(max_entries=3)
    await events.publish("s", numbered(1, 2))
    [_, second] = await events.read("s", limit=10)
    await events.publish("s", numbered(3, 7))

    found = await events.read("s", limit=10)

    assert [entry.event for entry in found] == numbered(5, 7)
    assert await events.read("s", after=second.position, limit=10) == found
    assert await events.read("s", after=found[1].position, limit=10) == found[2:]


async def test_redis_keeps_about_as_many_entries_as_it_may(redis_url: str, stream: str) -> None:
    events = RedisEvents(redis_url, max_entries=100)
    for first in range(1, 1001, 100):
        await events.publish(stream, numbered(first, first + 99))

    kept = await ids(events, stream)

    # Redis lets go of whole nodes, of 100 entries unless it is told otherwise.
    assert 100 <= len(kept) <= 300
    assert kept[-1] == "e-1000"
    await events.close()


@pytest.mark.parametrize(("mode", "stands"), [("error", 0), ("time_out", 2)])
async def test_a_failpoint_fails_as_the_stream_does(url: str | None, stream: str, mode: str, stands: int) -> None:
    events = open_events(url, failpoints=Failpoints(f"publish.{stream}={mode}"))

    with pytest.raises(Failure, match="Events can be"):
        await events.publish(stream, numbered(1, 2))

    assert len(await events.read(stream, limit=10)) == stands
    await events.close()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Redis]:
    """A Redis of this test's own, to be taken away."""
    with Redis(tmp_path / "redis") as server:
        yield server


@pytest.fixture
async def away_soon(server: Redis) -> AsyncIterator[RedisEvents]:
    events = RedisEvents(server.url)
    await events.publish("s", numbered(1, 2))
    yield events
    await events.close()


async def refused(events: Events, first: int, last: int) -> float:
    """Publish in vain, and tell how long that took."""
    started = time.monotonic()
    with pytest.raises(Failure) as caught:
        await events.publish("s", numbered(first, last))
    assert (caught.value.kind, caught.value.reason) == (Kind.UNAVAILABLE, "EVENTS_UNAVAILABLE")
    return time.monotonic() - started


async def test_a_killed_redis_is_unavailable_and_used_again_when_it_is_back(
    server: Redis, away_soon: RedisEvents
) -> None:
    server.kill()
    await refused(away_soon, 3, 4)
    with pytest.raises(Failure, match="Events can be"):
        await away_soon.read("s", limit=10)

    server.start()
    await away_soon.publish("s", numbered(3, 4))

    # It kept nothing on disk: a stream may be lost.
    assert await ids(away_soon, "s") == ["e-3", "e-4"]


async def test_a_redis_that_restarted_unnoticed_is_used_at_the_second_try_at_the_latest(
    server: Redis, away_soon: RedisEvents
) -> None:
    server.restart()
    try:
        await away_soon.publish("s", numbered(3, 4))
    except Failure:
        await away_soon.publish("s", numbered(3, 4))

    assert await ids(away_soon, "s") == ["e-3", "e-4"]


async def test_a_hung_redis_is_given_up_in_time_and_never_splits_or_mixes_what_it_was_sent(
    server: Redis, away_soon: RedisEvents
) -> None:
    os.kill(server.pid, signal.SIGSTOP)
    try:
        took_s = [await refused(away_soon, 3, 400) for _ in range(2)]
    finally:
        os.kill(server.pid, signal.SIGCONT)
    await away_soon.publish("s", numbered(3, 400))

    assert max(took_s) < TIMEOUT_S + 0.5
    published = await all_ids(away_soon)
    batch = [event.event_id for event in numbered(3, 400)]
    times, rest = divmod(len(published) - 2, len(batch))
    # What was given up may have arrived, or not.
    assert (times in (1, 2, 3), rest) == (True, 0)
    assert published == ["e-1", "e-2", *batch * times]


async def test_a_cancelled_publication_leaves_a_stream_that_can_be_used(server: Redis, away_soon: RedisEvents) -> None:
    os.kill(server.pid, signal.SIGSTOP)
    try:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await away_soon.publish("s", numbered(3, 4))
    finally:
        os.kill(server.pid, signal.SIGCONT)

    await away_soon.publish("s", numbered(5, 5))

    assert (await ids(away_soon, "s"))[-1] == "e-5"


async def test_a_redis_out_of_memory_takes_all_or_none(server: Redis, away_soon: RedisEvents) -> None:
    async with redis.asyncio.Redis.from_url(server.url) as admin:
        await admin.config_set("maxmemory", 1)
        await refused(away_soon, 3, 4)
        await admin.config_set("maxmemory", 0)

    await away_soon.publish("s", numbered(3, 4))

    assert await ids(away_soon, "s") == ["e-1", "e-2", "e-3", "e-4"]


async def all_ids(events: Events) -> list[str]:
    found: list[str] = []
    after = START
    while page := await events.read("s", after=after, limit=1000):
        found += [entry.event.event_id for entry in page]
        after = page[-1].position
    return found
