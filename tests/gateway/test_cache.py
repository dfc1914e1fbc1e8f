"""Answers that are kept: for whom, for how long, how many, and one call for all who wait."""

import asyncio
from collections.abc import AsyncIterator

import httpx
import pytest
import pytest_asyncio

from gateway.app import ConfigError, Gateway, GatewayConfig
from gateway.cache import ResponseCache
from tests.gateway.probe import SERVICE, ProbeServer, shim

pytestmark = pytest.mark.asyncio(loop_scope="module")

READ, HANG = f"{SERVICE}.ReadStored", f"{SERVICE}.Hang"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def caching(probe_set: bytes, probe: ProbeServer) -> AsyncIterator[httpx.AsyncClient]:
    """A client of a shim that keeps answers of two methods."""
    async with shim(probe_set, probe.address, cache_s={READ: 60, HANG: 60}, forward_headers=("X-Shop",)) as http:
        yield http


async def test_an_answer_is_given_again(caching: httpx.AsyncClient, probe: ProbeServer) -> None:
    before = probe.calls
    first = await caching.get("/v1/stored/kept?count=1")
    again = await caching.get("/v1/stored/kept?count=1")
    assert (first.json(), probe.calls) == (again.json(), before + 1)
    assert (again.headers["age"], again.headers["etag"]) == ("0", '"e1"')
    assert again.headers["cache-control"] == "public, max-age=60"
    assert again.headers["vary"] == "accept, accept-encoding, accept-language, authorization, origin, x-shop"
    known = await caching.get("/v1/stored/kept?count=1", headers={"if-none-match": '"e1"'})
    assert (known.status_code, probe.calls) == (304, before + 1)


@pytest.mark.parametrize(
    ("target", "headers"),
    [
        ("/v1/stored/kept?count=2", {}),
        ("/v1/stored/other?count=1", {}),
        ("/v1/stored/kept?count=1", {"accept-language": "de"}),
        ("/v1/stored/kept?count=1", {"x-shop": "2"}),
        ("/v1/stored/kept?count=1", {"accept": "application/x-protobuf"}),
        ("/v1/stored/kept?count=1", {"authorization": "Bearer x"}),
        ("/v1/stored/kept?count=1", {"authorization": ""}),
        ("/v1/stored/kept?count=1", {"cache-control": "max-stale=5, No-Cache"}),
        ("/v1/stored/kept?count=1", {"cache-control": "no-store"}),
        ("/v1/stored/kept?count=1", {"grpc-timeout": "5S"}),
    ],
)
async def test_what_asks_for_something_else_is_asked_upstream(
    caching: httpx.AsyncClient, probe: ProbeServer, target: str, headers: dict[str, str]
) -> None:
    await caching.get("/v1/stored/kept?count=1")
    before = probe.calls
    assert (await caching.get(target, headers=headers)).status_code == 200
    assert probe.calls == before + 1


async def test_a_method_says_how_it_may_be_kept_on_the_way(probe_set: bytes, probe: ProbeServer) -> None:
    said = {READ: 'public, max-age=5, stale-while-revalidate=60, private="x-a"', f"{SERVICE}.Echo": "no-store"}
    async with shim(probe_set, probe.address, cache_s={READ: 60}, cache_control=said) as http:
        answers = [await http.get("/v1/stored/said") for _ in range(2)]
        assert [one.headers["cache-control"] for one in answers] == [said[READ]] * 2
        assert "authorization" in answers[1].headers["vary"]
        assert answers[1].headers["age"] == "0"
        mine = await http.get("/v1/stored/said", headers={"authorization": "Bearer x"})
        assert (mine.headers["cache-control"], "age" in mine.headers) == (said[READ], False)
        assert (await http.post("/v1/echo", json={})).headers["cache-control"] == "no-store"
        assert "cache-control" not in (await http.post("/v1/echo", json={"no": 1})).headers
        assert "cache-control" not in (await http.get("/v1/arrival")).headers


async def test_what_somebody_with_credentials_got_is_not_given_to_others(
    caching: httpx.AsyncClient, probe: ProbeServer
) -> None:
    mine = await caching.get("/v1/stored/mine", headers={"authorization": "Bearer x"})
    before = probe.calls
    await caching.get("/v1/stored/mine")
    assert ("age" in mine.headers, probe.calls) == (False, before + 1)


async def test_tracing_makes_no_difference(caching: httpx.AsyncClient, probe: ProbeServer) -> None:
    await caching.get("/v1/stored/traced")
    before = probe.calls
    await caching.get(
        "/v1/stored/traced", headers={"traceparent": f"00-{'1' * 32}-{'2' * 16}-01", "x-request-id": "r9"}
    )
    assert probe.calls == before


async def test_refusals_are_not_kept(caching: httpx.AsyncClient, probe: ProbeServer) -> None:
    before = probe.calls
    for _ in range(2):
        assert (await caching.get("/v1/stored/kept?no_such=1")).status_code == 400
    assert probe.calls == before


async def test_who_asks_meanwhile_waits_for_the_same_call_even_if_the_first_goes(
    caching: httpx.AsyncClient, probe: ProbeServer
) -> None:
    before = probe.calls
    first = asyncio.create_task(caching.get("/v1/hang?text=a"))
    await probe.hanging.wait()
    others = [asyncio.create_task(caching.get("/v1/hang?text=a")) for _ in range(10)]
    first.cancel()
    await asyncio.wait([first])
    probe.release.set()
    answers = await asyncio.gather(*others)
    assert [answer.json()["text"] for answer in answers] == ["a"] * 10
    assert (probe.calls, probe.cancelled.is_set()) == (before + 1, False)


async def test_what_was_used_longest_ago_goes_first() -> None:
    cache = ResponseCache(most_bytes=3 * 1513)

    async def fill(key: str) -> None:
        async def make() -> tuple[bytes, bytes, str]:
            return b"", b"x" * 1000, ""

        await cache.ask(key, make)

    for key in "abc":
        await fill(key)
    cache.get("a", ttl_s=60)
    await fill("d")
    await fill("d")
    assert [key for key in "abcd" if cache.get(key, ttl_s=60)] == ["a", "c", "d"]
    await cache.close()


async def test_what_was_asked_takes_room_too() -> None:
    cache = ResponseCache(most_bytes=10_000)

    async def make() -> tuple[bytes, bytes, str]:
        return b"", b"", ""

    for number in range(20):
        await cache.ask((number, b"x" * 4000), make)
    assert [number for number in range(20) if cache.get((number, b"x" * 4000), ttl_s=60)] == [18, 19]
    await cache.close()


async def test_what_is_older_than_its_time_is_not_given() -> None:
    now = 100.0
    cache = ResponseCache(clock=lambda: now)

    async def make() -> tuple[bytes, bytes, str]:
        nonlocal now
        # It is as old as the question, not as the answer.
        now += 4
        return b"", b"", ""

    await cache.ask("a", make)
    assert cache.get("a", ttl_s=5) is not None
    now += 1
    assert cache.get("a", ttl_s=5) is None
    await cache.close()


async def test_a_failure_is_told_to_all_who_wait_and_asked_about_again() -> None:
    cache, calls = ResponseCache(), 0

    async def make() -> tuple[bytes, bytes, str]:
        nonlocal calls
        calls += 1
        await asyncio.sleep(0)
        raise ValueError("no")

    told = await asyncio.gather(cache.ask("a", make), cache.ask("a", make), return_exceptions=True)
    assert ([str(error) for error in told], calls) == (["no", "no"], 1)
    with pytest.raises(ValueError, match="no"):
        await cache.ask("a", make)
    assert calls == 2
    await cache.close()


async def test_what_cannot_be_kept_is_refused_at_start(probe_set: bytes) -> None:
    cache_s = {f"{SERVICE}.Echo": 1.0, f"{SERVICE}.Watch": 1.0, "no.Such.Method": 1.0, READ: 0.0}
    config = GatewayConfig(descriptor_set=probe_set, upstreams={SERVICE: "127.0.0.1:1"}, cache_s=cache_s)
    with pytest.raises(ConfigError) as refused:
        Gateway(config)
    assert refused.value.problems == (
        "cache_s: no.Such.Method is not served",
        f"cache_s: {SERVICE}.Echo is not marked NO_SIDE_EFFECTS, or streams",
        f"cache_s: {SERVICE}.Watch is not marked NO_SIDE_EFFECTS, or streams",
        f"cache_s: {READ} must be positive, not 0",
    )


async def test_what_nobody_may_be_told_is_refused_at_start(probe_set: bytes) -> None:
    said = {f"{SERVICE}.Watch": "no-store", "no.Such.Method": "no-store", READ: 'private="a\r\nx: y"'}
    config = GatewayConfig(descriptor_set=probe_set, upstreams={SERVICE: "127.0.0.1:1"}, cache_control=said)
    with pytest.raises(ConfigError) as refused:
        Gateway(config)
    assert refused.value.problems == (
        f"cache_control: {READ} has {said[READ]!r}, which is no Cache-Control",
        "cache_control: no.Such.Method is not served",
        f"cache_control: {SERVICE}.Watch streams, and is not kept",
    )
