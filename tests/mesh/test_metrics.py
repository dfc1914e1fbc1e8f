"""The door to a process's metrics, by itself and as a part of a program."""

import socket
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client import Counter

from mesh.config import Settings
from mesh.metrics import MetricsDoor
from mesh.program import Kit, Program, open_kit
from mesh.run import Service
from tests.mesh.echo import SECRET, Echo
from tests.support.servers import free_port

SHOWN = Counter("shop_test_metrics_total", "What the tests look for.")


async def shown(port: int) -> str:
    async with httpx.AsyncClient() as client:
        answer = await client.get(f"http://127.0.0.1:{port}/metrics")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain")
    return answer.text


async def test_the_door_shows_the_registry_until_it_is_closed() -> None:
    door = MetricsDoor(bind="127.0.0.1", port=0)
    port = door.open()
    SHOWN.inc()

    assert "shop_test_metrics_total 1.0" in await shown(port)
    await door.close()
    with pytest.raises(httpx.ConnectError):
        await shown(port)
    await door.close()


async def test_a_port_that_is_taken_is_an_os_error_that_names_it() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]

        with pytest.raises(OSError, match=f"metrics port {port} on 127.0.0.1"):
            MetricsDoor(bind="127.0.0.1", port=port).open()


def settings(folder: Path, **changes: Any) -> Settings:
    return Settings(grpc_port=0, data_dir=folder, service_secret=SECRET, **changes)


async def echo(_: Kit) -> Service:
    return Echo()


async def test_a_program_shows_its_metrics_where_it_is_told(tmp_path: Path) -> None:
    port = free_port()
    told = settings(tmp_path, metrics_port=port)
    program = Program(told, open_kit(told, "{}"))
    await program.start([echo])

    assert "grpc_server_handled_total" in await shown(port)
    await program.stop()
    with pytest.raises(httpx.ConnectError):
        await shown(port)
