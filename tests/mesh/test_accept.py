"""Calls that are taken in several at a time."""

import asyncio
import gc
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import grpc
import pytest
from google.protobuf.wrappers_pb2 import StringValue

from mesh.auth import Authenticator
from mesh.channel import open_channel
from mesh.errors import Failure, Kind
from mesh.run import GrpcHost
from mesh.status import from_rpc_error
from tests.mesh.echo import RULES, SECRET, SERVICE, Echo, method, no_keys, served

MANY = 400
ROOT = Path(__file__).parents[2]


class Gate:
    """A behaviour that waits until it is let go, and knows who is inside."""

    def __init__(self) -> None:
        self.inside = 0
        self.cancelled = 0
        self.go = asyncio.Event()
        self._changed = asyncio.Condition()

    async def __call__(self, text: str) -> str:
        await self._note(1)
        try:
            await self.go.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        finally:
            await self._note(-1)
        return text

    async def until_inside(self, number: int) -> None:
        async with asyncio.timeout(20), self._changed:
            await self._changed.wait_for(lambda: self.inside == number)

    async def _note(self, change: int) -> None:
        self.inside += change
        async with self._changed:
            self._changed.notify_all()


def acceptors() -> list[asyncio.Task[Any]]:
    return [task for task in asyncio.all_tasks() if task.get_name().startswith("accept ")]


async def test_as_many_as_come_are_served_at_the_same_time_each_with_its_own_answer() -> None:
    gate = Gate()
    async with served(Echo(gate)) as address, open_channel(address, "{}") as channel:
        call = method(channel)
        calls = [asyncio.ensure_future(call(StringValue(value=str(number)))) for number in range(MANY)]
        await gate.until_inside(MANY)
        gate.go.set()
        answers = await asyncio.gather(*calls)

    assert [answer.value for answer in answers] == [str(number) for number in range(MANY)]


async def test_calls_one_after_the_other_are_all_answered() -> None:
    # More than there are acceptors, so that each has its turn, and the server itself.
    async with served(Echo()) as address, open_channel(address, "{}") as channel:
        answers = [await method(channel)(StringValue(value=str(number))) for number in range(50)]

    assert [answer.value for answer in answers] == [str(number) for number in range(50)]


async def test_the_work_for_clients_that_are_gone_is_cancelled_and_the_others_is_not() -> None:
    gate = Gate()
    async with served(Echo(gate)) as address, open_channel(address, "{}") as channel:
        calls: list[Any] = [method(channel)(StringValue(value=str(number))) for number in range(40)]
        await gate.until_inside(40)
        for call in calls[:30]:
            call.cancel()
        await gate.until_inside(10)
        gate.go.set()
        answers = await asyncio.gather(*calls[30:])

    assert gate.cancelled == 30
    assert [answer.value for answer in answers] == [str(number) for number in range(30, 40)]


async def test_every_call_that_fails_gets_its_status_and_details() -> None:
    async def refuse(text: str) -> str:
        raise Failure(Kind.NOT_FOUND, "NO_SUCH_THING", "There is none.", metadata={"number": text})

    async with served(Echo(refuse)) as address, open_channel(address, "{}") as channel:
        calls = [method(channel)(StringValue(value=str(number))) for number in range(40)]
        errors = await asyncio.gather(*calls, return_exceptions=True)

    failures = [from_rpc_error(error) for error in errors if isinstance(error, grpc.aio.AioRpcError)]
    assert [failure.metadata for failure in failures] == [{"number": str(number)} for number in range(40)]


async def test_a_server_that_stops_finishes_what_it_has_taken_in_and_leaves_no_acceptor() -> None:
    gate = Gate()
    host = GrpcHost([Echo(gate)], Authenticator(SECRET, no_keys), bind="127.0.0.1", port=0)
    async with open_channel(f"127.0.0.1:{await host.start()}", "{}") as channel:
        accepting = acceptors()
        calls = [asyncio.ensure_future(method(channel)(StringValue(value=str(number)))) for number in range(20)]
        await gate.until_inside(20)
        stopping = asyncio.create_task(host.stop(10))
        async with asyncio.timeout(20):
            await asyncio.wait(accepting)
        under_way = gate.inside
        gate.go.set()
        answers = await asyncio.gather(*calls)
        await stopping

    assert len(accepting) >= len(RULES)
    assert acceptors() == []
    assert under_way == len(answers) == 20


@pytest.mark.parametrize("path", [f"/{SERVICE}/Unknown".encode(), b"/\xff"])
async def test_calls_of_methods_that_do_not_exist_are_unimplemented_and_disturb_nobody(path: bytes) -> None:
    async with served(Echo()) as address, grpc.aio.insecure_channel(address) as channel:
        unknown: Any = channel.unary_unary(cast("str", path))
        for _ in range(3):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await unknown(b"", timeout=10)
            assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED

        answers = [await method(channel)(StringValue(value=str(number))) for number in range(20)]

    assert [answer.value for answer in answers] == [str(number) for number in range(20)]


async def test_a_server_whose_serving_ends_by_itself_takes_its_process_with_it() -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.mesh.broken_program", cwd=ROOT, stderr=asyncio.subprocess.PIPE
    )
    _, told = await asyncio.wait_for(process.communicate(), 60)

    assert process.returncode == 1
    assert [b"serving ended by itself" in line for line in told.splitlines()] == [True]


class Noting(Echo):
    """Notes for each call how its task is named, and that its end has been told."""

    def __init__(self) -> None:
        super().__init__()
        self.tasks: Counter[str] = Counter()
        self.ended = 0

    def register(self, server: grpc.aio.Server) -> None:
        async def answer(request: StringValue, context: Any) -> StringValue:
            context.add_done_callback(self._end)
            task = asyncio.current_task()
            assert task is not None
            self.tasks[task.get_name()] += 1
            return request

        handler = grpc.unary_unary_rpc_method_handler(
            answer,
            request_deserializer=StringValue.FromString,
            response_serializer=StringValue.SerializeToString,
        )
        server.add_registered_method_handlers(SERVICE, {"Public": handler})

    def _end(self, _: object) -> None:
        self.ended += 1


async def test_the_end_of_every_call_is_told_to_who_asked_for_it() -> None:
    noting = Noting()
    async with served(noting) as address, open_channel(address, "{}") as channel:
        await asyncio.gather(*(method(channel)(StringValue(value=str(number))) for number in range(50)))

    assert noting.ended == 50
    assert noting.tasks == {f"HandleExceptions[/{SERVICE}/Public]": 50}


@pytest.fixture
def uncollected() -> Iterator[None]:
    """Nothing is collected meanwhile: what is in a cycle stays."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("uncollected")
async def test_nothing_of_calls_that_failed_waits_for_a_collection() -> None:
    async def refuse(_: str) -> str:
        raise Failure(Kind.NOT_FOUND, "NO_SUCH_THING", "There is none.")

    # Servers of other tests may wait for calls meanwhile.
    before = _kept()
    async with served(Echo(refuse)) as address, open_channel(address, "{}") as channel:
        calls = [method(channel)(StringValue()) for _ in range(40)]
        await asyncio.gather(*calls, return_exceptions=True)

    assert _kept() == before


def _kept() -> list[int]:
    """How many contexts, calls and errors of calls there are."""
    kinds = Counter(type(thing).__name__ for thing in gc.get_objects())
    return [kinds[name] for name in ("_ServicerContext", "RPCState", "AbortError")]
