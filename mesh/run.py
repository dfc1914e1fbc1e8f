"""Start and stop: any number of services in one process, over one gRPC server, until SIGTERM or SIGINT.

A service is built by its app.py. Health follows grpc.health.v1: "" is alive as long as the process serves, a service's
names are ready while its database is reachable and its schema there.
"""

# Annotations stay unevaluated: grpc's stubs make generic what at run time is not.
from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import signal
import sys
from collections.abc import Coroutine, Mapping, Sequence
from typing import Any, Protocol, cast

import grpc
from google.protobuf.descriptor import ServiceDescriptor
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from mesh.accept import Acceptors, open_server
from mesh.auth import Authenticator
from mesh.interceptors import PolicyInterceptor
from mesh.loop import Loop

_READY_EVERY_S = 1.0
_SWITCH_S = 0.0005
_GC_THRESHOLDS = (20_000, 20, 50)
_SERVING = health_pb2.HealthCheckResponse.SERVING
_NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING

_log = logging.getLogger(__name__)


class Service(Protocol):
    """What app.py builds."""

    name: str
    # The proto services that it answers for.
    descriptors: tuple[ServiceDescriptor, ...]

    def register(self, server: grpc.aio.Server) -> None:
        """Add the servicers."""

    async def start(self) -> None:
        """Start background work; called once the server listens. Must not wait for other services."""

    async def ready(self) -> bool:
        """Whether calls can be answered now: database reachable, schema there. Never raises."""

    async def stop(self) -> None:
        """End background work and close everything that was opened."""


class _Registry:
    """What servicers register with: puts the rules in front of each method, and acceptors to its calls."""

    def __init__(self, server: grpc.aio.Server, interceptor: PolicyInterceptor, acceptors: Acceptors) -> None:
        self._server = server
        self._interceptor = interceptor
        self._acceptors = acceptors

    def add_generic_rpc_handlers(self, handlers: Sequence[grpc.GenericRpcHandler]) -> None:
        """Nothing: they come by name as well."""

    def add_registered_method_handlers(
        self, service: str, handlers: Mapping[str, grpc.RpcMethodHandler[Any, Any]]
    ) -> None:
        """Add the methods of a service."""
        intercepted = {
            name: self._interceptor.intercept(f"/{service}/{name}", handler) for name, handler in handlers.items()
        }
        self._server.add_registered_method_handlers(service, intercepted)
        for name, handler in intercepted.items():
            self._acceptors.add(f"/{service}/{name}", handler)


class GrpcHost:
    """One gRPC server over several services."""

    def __init__(self, services: Sequence[Service], authenticator: Authenticator, *, bind: str, port: int) -> None:
        self._services = services
        self._health = health.aio.HealthServicer()
        self._bind = bind
        self._port = port
        descriptors = [descriptor for service in services for descriptor in service.descriptors]
        self._server = open_server(
            [
                # A second process on the same port is a mistake, not load balancing.
                ("grpc.so_reuseport", 0),
                # As for the channels to it.
                ("grpc.http2.bdp_probe", 0),
                ("grpc.max_receive_message_length", 16 << 20),
                # As much as the gateway lets in; past 8 KiB gRPC's default refuses some with words of its own.
                ("grpc.max_metadata_size", 64 << 10),
                ("grpc.absolute_max_metadata_size", 128 << 10),
                # Clients come back now and then, so that new replicas get their share.
                ("grpc.max_connection_age_ms", 300_000),
                ("grpc.max_connection_age_grace_ms", 30_000),
                ("grpc.keepalive_permit_without_calls", 1),
                ("grpc.http2.min_ping_interval_without_data_ms", 4_000),
                ("grpc.http2.max_ping_strikes", 0),
            ],
        )
        self._acceptors = Acceptors(self._server)
        interceptor = PolicyInterceptor(descriptors, authenticator)
        registry = cast("grpc.aio.Server", _Registry(self._server, interceptor, self._acceptors))
        for service in services:
            service.register(registry)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, registry)
        names = [descriptor.full_name for descriptor in descriptors]
        reflection.enable_server_reflection([*names, health.SERVICE_NAME, reflection.SERVICE_NAME], registry)
        self._watch: asyncio.Task[None] | None = None

    async def start(self) -> int:
        """Listen, start the services' background work, answer the bound port. Raises OSError when it is taken."""
        try:
            port = self._server.add_insecure_port(f"{self._bind}:{self._port}")
        except RuntimeError as error:
            raise OSError(f"gRPC port {self._port} on {self._bind} cannot be bound") from error
        await self._server.start()
        self._acceptors.start()
        await self._health.set("", _SERVING)
        for service in self._services:
            await service.start()
        await self._update_health()
        self._watch = asyncio.create_task(self._watch_health(), name="health")
        return port

    async def stop(self, grace_s: float) -> None:
        """Say NOT_SERVING, refuse new calls, give those under way `grace_s`, then stop the services."""
        if self._watch is not None:
            self._watch.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._watch
        await self._health.enter_graceful_shutdown()
        await self._server.stop(grace_s)
        await self._acceptors.stop()
        for service in reversed(self._services):
            await service.stop()

    async def _watch_health(self) -> None:
        while True:
            await asyncio.sleep(_READY_EVERY_S)
            await self._update_health()

    async def _update_health(self) -> None:
        for service in self._services:
            state = _SERVING if await service.ready() else _NOT_SERVING
            for descriptor in service.descriptors:
                await self._health.set(descriptor.full_name, state)


def stop_signal() -> asyncio.Event:
    """An event that SIGTERM and SIGINT set, on the running loop."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    return stop


def run(main: Coroutine[Any, Any, int]) -> int:
    """Run a program's main coroutine on a loop of its own and answer its exit code."""
    wait_for_ones_turn()
    # What a request makes is gone with it by itself, cycles are few: to look for them as often as by default costs a
    # busy program a fourteenth of its time.
    gc.set_threshold(*_GC_THRESHOLDS)
    # SQLite is worked in threads: at the default of 5 ms a busy loop would make each of their answers wait that long.
    sys.setswitchinterval(_SWITCH_S)
    with asyncio.Runner(loop_factory=Loop) as runner:
        return runner.run(main)


def wait_for_ones_turn() -> None:
    """Have this process wait for who is at work when a message wakes it (docs/adr/0015), where the system can."""
    if sys.platform == "linux":
        # Not every sandbox lets it.
        with contextlib.suppress(OSError):
            os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
