"""What hangs is not waited for by everybody, and is found again when it answers."""

import asyncio

import httpx
import pytest

from gateway.breaker import Breaker
from gateway.errors import HttpError
from tests.gateway.probe import reason_of, serving, shim


def is_open(breaker: Breaker) -> bool:
    try:
        breaker.check()
    except HttpError:
        return True
    return False


def test_only_calls_in_a_row_open_it_and_one_at_a_time_finds_out() -> None:
    now = 0.0
    breaker = Breaker(most=3, pause_s=1, clock=lambda: now)
    for _ in range(2):
        breaker.timed_out()
    breaker.answered()
    for _ in range(2):
        breaker.timed_out()
    assert not is_open(breaker)
    breaker.timed_out()
    assert is_open(breaker)
    now = 1.0
    assert [is_open(breaker), is_open(breaker)] == [False, True]
    breaker.timed_out()
    now = 1.9
    assert is_open(breaker)
    now = 2.0
    assert not is_open(breaker)
    breaker.answered()
    assert [is_open(breaker), is_open(breaker)] == [False, False]


@pytest.mark.timeout(60)
async def test_an_upstream_that_hangs_is_refused_for_and_found_again(probe_set: bytes) -> None:
    async with serving(probe_set) as probe, shim(probe_set, probe.address, deadline_s=0.2) as client:
        hanging = await asyncio.gather(*(client.get("/v1/hang") for _ in range(20)))
        assert {answer.status_code for answer in hanging} == {504}

        refused = await client.get("/v1/things/mine")
        assert (refused.status_code, reason_of(refused), refused.headers["retry-after"]) == (503, "UPSTREAM_HANGS", "1")

        async def answers() -> bool:
            return (await client.get("/v1/things/mine")).status_code == 200

        deadline = asyncio.get_running_loop().time() + 10
        while not await answers():
            assert asyncio.get_running_loop().time() < deadline
        assert await answers()


async def test_an_upstream_that_tells_of_a_deadline_at_once_does_not_hang(probe_set: bytes) -> None:
    async with serving(probe_set) as probe, shim(probe_set, probe.address) as client:
        for _ in range(25):
            assert (await client.post("/v1/fail", json={"code": 4, "message": "late"})).status_code == 504
        assert (await client.get("/v1/things/mine")).status_code == 200


async def test_clients_that_wait_too_short_open_nothing(probe_set: bytes) -> None:
    async with serving(probe_set) as probe, shim(probe_set, probe.address) as client:
        await _ask_in_haste(client)
        assert (await client.get("/v1/things/mine")).status_code == 200


async def _ask_in_haste(client: httpx.AsyncClient) -> None:
    answers = await asyncio.gather(*(client.get("/v1/hang", headers={"grpc-timeout": "50m"}) for _ in range(30)))
    assert {answer.status_code for answer in answers} == {504}
