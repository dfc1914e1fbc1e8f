"""`shopmesh up`: everything in one process, over real loopback gRPC, so that there is no second code path.

The order of the start spares whoever comes first an error: ports, databases, services, demo data, and REST at last. The
stop goes the other way: REST takes no more requests, then gRPC no more calls, then the services end.
"""

import asyncio
import contextlib
import os
import socket
import sys
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.panel import Panel
from rich.table import Table

from gateway.app import Gateway
from gateway.metrics import ACCESS_LOG, tell_requests_by
from gateway.server import HttpServer
from mesh import log
from mesh.config import PREFIX, service_address
from mesh.errors import ConfigError, Failure
from mesh.program import Program, open_kit
from mesh.run import run, stop_signal
from shopmesh.edge import gateway_config
from shopmesh.migrate import EXIT_FAILED, data_folder_problems, migrate_all
from shopmesh.parts import PARTS, MeshSettings, read_settings, service_config
from shopmesh.seed import seed

# Where a server that listens on all addresses is dialled from the same machine.
_LOOPBACK = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - a key, nothing is bound


def main() -> int:
    """Run until SIGTERM or SIGINT and answer the exit code. Raises ConfigError for wrong use, such as a taken port."""
    settings = with_free_ports(read_settings())
    log.set_up(settings.common.log_level)
    tell_requests_by(log.access_lines(ACCESS_LOG))
    return run(_up(settings))


def with_free_ports(settings: MeshSettings) -> MeshSettings:
    """The settings with port 0 replaced by a free one, and the services' addresses where they will listen.

    Raises ConfigError naming every port that cannot be had, and the data folder if it cannot.
    """
    problems: list[str] = []
    bind = settings.common.bind
    ports = {
        name: _bindable(bind, name, getattr(settings.common, name), problems) for name in ("http_port", "grpc_port")
    }
    if not problems and ports["http_port"] == ports["grpc_port"]:
        problems.append(f"{PREFIX}HTTP_PORT and {PREFIX}GRPC_PORT: must not be the same")
    # A start that fails for its ports leaves no folder behind.
    problems = problems or data_folder_problems(settings)
    if problems:
        raise ConfigError(problems)
    here = f"{_in_url(_LOOPBACK.get(bind, bind))}:{ports['grpc_port']}"
    addresses = {f"{PREFIX}{part.name.upper()}_ADDR": here for part in PARTS}
    return settings.changed(**ports, per_service={**addresses, **settings.common.per_service})


async def _up(settings: MeshSettings) -> int:
    stop = stop_signal()
    async with contextlib.AsyncExitStack() as running:
        try:
            await _unless(stop, migrate_all(settings))
            if not stop.is_set():
                await _start(settings, running)
        except Failure as failure:
            sys.stderr.write(f"shopmesh: {failure.message}\n")
            return EXIT_FAILED
        except OSError as error:
            raise ConfigError([str(error)]) from error
        await stop.wait()
    return 0


async def _start(settings: MeshSettings, running: contextlib.AsyncExitStack) -> None:
    """Start all that serves; `running` learns how to stop each, and does so in the opposite order."""
    common = settings.common
    kit = open_kit(common, service_config())
    program = Program(common, kit)
    running.push_async_callback(program.stop)
    await program.start([part.build(settings) for part in PARTS])
    if settings.demo:
        channel = kit.channels.to(service_address(common, "inventory"))
        await seed(channel, kit.calls_as("seed"))
    gateway = Gateway(gateway_config(common))
    running.push_async_callback(gateway.close)
    server = HttpServer(gateway.asgi(), host=common.bind, port=common.http_port)
    await server.start()
    running.push_async_callback(server.stop, common.drain_s)
    _greet(settings)


async def _unless(stop: asyncio.Event, work: Coroutine[Any, Any, None]) -> None:
    """Do the work, but let it go as soon as `stop` is set."""
    working, stopping = asyncio.create_task(work), asyncio.create_task(stop.wait())
    try:
        await asyncio.wait({working, stopping}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        stopping.cancel()
        if not working.done():
            working.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await working


def _bindable(bind: str, name: str, port: int, problems: list[str]) -> int:
    try:
        with socket.create_server((bind, port), family=socket.AF_INET6 if ":" in bind else socket.AF_INET) as probe:
            return int(probe.getsockname()[1])
    except OSError as error:
        problems.append(f"{PREFIX}{name.upper()}: {_in_url(bind)}:{port}: {os.strerror(error.errno or 0)}")
        return port


def _in_url(host: str) -> str:
    return f"[{host}]" if ":" in host else host


@dataclass(frozen=True, slots=True)
class _Line:
    """One line of the greeting."""

    label: str
    text: str


def _greet(settings: MeshSettings) -> None:
    """Say on stdout where everything is, and one thing to try."""
    common = settings.common
    host = _in_url(_LOOPBACK.get(common.bind, common.bind))
    rest = f"http://{host}:{common.http_port}"
    lines = [
        _Line("REST", rest),
        _Line("Docs", f"{rest}/docs"),
        _Line("gRPC", f"{host}:{common.grpc_port} (with reflection and health)"),
        _Line("Data", str(common.data_dir) if common.embedded else "on the database server"),
    ]
    if settings.demo:
        lines.append(_Line("Sign in", "operator@shop.test / operator-demo"))
        lines.append(_Line("", "customer@shop.test / customer-demo"))
    table = Table.grid(padding=(0, 2))
    for line in lines:
        table.add_row(line.label, line.text)
    console = Console(highlight=False, soft_wrap=True)
    console.print(Panel(table, title="shopmesh is up", title_align="left", expand=False))
    console.print(f"Try:  curl '{rest}/v1/products?page_size=3'")
    console.print("Stop: Ctrl-C")
