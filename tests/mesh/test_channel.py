import asyncio
import json
import time
from typing import Any

import grpc
import pytest
from google.protobuf.wrappers_pb2 import StringValue

from mesh.auth import Authenticator, ServiceCredential
from mesh.channel import Calls, Channels, current_deadline, open_channel, set_deadline
from mesh.errors import Failure, Kind, unavailable
from mesh.run import GrpcHost
from tests.mesh.echo import SECRET, SERVICE, Echo, method, no_keys, served
from tests.support.servers import free_port

CALLS = Calls(ServiceCredential("test", SECRET))


def config(timeouts: dict[str, str] | None = None, *, retried: tuple[str, ...] = ()) -> str:
    """A service config: time-outs by method name ("" for all), retries for some."""
    named: list[dict[str, Any]] = [
        {"name": [{"service": SERVICE, "method": name} if name else {}], "timeout": timeout}
        for name, timeout in (timeouts or {}).items()
    ]
    policy = {
        "maxAttempts": 5,
        "initialBackoff": "0.2s",
        "maxBackoff": "0.5s",
        "backoffMultiplier": 2,
        "retryableStatusCodes": ["UNAVAILABLE"],
    }
    named += [{"name": [{"service": SERVICE, "method": name}], "retryPolicy": policy} for name in retried]
    return json.dumps({"methodConfig": named})


async def hang(_: str) -> str:
    await asyncio.Event().wait()
    return ""


async def seconds_until_deadline(channel: grpc.aio.Channel, name: str, timeout_s: float | None = None) -> float:
    started = time.monotonic()
    with pytest.raises(Failure) as caught:
        await CALLS(method(channel, name), StringValue(), timeout_s=timeout_s)
    assert caught.value.kind is Kind.DEADLINE_EXCEEDED
    return time.monotonic() - started


async def test_the_contracts_time_outs_hold_to_the_second_and_the_most_specific_counts() -> None:
    contract = config({"": "30s", "Public": "0.4s"})
    async with served(Echo(hang)) as address, open_channel(address, contract) as channel:
        by_contract = await seconds_until_deadline(channel, "Public")
        shorter = await seconds_until_deadline(channel, "Public", 0.1)
        longer = await seconds_until_deadline(channel, "Public", 20)

    assert 0.35 < by_contract < 2
    assert 0.05 < shorter < 0.4
    assert 0.35 < longer < 2


async def test_a_call_has_no_more_time_than_what_is_left_of_the_rpc_it_serves() -> None:
    async def left(_: str) -> str:
        deadline = current_deadline()
        assert deadline is not None
        return str(deadline - asyncio.get_running_loop().time())

    async with served(Echo(left)) as far, open_channel(far, config({"": "30s"})) as onward:

        async def relay(_: str) -> str:
            return (await CALLS(method(onward), StringValue())).value

        async with served(Echo(relay)) as near, open_channel(near, "{}") as channel:
            answer = await method(channel)(StringValue(), timeout=10)

    # The wire carries time-outs coarsely, rounded up.
    assert 5 < float(answer.value) < 11


async def test_no_call_is_made_when_no_time_is_left() -> None:
    reached = asyncio.Event()

    async def behaviour(_: str) -> str:
        reached.set()
        return ""

    async with served(Echo(behaviour)) as address, open_channel(address, "{}") as channel:
        set_deadline(0.0)
        with pytest.raises(Failure) as caught:
            await CALLS(method(channel), StringValue())

    assert caught.value.kind is Kind.DEADLINE_EXCEEDED
    assert not reached.is_set()


async def test_calls_show_the_services_credential() -> None:
    async with served(Echo()) as address, open_channel(address, "{}") as channel:
        answer = await CALLS(method(channel, "Service"), StringValue(value="let in"))

    assert answer.value == "let in"


async def test_only_methods_with_a_retry_policy_are_tried_again() -> None:
    tries: list[str] = []

    async def fail_first(text: str) -> str:
        tries.append(text)
        if tries.count(text) == 1:
            raise unavailable("DATABASE_UNAVAILABLE", "Away.")
        return text

    async with served(Echo(fail_first)) as address, open_channel(address, config(retried=("Public",))) as channel:
        retried = await CALLS(method(channel), StringValue(value="retried"))
        with pytest.raises(Failure) as caught:
            await CALLS(method(channel, "Owner"), StringValue(value="once"))

    assert retried.value == "retried"
    assert caught.value.reason == "DATABASE_UNAVAILABLE"
    assert tries == ["retried", "retried", "once"]


async def test_a_call_outlives_a_restart_of_its_server() -> None:
    port = free_port()

    async def start() -> GrpcHost:
        host = GrpcHost([Echo()], Authenticator(SECRET, no_keys), bind="127.0.0.1", port=port)
        await host.start()
        return host

    first = await start()
    async with open_channel(f"127.0.0.1:{port}", config(retried=("Public",))) as channel:
        assert (await CALLS(method(channel), StringValue(value="before"))).value == "before"
        await first.stop(0)
        second = await start()
        assert (await CALLS(method(channel), StringValue(value="after"))).value == "after"
    await second.stop(0)


async def test_listed_replicas_share_the_calls_and_one_alone_serves_them_all() -> None:
    async def who(name: str) -> str:
        return name

    contract = json.dumps({"loadBalancingConfig": [{"round_robin": {}}]})
    async with served(Echo(lambda _: who("one"))) as one:
        async with served(Echo(lambda _: who("other"))) as other, open_channel(f"ipv4:{one},{other}", contract) as both:
            async with asyncio.timeout(10):
                heard: set[str] = set()
                while heard != {"one", "other"}:
                    heard.add((await CALLS(method(both), StringValue())).value)
        async with open_channel(f"ipv4:{one},{other}", contract) as left:
            assert [(await CALLS(method(left), StringValue())).value for _ in range(4)] == ["one"] * 4


async def test_addresses_share_one_channel_each() -> None:
    channels = Channels("{}")

    assert channels.to("127.0.0.1:1") is channels.to("127.0.0.1:1")
    assert channels.to("127.0.0.1:1") is not channels.to("127.0.0.1:2")
    await channels.close()
