"""Rates that replicas keep together: what they learn of each other, and what they do without Redis."""

import asyncio
import json
import os
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import httpx
import pytest
from redis.asyncio import Redis as Client

from gateway.app import ConfigError, Gateway, GatewayConfig
from gateway.errors import HttpError
from gateway.limits import Limiter
from gateway.shared_rates import SharedRates
from tests.gateway.probe import SERVICE, serving
from tests.gateway.test_main import process
from tests.support.servers import Redis

# A burst of 5, each of which takes 100 s to come back.
SLOW = 0.01
ADDRESS = "192.0.2.1"


class Replica:
    """What counts in one gateway."""

    def __init__(self, url: str, rate: float = SLOW) -> None:
        # The test says when it tells.
        self.shared = SharedRates(url, every_s=1000)
        self.limiter = Limiter("address", rate)

    def asks(self, times: int, asker: str = ADDRESS) -> int:
        """How many of so many requests are let through."""
        passed = 0
        for _ in range(times):
            try:
                self.limiter.count(asker)
            except HttpError:
                continue
            self.shared.note(self.limiter, asker)
            passed += 1
        return passed

    def wait_s(self, asker: str = ADDRESS) -> float:
        """For how long a request that is refused would have to wait."""
        with pytest.raises(HttpError) as refused:
            self.limiter.count(asker)
        return float(refused.value.details[-1]["retryDelay"].removesuffix("s"))


@asynccontextmanager
async def replicas(url: str, number: int = 2) -> AsyncIterator[list[Replica]]:
    made = [Replica(url) for _ in range(number)]
    try:
        yield made
    finally:
        for one in made:
            await one.shared.close()


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[Redis]:
    """A Redis that the test may take down."""
    with Redis(tmp_path / "redis") as server:
        yield server


async def test_a_replica_learns_what_others_have_counted(redis: Redis) -> None:
    async with replicas(redis.url, 3) as (one, two, three):
        assert [one.asks(3), two.asks(1)] == [3, 1]
        await one.shared.tell()
        await two.shared.tell()
        assert two.asks(5) == 1
        await two.shared.tell()
        # Who has not heard of an asker lets it burst, and learns.
        assert three.asks(9) == 5
        await three.shared.tell()
        assert three.asks(1) == 0
        assert 500 < three.wait_s() <= 600


async def test_an_asker_alone_is_let_through_as_without_redis(redis: Redis) -> None:
    async with replicas(redis.url) as (one, two):
        for _ in range(5):
            assert one.asks(1) == 1
            await one.shared.tell()
        assert one.asks(1) == 0
        assert 90 < one.wait_s() <= 100
        assert two.asks(1, "192.0.2.2") == 1


async def test_what_is_counted_while_redis_is_asked_is_not_lost(redis: Redis) -> None:
    async with replicas(redis.url) as (one, two):
        assert two.asks(3) == 3
        await two.shared.tell()
        assert one.asks(1) == 1
        telling = asyncio.create_task(one.shared.tell())
        await asyncio.sleep(0)
        assert one.asks(1) == 1
        await telling
        assert one.asks(1) == 0


async def test_redis_keeps_who_is_at_rest_no_longer_than_needed(redis: Redis) -> None:
    async with replicas(redis.url, 1) as (one,), Client.from_url(redis.url) as client:
        one.asks(2)
        await one.shared.tell()
        assert await client.keys() == [b"gateway:rate:address:192.0.2.1"]
        assert 199_000 < await client.pttl("gateway:rate:address:192.0.2.1") <= 200_000


async def test_only_who_has_asked_is_told_of_and_not_more_than_there_is_room_for(redis: Redis) -> None:
    async with replicas(redis.url, 1) as (one,), Client.from_url(redis.url) as client:
        for number in range(3000):
            one.asks(1, f"a{number}")
        await one.shared.tell()
        assert await client.dbsize() == 2000
        before = (await client.info("commandstats"))["cmdstat_evalsha"]["calls"]
        await one.shared.tell()
        assert (await client.info("commandstats"))["cmdstat_evalsha"]["calls"] == before


async def test_without_redis_each_goes_on_says_so_once_and_comes_back(
    redis: Redis, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "gateway")
    async with replicas(redis.url) as (one, two):
        assert one.asks(2) == 2
        await one.shared.tell()
        redis.kill()
        for _ in range(3):
            assert one.asks(1) == 1
            await one.shared.tell()
        # What it had learned holds.
        assert one.asks(1) == 0
        redis.start()
        assert two.asks(4) == 4
        assert one.asks(1, "192.0.2.2") == 1
        await two.shared.tell()
        await one.shared.tell()
        assert two.asks(9, "192.0.2.2") == 5
        await two.shared.tell()
        assert 190 < two.wait_s("192.0.2.2") <= 200
    told = [record.message for record in caplog.records if record.name == "gateway"]
    assert told == ["rates are not shared", "rates are shared again"]


async def test_a_redis_that_has_forgotten_takes_nothing_back(redis: Redis) -> None:
    async with replicas(redis.url) as (one, two), Client.from_url(redis.url) as client:
        assert one.asks(4) == 4
        await one.shared.tell()
        await client.flushall()
        assert one.asks(1) == 1
        await one.shared.tell()
        assert one.asks(1) == 0
        # From now on it knows again, also the script.
        assert two.asks(4) == 4
        await client.script_flush()
        await two.shared.tell()
        assert two.asks(1) == 0


async def test_a_redis_that_hangs_holds_no_request(redis: Redis) -> None:
    async with replicas(redis.url, 1) as (one,):
        one.asks(1)
        await one.shared.tell()
        os.kill(redis.pid, signal.SIGSTOP)
        try:
            one.asks(1)
            telling = asyncio.create_task(one.shared.tell())
            await asyncio.sleep(0)
            started = time.perf_counter()
            assert one.asks(5) == 3
            assert time.perf_counter() - started < 0.1
            await asyncio.wait_for(telling, 5)
        finally:
            os.kill(redis.pid, signal.SIGCONT)


async def test_a_key_that_lives_for_longer_than_it_can_is_left_aside(redis: Redis) -> None:
    async with replicas(redis.url) as (one, two), Client.from_url(redis.url) as client:
        await client.set(f"gateway:rate:address:{ADDRESS}", "", px=99_999_999_999)
        assert one.asks(3) == 3
        await one.shared.tell()
        assert one.asks(1) == 1
        assert two.asks(1) == 1
        await two.shared.tell()
        # Three by the one before it told, and its own.
        assert two.asks(9) == 1


@pytest.mark.parametrize(
    "answer", [b"*1\r\n:99999999999\r\n", b"*1\r\n:-5\r\n", b"*1\r\n$3\r\nabc\r\n", b"+OK\r\n", b"-ERR no\r\n"]
)
async def test_what_redis_says_that_cannot_be_is_left_aside(
    redis: Redis, caplog: pytest.LogCaptureFixture, answer: bytes
) -> None:
    caplog.set_level("INFO", "gateway")
    async with replicas(redis.url) as (one, two):
        redis.kill()
        async with saying(answer, redis.port):
            assert one.asks(1) == 1
            await one.shared.tell()
            assert one.asks(9) == 4
            await one.shared.tell()
            assert 90 < one.wait_s() <= 100
        redis.start()
        # The first to tell finds the connection closed.
        one.asks(1, "192.0.2.3")
        await one.shared.tell()
        assert [one.asks(5, "192.0.2.2"), two.asks(1, "192.0.2.2")] == [5, 1]
        await one.shared.tell()
        await two.shared.tell()
        assert two.asks(1, "192.0.2.2") == 0
    told = [record.message for record in caplog.records if record.name == "gateway"]
    assert told == ["rates are not shared", "rates are shared again"]


@asynccontextmanager
async def saying(answer: bytes, port: int) -> AsyncIterator[None]:
    """What stands in Redis's place, and says this to whatever it is asked."""

    connections: list[asyncio.StreamWriter] = []

    async def say(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.append(writer)
        while await reader.read(1 << 16):
            writer.write(answer)

    async with await asyncio.start_server(say, "127.0.0.1", port):
        yield
        for connection in connections:
            connection.close()


@pytest.mark.parametrize("url", ["http://127.0.0.1", "redis://127.0.0.1:port/0", "nonsense"])
async def test_what_is_no_redis_is_refused_at_start(probe_set: bytes, url: str) -> None:
    config = GatewayConfig(descriptor_set=probe_set, upstreams={SERVICE: "127.0.0.1:1"}, redis_url=url)
    with pytest.raises(ConfigError) as refused:
        Gateway(config)
    assert refused.value.problems == ("redis_url: must be a URL such as redis://127.0.0.1:6379/0",)


# --- real processes

RATE, BURST, FOR_S, EVERY_S = 20, 40, 5.0, 0.02


async def test_a_client_of_two_processes_has_the_rate_once(tmp_path: Path, probe_set: bytes, redis: Redis) -> None:
    async with two_processes(tmp_path, probe_set, redis) as clients:
        begun = time.perf_counter()
        answers = Counter([code async for code in ask_for(FOR_S, clients)])
        took_s = time.perf_counter() - begun
    assert set(answers) == {200, 429}
    # Each process for itself would let through twice as many.
    once = BURST + RATE * took_s
    assert 0.8 * once < answers[200] < 1.2 * once


async def test_processes_answer_while_redis_is_gone(tmp_path: Path, probe_set: bytes, redis: Redis) -> None:
    async with two_processes(tmp_path, probe_set, redis) as clients:
        redis.kill()
        begun = time.perf_counter()
        answers = Counter([code async for code in ask_for(FOR_S, clients)])
        took_s = time.perf_counter() - begun
    assert set(answers) == {200, 429}
    assert answers[200] > 1.6 * (BURST + RATE * took_s)


@asynccontextmanager
async def two_processes(tmp_path: Path, probe_set: bytes, redis: Redis) -> AsyncIterator[list[httpx.AsyncClient]]:
    """Two gateways before one probe, in processes of their own, and a client of each."""
    descriptors, config = tmp_path / "set.binpb", tmp_path / "gateway.json"
    descriptors.write_bytes(probe_set)
    async with AsyncExitStack() as stack:
        probe = await stack.enter_async_context(serving(probe_set))
        limits = {"rate_limits": {"address": RATE}, "redis_url": redis.url}
        config.write_text(json.dumps({"upstreams": {SERVICE: probe.address}, **limits}))
        arguments = ("--descriptor-set", str(descriptors), "--config", str(config))
        yield [await stack.enter_async_context(process(*arguments)) for _ in range(2)]


async def ask_for(seconds: float, clients: list[httpx.AsyncClient]) -> AsyncIterator[int]:
    """The codes of what clients that ask much more often than they may get from all gateways in turn."""
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        for answer in await asyncio.gather(*(client.get("/v1/echo") for client in clients), asyncio.sleep(EVERY_S)):
            if answer is not None:
                yield answer.status_code
