"""Calling another service: one channel per address, the contract's timeouts and retries, failures as `Failure`.

A call never outlives the RPC on whose behalf it is made: its deadline is set by the server interceptor, and each
call gets what is left of it, less a margin for the answer's way back.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from functools import partial
from typing import Any, Self, TypeVar, cast

import grpc

from mesh import status
from mesh.auth import ServiceCredential
from mesh.errors import Failure, Kind
from mesh.failpoint import AnswerLostError, Failpoints, OutageError, around
from mesh.service_config import ServiceConfig

Request = TypeVar("Request")
Response = TypeVar("Response")

_MARGIN_S = 0.02
# In loop time; None while no RPC is being served, such as in background tasks.
_deadline: ContextVar[float | None] = ContextVar("deadline", default=None)


def set_deadline(remaining_s: float | None) -> None:
    """Say how long the caller of this task's RPC will wait; for the interceptor."""
    _deadline.set(None if remaining_s is None else asyncio.get_running_loop().time() + remaining_s)


def current_deadline() -> float | None:
    """When this task's RPC stops being waited for, in loop time."""
    return _deadline.get()


def open_channel(address: str, service_config: str) -> grpc.aio.Channel:
    """A channel to `address` (as SHOP_<SERVICE>_ADDR says it) that balances over all its addresses.

    `service_config` is JSON (grpc.service_config.ServiceConfig): load balancing, time-outs, retries.
    """
    config = ServiceConfig(service_config)
    options = [
        ("grpc.service_config", config.for_core),
        ("grpc.enable_retries", 1),
        # Answers are small and near: pings that measure how much fits on the way cost more than they bring.
        ("grpc.http2.bdp_probe", 0),
        # Services are near; a proxy that is set for the outside world is not for them.
        ("grpc.enable_http_proxy", 0),
        # A server that hangs is noticed within seven seconds, and calls go to the others.
        ("grpc.keepalive_time_ms", 5_000),
        ("grpc.keepalive_timeout_ms", 2_000),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.max_pings_without_data", 0),
        # A server that is restarted is dialled again soon.
        ("grpc.initial_reconnect_backoff_ms", 100),
        ("grpc.max_reconnect_backoff_ms", 2_000),
        ("grpc.max_receive_message_length", 16 << 20),
        # Room for the facts of a failure about many lines; the default refuses 8 KiB.
        ("grpc.max_metadata_size", 64 << 10),
        ("grpc.absolute_max_metadata_size", 128 << 10),
    ]
    return cast("grpc.aio.Channel", _TimedChannel(grpc.aio.insecure_channel(address, options=options), config))


class _TimedChannel:
    """A channel whose calls have the time-out of the service config, or the caller's if that is shorter.

    In the place of an interceptor, which costs a call a task and objects of its own.
    """

    def __init__(self, channel: grpc.aio.Channel, config: ServiceConfig) -> None:
        self._channel = channel
        self._config = config

    def unary_unary(self, method: str, *arguments: Any, **options: Any) -> Callable[..., Any]:
        """The method, to be called as often as one likes."""
        call: Callable[..., Any] = self._channel.unary_unary(method, *arguments, **options)
        most_s = self._config.timeout_s(method)
        return call if most_s is None else partial(_call_in_time, call, most_s)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._channel, name)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._channel.close()


def _call_in_time(
    call: Callable[..., Any], most_s: float, request: Any, *, timeout: float | None = None, **options: Any
) -> Any:
    return call(request, timeout=most_s if timeout is None else min(timeout, most_s), **options)


class Channels:
    """The channels of one process: one per address, shared by all who dial it."""

    def __init__(self, service_config: str) -> None:
        self._service_config = service_config
        self._open: dict[str, grpc.aio.Channel] = {}

    def to(self, address: str) -> grpc.aio.Channel:
        """The channel to `address`, opened on first use. It connects by itself when it is needed."""
        if address not in self._open:
            self._open[address] = open_channel(address, self._service_config)
        return self._open[address]

    async def close(self) -> None:
        """Close them all; calls under way are cancelled."""
        for channel in self._open.values():
            await channel.close()
        self._open.clear()


class Calls:
    """Makes calls in the name of one service. Its failpoints are named `call.<Rpc>`."""

    def __init__(self, credential: ServiceCredential, *, failpoints: Failpoints | None = None) -> None:
        self._credential = credential
        self._failpoints = failpoints

    async def __call__(
        self,
        method: Callable[..., Awaitable[Response]],
        request: Request,
        *,
        timeout_s: float | None = None,
    ) -> Response:
        """Call a stub's method and answer its response. Raises Failure, whatever went wrong.

        The time-out is the least of `timeout_s`, the contract's (service config) and what the current RPC has left.
        """
        timeout_s = _remaining(timeout_s)
        call = partial(method, request, timeout=timeout_s, metadata=self._credential.metadata())
        try:
            return await (call() if self._failpoints is None else _struck(self._failpoints, request, call))
        except grpc.aio.AioRpcError as error:
            raise status.from_rpc_error(error) from error


async def _struck(failpoints: Failpoints, request: object, call: Callable[[], Awaitable[Response]]) -> Response:
    # The contract's style has one request message for each method, named after it.
    name = type(request).__name__.removesuffix("Request")
    try:
        return await around(failpoints, f"call.{name}", call)
    except OutageError as error:
        raise _failed(grpc.StatusCode.UNAVAILABLE) from error
    except AnswerLostError as error:
        raise _failed(grpc.StatusCode.DEADLINE_EXCEEDED) from error


def _failed(code: grpc.StatusCode) -> grpc.aio.AioRpcError:
    return grpc.aio.AioRpcError(code, grpc.aio.Metadata(), grpc.aio.Metadata())


def _remaining(timeout_s: float | None) -> float | None:
    deadline = _deadline.get()
    if deadline is None:
        return timeout_s
    left = deadline - asyncio.get_running_loop().time() - _MARGIN_S
    if left <= 0:
        raise Failure(Kind.DEADLINE_EXCEEDED, "DEADLINE_EXCEEDED", "No time is left for this call.")
    return left if timeout_s is None else min(timeout_s, left)
