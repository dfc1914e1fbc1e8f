"""One contract for both caches, and what only Redis can do to us."""

import asyncio
import os
import signal
import time
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from mesh.cache import Cache, MemoryCache, RedisCache, open_cache
from tests.support.servers import Redis


@pytest.fixture(params=["memory", "redis"])
async def cache(request: pytest.FixtureRequest) -> AsyncIterator[Cache]:
    cache = open_cache(request.getfixturevalue("redis_url") if request.param == "redis" else None)
    yield cache
    await cache.close()


@pytest.fixture
def key() -> str:
    """A key that no other test uses: they share one Redis."""
    return uuid.uuid4().hex


async def forgotten(cache: Cache, key: str) -> None:
    async with asyncio.timeout(10):
        while await cache.get_many([key]):  # noqa: ASYNC110 - the TTL passes by itself
            await asyncio.sleep(0.01)


async def test_what_was_set_is_had_and_the_rest_is_a_miss(cache: Cache, key: str) -> None:
    await cache.set_many({f"{key}.a": b"\x00\xff", f"{key}.b": b""}, ttl_s=60)

    found = await cache.get_many([f"{key}.b", f"{key}.a", f"{key}.c"])

    assert found == {f"{key}.a": b"\x00\xff", f"{key}.b": b""}


async def test_a_later_value_replaces_the_earlier(cache: Cache, key: str) -> None:
    await cache.set_many({key: b"old"}, ttl_s=60)
    await cache.set_many({key: b"new"}, ttl_s=60)

    assert await cache.get_many([key]) == {key: b"new"}


async def test_what_was_deleted_is_a_miss_and_deleting_nothing_is_fine(cache: Cache, key: str) -> None:
    await cache.set_many({f"{key}.a": b"1", f"{key}.b": b"2"}, ttl_s=60)

    await cache.delete_many([f"{key}.a", f"{key}.never"])

    assert await cache.get_many([f"{key}.a", f"{key}.b"]) == {f"{key}.b": b"2"}


async def test_values_are_forgotten_after_their_time(cache: Cache, key: str) -> None:
    await cache.set_many({key: b"1"}, ttl_s=0.05)

    await forgotten(cache, key)


async def test_no_keys_are_no_work(cache: Cache) -> None:
    await cache.set_many({}, ttl_s=60)
    await cache.delete_many([])

    assert await cache.get_many([]) == {}


async def test_memory_forgets_the_least_recently_used_first() -> None:
    cache = MemoryCache(max_entries=2)
    await cache.set_many({"a": b"1", "b": b"2"}, ttl_s=60)
    await cache.get_many(["a"])

    await cache.set_many({"c": b"3"}, ttl_s=60)

    assert set(await cache.get_many(["a", "b", "c"])) == {"a", "c"}


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Redis]:
    """A Redis of this test's own, to be taken away."""
    with Redis(tmp_path / "redis") as server:
        yield server


@pytest.fixture
async def away_soon(server: Redis, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[RedisCache]:
    monkeypatch.setattr("mesh.cache._PAUSE_S", 0.2)
    cache = RedisCache(server.url)
    await cache.set_many({"a": b"1", "b": b"2"}, ttl_s=60)
    yield cache
    await cache.close()


@pytest.mark.survives("redis-killed")
async def test_a_killed_redis_is_a_miss_within_bounds_and_used_again_when_it_is_back(
    server: Redis, away_soon: RedisCache
) -> None:
    server.kill()
    started = time.monotonic()

    assert await away_soon.get_many(["a"]) == {}
    await away_soon.set_many({"a": b"1"}, ttl_s=60)
    await away_soon.delete_many(["a"])
    assert time.monotonic() - started < 1

    server.start()
    await had_again(away_soon, "c", b"3")


@pytest.mark.survives("redis-hung")
async def test_a_hung_redis_is_paid_for_once(server: Redis, away_soon: RedisCache) -> None:
    os.kill(server.pid, signal.SIGSTOP)
    try:
        first = await timed(away_soon)
        later = [await timed(away_soon) for _ in range(50)]
    finally:
        os.kill(server.pid, signal.SIGCONT)

    assert first < 1
    # During the pause none of them waits; at most one of them is the next try.
    assert sorted(later)[-2] < 0.05


async def test_answers_that_come_too_late_are_not_taken_for_others(server: Redis, away_soon: RedisCache) -> None:
    os.kill(server.pid, signal.SIGSTOP)
    assert await asyncio.gather(*(away_soon.get_many(["a"]) for _ in range(5))) == [{}] * 5
    os.kill(server.pid, signal.SIGCONT)

    await had_again(away_soon, "c", b"3")

    answers = await asyncio.gather(*(away_soon.get_many(["b"]) for _ in range(10)))
    assert answers == [{"b": b"2"}] * 10


async def timed(cache: Cache) -> float:
    started = time.monotonic()
    assert await cache.get_many(["a"]) == {}
    return time.monotonic() - started


async def had_again(cache: Cache, key: str, value: bytes) -> None:
    async with asyncio.timeout(10):
        while await cache.get_many([key]) != {key: value}:
            await cache.set_many({key: value}, ttl_s=60)
            await asyncio.sleep(0.01)
