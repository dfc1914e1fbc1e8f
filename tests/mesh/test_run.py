import asyncio
import signal
import socket
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, cast

import grpc
import pytest
from google.protobuf.wrappers_pb2 import StringValue
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from mesh.auth import Authenticator
from mesh.channel import open_channel
from mesh.program import kept_secret
from mesh.run import GrpcHost
from tests.mesh.echo import SECRET, SERVICE, Echo, method, no_keys, served

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
ROOT = Path(__file__).parents[2]


async def health(channel: grpc.aio.Channel, service: str) -> int:
    stub: Any = health_pb2_grpc.HealthStub(channel)
    answer = await stub.Check(health_pb2.HealthCheckRequest(service=service))
    return int(answer.status)


async def test_the_program_is_alive_while_a_service_of_it_is_not_ready(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mesh.run._READY_EVERY_S", 0.01)
    echo = Echo()
    echo.is_ready = False
    async with served(echo) as address, open_channel(address, "{}") as channel:
        assert (await health(channel, ""), await health(channel, SERVICE)) == (SERVING, NOT_SERVING)

        echo.is_ready = True
        async with asyncio.timeout(10):
            while await health(channel, SERVICE) != SERVING:  # noqa: ASYNC110 - the watch looks now and then
                await asyncio.sleep(0.01)


async def test_health_of_an_unknown_service_is_not_found() -> None:
    async with served(Echo()) as address, open_channel(address, "{}") as channel:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await health(channel, "no.such.Service")

    assert caught.value.code() is grpc.StatusCode.NOT_FOUND


async def test_reflection_lists_the_services() -> None:
    async with served(Echo()) as address, open_channel(address, "{}") as channel:
        stub: Any = reflection_pb2_grpc.ServerReflectionStub(cast("Any", channel))
        request = reflection_pb2.ServerReflectionRequest(list_services="")
        answers = [answer async for answer in stub.ServerReflectionInfo(iter([request]))]

    names = {service.name for service in answers[0].list_services_response.service}
    assert names == {SERVICE, "grpc.health.v1.Health", "grpc.reflection.v1alpha.ServerReflection"}


async def test_a_port_that_is_taken_is_an_os_error() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        host = GrpcHost([Echo()], Authenticator(SECRET, no_keys), bind="127.0.0.1", port=port)

        with pytest.raises(OSError, match=f"port {port}"):
            await host.start()
        await host.stop(0)


async def test_two_programs_do_not_share_a_port() -> None:
    async with served(Echo()) as address:
        port = int(address.rpartition(":")[2])
        second = GrpcHost([Echo()], Authenticator(SECRET, no_keys), bind="127.0.0.1", port=port)

        with pytest.raises(OSError, match="cannot be bound"):
            await second.start()
        await second.stop(0)


@pytest.fixture
async def program() -> AsyncIterator[asyncio.subprocess.Process]:
    """slow_program.py in a process of its own."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.mesh.slow_program",
        cwd=ROOT,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    yield process
    if process.returncode is None:
        process.kill()
    await process.communicate()


async def line(process: asyncio.subprocess.Process) -> str:
    assert process.stdout is not None
    return (await asyncio.wait_for(process.stdout.readline(), 60)).decode().strip()


async def test_sigterm_lets_the_call_under_way_finish_and_refuses_new_ones(
    program: asyncio.subprocess.Process,
) -> None:
    assert program.stdin is not None
    address = f"127.0.0.1:{await line(program)}"
    async with open_channel(address, "{}") as channel, grpc.aio.insecure_channel(address) as late:
        under_way = asyncio.ensure_future(method(channel)(StringValue(value="a")))
        assert await line(program) == "began a"

        program.send_signal(signal.SIGTERM)
        assert await line(program) == "stopping"
        await refuses(late)
        program.stdin.write(b"go on\n")

        assert (await under_way).value == "finished a"
    assert await asyncio.wait_for(program.wait(), 30) == 0


async def refuses(channel: grpc.aio.Channel) -> None:
    """Wait until the server takes no more calls."""
    async with asyncio.timeout(30):
        while True:
            try:
                await health(channel, "")
            except grpc.aio.AioRpcError as error:
                assert error.code() is grpc.StatusCode.UNAVAILABLE  # noqa: PT017 - it is awaited
                return


def test_services_on_one_machine_share_a_secret_that_only_its_owner_reads(tmp_path: Path) -> None:
    first, second = (kept_secret(tmp_path / "data", "service-secret") for _ in range(2))

    assert first == second
    assert len(first) == 64
    assert [path.name for path in (tmp_path / "data").iterdir()] == ["service-secret"]
    assert (tmp_path / "data" / "service-secret").stat().st_mode & 0o077 == 0
