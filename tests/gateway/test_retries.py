"""Retries of a failing upstream: they are made, and cannot multiply its load."""

import asyncio
import json
from collections.abc import Mapping
from typing import Any

import httpx
import pytest

from tests.gateway.probe import SERVICE, ProbeServer, serving, shim

UNAVAILABLE = 14
RETRIES: Mapping[str, Any] = {
    "methodConfig": [
        {
            "name": [{"service": SERVICE}],
            "retryPolicy": {
                "maxAttempts": 5,
                # gRPC waits for ever where it is to wait for less than a millisecond.
                "initialBackoff": "0.01s",
                "maxBackoff": "0.01s",
                "backoffMultiplier": 1,
                "retryableStatusCodes": ["UNAVAILABLE"],
            },
        }
    ]
}


async def calls_of(probe: ProbeServer, client: httpx.AsyncClient, requests: int) -> int:
    """How many calls the upstream gets for so many requests that all fail."""
    before = probe.calls
    asked = [client.post("/v1/fail", json={"code": UNAVAILABLE}) for _ in range(requests)]
    assert {answer.status_code for answer in await asyncio.gather(*asked)} == {503}
    return probe.calls - before


async def test_a_failure_is_retried_as_the_service_config_says(probe_set: bytes) -> None:
    async with (
        serving(probe_set) as probe,
        shim(probe_set, probe.address, service_config=json.dumps(RETRIES)) as client,
    ):
        assert await calls_of(probe, client, 1) == 5


async def test_retries_of_an_upstream_that_only_fails_come_to_an_end(probe_set: bytes) -> None:
    async with (
        serving(probe_set) as probe,
        shim(probe_set, probe.address, service_config=json.dumps(RETRIES)) as client,
    ):
        assert 200 < await calls_of(probe, client, 200) <= 250
        assert await calls_of(probe, client, 200) == 200


async def test_what_goes_well_earns_retries(probe_set: bytes) -> None:
    config = json.dumps({**RETRIES, "retryThrottling": {"maxTokens": 10, "tokenRatio": 1.0}})
    async with serving(probe_set) as probe, shim(probe_set, probe.address, service_config=config) as client:
        await calls_of(probe, client, 20)
        assert await calls_of(probe, client, 1) == 1
        await asyncio.gather(*(client.get("/v1/echo") for _ in range(10)))
        assert await calls_of(probe, client, 1) == 5


@pytest.mark.parametrize(("tokens", "most"), [(4, 52), (1000, 250)])
async def test_a_budget_of_the_service_config_counts(probe_set: bytes, tokens: int, most: int) -> None:
    config = json.dumps({**RETRIES, "retryThrottling": {"maxTokens": tokens, "tokenRatio": 0.1}})
    async with serving(probe_set) as probe, shim(probe_set, probe.address, service_config=config) as client:
        calls = await calls_of(probe, client, 50)
    assert most - 2 <= calls <= most
