"""How often one may ask, and how many are remembered."""

import asyncio
import math

import pytest

from gateway.app import ConfigError, Gateway, GatewayConfig
from gateway.errors import HttpError
from gateway.limits import SLOWEST, Limiter
from tests.gateway.probe import SERVICE, ProbeServer, reason_of, shim

pytestmark = pytest.mark.asyncio(loop_scope="module")


def counted(limiter: Limiter, asker: str = "a") -> bool:
    try:
        limiter.count(asker)
    except HttpError:
        return False
    return True


async def test_a_burst_and_then_the_steady_rate() -> None:
    now = 100.0
    limiter = Limiter("address", 10, clock=lambda: now)
    assert [counted(limiter) for _ in range(22)] == [True] * 20 + [False] * 2
    assert counted(limiter, "b")
    now += 0.1
    assert [counted(limiter) for _ in range(2)] == [True, False]
    now += 1.0
    assert sum(counted(limiter) for _ in range(20)) == 10
    now += 1000
    assert sum(counted(limiter) for _ in range(30)) == 20


async def test_what_is_refused_counts_for_nothing() -> None:
    now = 0.0
    limiter = Limiter("address", 1, clock=lambda: now)
    for _ in range(100):
        counted(limiter)
    now += 1.0
    assert counted(limiter)


async def test_what_is_told_is_what_is_left() -> None:
    now = 0.0
    limiter = Limiter("client", 10, clock=lambda: now)
    told = [limiter.count("a") for _ in range(20)]
    assert told[0] == [(b"ratelimit-policy", b'"client";q=20;w=2'), (b"ratelimit", b'"client";r=19;t=1')]
    assert told[-1][1] == (b"ratelimit", b'"client";r=0;t=2')
    with pytest.raises(HttpError) as refused:
        limiter.count("a")
    assert (refused.value.code, dict(refused.value.headers)[b"retry-after"]) == (429, b"1")
    assert refused.value.details[-1]["retryDelay"] == "0.100s"


async def test_the_slowest_rate_tells_all_its_digits() -> None:
    limiter = Limiter("address", SLOWEST, clock=lambda: 0.0)
    assert [counted(limiter) for _ in range(6)] == [True] * 5 + [False]
    with pytest.raises(HttpError) as refused:
        limiter.count("a")
    told = dict(refused.value.headers)
    assert (told[b"retry-after"], told[b"ratelimit"]) == (b"1000000", b'"address";r=0;t=1000000')
    assert refused.value.details[-1]["retryDelay"] == "1000000s"


async def test_no_more_are_remembered_than_there_is_room_for() -> None:
    limiter = Limiter("address", 1, most=10, clock=lambda: 0.0)
    for number in range(100):
        limiter.count(f"{number}")
    assert len(limiter._used_up) == 10


async def test_over_http(probe_set: bytes, probe: ProbeServer) -> None:
    async with shim(probe_set, probe.address, rate_limits={"address": 2.5, "client": 0.5}) as client:
        mine = {"authorization": "Bearer a"}
        answers = await asyncio.gather(*(client.get("/v1/things/mine", headers=mine) for _ in range(5)))
        assert {answer.status_code for answer in answers} == {200}
        assert [len(answer.headers.get_list("ratelimit-policy")) for answer in answers] == [2] * 5
        mine = {"authorization": "bEARER a"}
        assert (await client.get("/v1/things/mine", headers=mine)).status_code == 429
        refused = await client.get("/v1/no/such/path")
        assert (refused.status_code, reason_of(refused), refused.headers["retry-after"]) == (429, "RATE_LIMITED", "1")
        assert refused.headers["ratelimit"].startswith('"address";r=0;')
        assert (await client.get("/livez")).status_code == 200


async def test_what_a_client_may_not_ask_is_not_counted_for_its_address(probe_set: bytes, probe: ProbeServer) -> None:
    # Bursts of 10 and of 5.
    async with shim(probe_set, probe.address, rate_limits={"address": 5, "client": 0.01}) as client:
        mine = {"authorization": "Bearer a"}
        codes = [(await client.get("/v1/things/mine", headers=mine)).status_code for _ in range(50)]
        assert codes == [200] * 5 + [429] * 45
        others = [await client.get("/v1/things/mine", headers={"authorization": f"Bearer {n}"}) for n in range(4)]
    assert [other.status_code for other in others] == [200] * 4


@pytest.mark.parametrize(
    ("one", "other", "are_one"),
    [
        ("2001:db8:1:2::1", "2001:db8:1:2:ffff:ffff:ffff:ffff", True),
        ("2001:db8:1:2::1", "2001:0DB8:0001:0002:0:0:0:1", True),
        ("2001:db8:1:2::1", "2001:db8:1:3::1", False),
        ("::ffff:192.0.2.1", "192.0.2.1", True),
        ("::ffff:192.0.2.1", "::ffff:c000:201", True),
        ("::ffff:192.0.2.1", "::ffff:192.0.2.2", False),
        ("192.0.2.1", "192.0.2.2", False),
        ("no:address", "no:other", False),
        ("fe80::1%eth0", "fe80::2", True),
    ],
)
async def test_a_network_of_ipv6_counts_as_one(
    probe_set: bytes, probe: ProbeServer, one: str, other: str, *, are_one: bool
) -> None:
    async with shim(probe_set, probe.address, rate_limits={"address": 0.01}, trusted_proxies=("127.0.0.1",)) as client:
        for _ in range(5):
            assert (await client.get("/v1/echo", headers={"x-forwarded-for": one})).status_code == 200
        again = await client.get("/v1/echo", headers={"x-forwarded-for": other})
    assert again.status_code == (429 if are_one else 200)


async def test_limits_that_are_none_are_refused_at_start(probe_set: bytes) -> None:
    rates = {"address": 0.0, "client": math.nan, "person": 1.0}
    config = GatewayConfig(descriptor_set=probe_set, upstreams={SERVICE: "127.0.0.1:1"}, rate_limits=rates)
    with pytest.raises(ConfigError) as refused:
        Gateway(config)
    assert refused.value.problems == (
        "rate_limits: person is none of address, client",
        "rate_limits: address must be a number from 0.000001",
        "rate_limits: client must be a number from 0.000001",
    )
