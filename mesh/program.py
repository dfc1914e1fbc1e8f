"""One program of the mesh: from settings to services that answer, and back down in order.

`shopmesh up` runs all services in one program, `python -m <service>` one; both come through here, and services find
each other over real gRPC in either case.
"""

import contextlib
import logging
import os
import secrets
import sys
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TypeVar

from mesh import log
from mesh.auth import Authenticator, ServiceCredential, keys_from
from mesh.cache import Cache, open_cache
from mesh.channel import Calls, Channels
from mesh.clock import SYSTEM_CLOCK, Clock
from mesh.config import Settings, database_url, load, service_address
from mesh.db import Database, open_database
from mesh.errors import ConfigError, Failure
from mesh.events import Events, MemoryEvents, open_events
from mesh.failpoint import Failpoints, from_environment
from mesh.metrics import MetricsDoor
from mesh.run import GrpcHost, Service, run, stop_signal

EXIT_MISUSE = 2

AnySettings = TypeVar("AnySettings", bound=Settings)

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Kit:
    """What a program hands to every service that it builds."""

    clock: Clock
    cache: Cache
    channels: Channels
    service_secret: str
    events: Events = field(default_factory=MemoryEvents)
    # Only tests have any.
    failpoints: Failpoints | None = None

    async def open_database(self, settings: Settings, service: str) -> Database:
        """The database of `service`, see `mesh.db.open_database`."""
        return await open_database(database_url(settings, service), clock=self.clock, failpoints=self.failpoints)

    def calls_as(self, service: str) -> Calls:
        """What makes calls to other services in the name of `service`."""
        credential = ServiceCredential(service, self.service_secret, clock=self.clock)
        return Calls(credential, failpoints=self.failpoints)


Build = Callable[[Kit], Awaitable[Service]]


class Program:
    """Services behind one gRPC server."""

    def __init__(self, settings: Settings, kit: Kit) -> None:
        self._settings = settings
        self._kit = kit
        self._host: GrpcHost | None = None
        self._metrics = MetricsDoor(bind=settings.bind, port=settings.metrics_port)

    async def start(self, builds: Sequence[Build]) -> int:
        """Build the services, serve them, answer the gRPC port. Raises OSError when a port is taken."""
        if self._settings.metrics_port:
            self._metrics.open()
        services = [await build(self._kit) for build in builds]
        channel = self._kit.channels.to(service_address(self._settings, "identity"))
        keys = keys_from(channel, self._settings.keys_method)
        authenticator = Authenticator(self._kit.service_secret, keys, clock=self._kit.clock)
        self._host = GrpcHost(services, authenticator, bind=self._settings.bind, port=self._settings.grpc_port)
        return await self._host.start()

    async def stop(self) -> None:
        """Drain calls under way for at most drain_s, stop the services, close what they shared."""
        if self._host is not None:
            await self._host.stop(self._settings.drain_s)
        await self._kit.channels.close()
        await self._kit.cache.close()
        await self._kit.events.close()
        await self._metrics.close()


def open_kit(settings: Settings, service_config: str, *, clock: Clock = SYSTEM_CLOCK) -> Kit:
    """The kit that the settings describe, and SHOP_TEST_FAILPOINTS. Needs the running loop."""
    failpoints = from_environment(os.environ)
    return Kit(
        clock=clock,
        cache=open_cache(settings.redis_url, clock=clock),
        events=open_events(settings.redis_url, failpoints=failpoints),
        channels=Channels(service_config),
        service_secret=settings.service_secret or kept_secret(settings.data_dir, "service-secret"),
        failpoints=failpoints,
    )


def kept_secret(data_dir: Path, name: str) -> str:
    """A secret of services that share a data folder on one machine: made once, readable by its owner alone."""
    path = data_dir / name
    if not path.exists():
        data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        draft = data_dir / f".{secrets.token_hex(8)}"
        draft.touch(mode=0o600)
        draft.write_text(secrets.token_hex(32))
        # A link appears whole or not at all, so whoever comes second reads the first one's secret.
        with contextlib.suppress(FileExistsError):
            path.hardlink_to(draft)
        draft.unlink()
    return path.read_text()


def main(
    kind: type[AnySettings],
    build: Callable[[AnySettings, Kit], Awaitable[Service]],
    migrate: Callable[[AnySettings], Awaitable[None]],
    *,
    service_config: str,
) -> int:
    """Run one service until it is told to stop: what each `__main__.py` calls. Answers the exit code."""
    try:
        settings = load(kind, apart=True)
    except ConfigError as error:
        return misuse(error.problems)
    log.set_up(settings.log_level)
    return run(serve(settings, partial(build, settings), partial(migrate, settings), service_config))


def misuse(problems: Sequence[str]) -> int:
    """Name every problem on stderr, a line each, and answer the exit code for wrong use."""
    for problem in problems:
        sys.stderr.write(f"{problem}\n")
    return EXIT_MISUSE


async def serve(settings: Settings, build: Build, migrate: Callable[[], Awaitable[None]], service_config: str) -> int:
    """Serve what `build` makes until SIGTERM or SIGINT, and answer the exit code. Migrates first in embedded mode."""
    stop = stop_signal()
    try:
        program = Program(settings, open_kit(settings, service_config))
    except ConfigError as error:
        return misuse(error.problems)
    except OSError as error:
        return misuse([f"SHOP_DATA_DIR: {error}"])
    try:
        if settings.embedded:
            await migrate()
        port = await program.start([build])
    except (OSError, Failure) as error:
        await program.stop()
        return misuse([str(error)])
    _log.info("serving", extra={"bind": settings.bind, "grpc_port": port})
    await stop.wait()
    await program.stop()
    return 0
