"""Calls without a task of their own, compared with grpc.aio's."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc
import pytest
import pytest_asyncio

from gateway.descriptors import load, message_class
from gateway.unary import UnaryMethod
from tests.gateway.probe import SERVICE, ProbeServer

pytestmark = pytest.mark.asyncio(loop_scope="module")

Use = Callable[..., Any]


class Methods:
    """The probe's methods by name, each in either kind."""

    def __init__(self, channel: grpc.aio.Channel, descriptor_set: bytes) -> None:
        self._channel = channel
        self._methods = {one.name: one for one in load(descriptor_set).services[SERVICE]}

    def ours(self, name: str) -> Use:
        path, write, read = self._parts(name)
        return UnaryMethod(self._channel, path, write=write, read=read)

    def theirs(self, name: str) -> Use:
        path, write, read = self._parts(name)
        return self._channel.unary_unary(path, request_serializer=write, response_deserializer=read)

    def message(self, name: str, **fields: Any) -> Any:
        return message_class(self._methods[name].input)(**fields)

    def _parts(self, name: str) -> tuple[str, Any, Any]:
        method = self._methods[name]
        return (
            f"/{SERVICE}/{name}",
            message_class(method.input).SerializeToString,
            message_class(method.output).FromString,
        )


@pytest_asyncio.fixture(loop_scope="module")
async def methods(probe: ProbeServer, probe_set: bytes) -> AsyncIterator[Methods]:
    async with grpc.aio.insecure_channel(probe.address) as channel:
        yield Methods(channel, probe_set)


async def failed(call: Any) -> grpc.aio.AioRpcError:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return caught.value


async def test_the_answer_is_the_same(methods: Methods) -> None:
    message = methods.message("Echo", text="hello")

    told = [await use(message, timeout=5, metadata=()) for use in (methods.ours("Echo"), methods.theirs("Echo"))]

    assert told[0] == told[1] == message


async def test_metadata_and_deadline_arrive(methods: Methods) -> None:
    arrived = await methods.ours("Arrival")(methods.message("Arrival"), timeout=5, metadata=(("x-extra", "yes"),))

    assert arrived.metadata["x-extra"] == "yes"
    # The wire has few digits and rounds up, and the wall clock by which it is said may be set meanwhile.
    assert 4_000 < arrived.left_ms < 5_100


async def test_a_failure_tells_the_same(methods: Methods) -> None:
    message = methods.message("Fail", code=9, message="not now", reason="BUSY")

    ours, theirs = [
        await failed(use(message, timeout=5, metadata=())) for use in (methods.ours("Fail"), methods.theirs("Fail"))
    ]

    assert (ours.code(), ours.details()) == (theirs.code(), theirs.details())
    assert ours.code() is grpc.StatusCode.FAILED_PRECONDITION
    assert tuple(ours.trailing_metadata() or ()) == tuple(theirs.trailing_metadata() or ()) != ()


@pytest.mark.parametrize("code", [code for code in grpc.StatusCode if code is not grpc.StatusCode.OK])
async def test_every_code_is_told(methods: Methods, code: grpc.StatusCode) -> None:
    call = methods.ours("Fail")(methods.message("Fail", code=code.value[0]), timeout=5, metadata=())

    assert (await failed(call)).code() is code
    assert await call.code() is code


async def test_the_deadline_ends_it(methods: Methods) -> None:
    error = await failed(methods.ours("Hang")(methods.message("Hang"), timeout=0.05, metadata=()))

    assert error.code() is grpc.StatusCode.DEADLINE_EXCEEDED


@pytest.mark.parametrize("whose", ["ours", "theirs"])
async def test_to_cancel_the_call_is_to_cancel_who_waits_and_the_upstream(
    methods: Methods, probe: ProbeServer, whose: str
) -> None:
    probe.hanging.clear()
    probe.cancelled.clear()
    call = getattr(methods, whose)("Hang")(methods.message("Hang"), timeout=5, metadata=())
    waiting = asyncio.ensure_future(call)
    await probe.hanging.wait()

    call.cancel()

    with pytest.raises(asyncio.CancelledError):
        await waiting
    await asyncio.wait_for(probe.cancelled.wait(), 5)


@pytest.mark.parametrize("whose", ["ours", "theirs"])
async def test_to_cancel_who_waits_is_to_cancel_the_upstream(methods: Methods, probe: ProbeServer, whose: str) -> None:
    probe.hanging.clear()
    probe.cancelled.clear()

    async def wait() -> Any:
        return await getattr(methods, whose)("Hang")(methods.message("Hang"), timeout=5, metadata=())

    waiting = asyncio.create_task(wait())
    await probe.hanging.wait()

    waiting.cancel()

    with pytest.raises(asyncio.CancelledError):
        await waiting
    await asyncio.wait_for(probe.cancelled.wait(), 5)


async def test_a_call_that_is_cancelled_before_it_is_awaited_is_cancelled(methods: Methods) -> None:
    call = methods.ours("Echo")(methods.message("Echo"), timeout=5, metadata=())

    call.cancel()

    with pytest.raises(asyncio.CancelledError):
        await call


async def test_an_answered_call_may_be_cancelled_and_stays_answered(methods: Methods) -> None:
    call = methods.ours("Echo")(methods.message("Echo", text="hello"), timeout=5, metadata=())

    answer = await call
    call.cancel()

    assert answer.text == "hello"
    assert await call.code() is grpc.StatusCode.OK
