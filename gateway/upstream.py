"""The services behind the shim: channels, calls and health.

One persistent channel per address; services that share an address share its channel. Retries of the contract's service
config are made by the channel, within one budget for all calls to an address; its time-outs are given to each call.
"""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import AsyncIterable, Callable, Mapping
from typing import Any

import grpc
from google.protobuf.message import Message
from grpc_health.v1 import health_pb2

from gateway.breaker import Breaker
from gateway.descriptors import Method, message_class
from gateway.outflow import pour
from gateway.unary import Metadata, UnaryMethod
from mesh.service_config import ServiceConfig

Call = Callable[..., Any]
"""(message, *, timeout, metadata) -> a grpc.aio call to await."""

_HEALTH = "/grpc.health.v1.Health/Check"
_HEALTH_S = 2.0
_FOR_EVER_S = 1e9
_OPTIONS: tuple[tuple[str, Any], ...] = (
    ("grpc.enable_retries", 1),
    # Pings that measure how much fits on the way cost more than they bring.
    ("grpc.http2.bdp_probe", 0),
    # Upstreams are near; a proxy that is set for the outside world is not for them.
    ("grpc.enable_http_proxy", 0),
    ("grpc.lb_policy_name", "round_robin"),
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    # An upstream that comes back is found again soon.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 1_000),
    ("grpc.max_reconnect_backoff_ms", 2_000),
    ("grpc.dns_min_time_between_resolutions_ms", 1_000),
    # Room for the facts of a failure about many fields; the default refuses 8 KiB.
    ("grpc.max_metadata_size", 64 << 10),
    ("grpc.absolute_max_metadata_size", 128 << 10),
)
# gRFC A6: a failure that may be retried takes a token, a success gives a tenth of one, and retries are made while more
# than half are left. So an upstream that fails for long gets no more calls than clients make, and a tenth of those that
# go well may be retried for ever.
_RETRY_BUDGET = {"retryThrottling": {"maxTokens": 100, "tokenRatio": 0.1}}


class Upstreams:
    """Owns the channels. Made inside a running loop, closed by `close`."""

    def __init__(self, addresses: Mapping[str, str], *, service_config: str | None, deadline_s: float) -> None:
        """`addresses` maps full service names to targets; `deadline_s` is for methods the config is silent about."""
        options = list(_OPTIONS)
        self._config = ServiceConfig(service_config or "{}")
        options.append(("grpc.service_config", _with_budget(self._config.for_core)))
        self._deadline_s = deadline_s
        self._addresses = dict(addresses)
        self._channels = {
            address: grpc.aio.insecure_channel(address, options=options) for address in set(addresses.values())
        }
        self._breakers = {address: Breaker() for address in self._channels}
        self._health = {address: _health_call(channel) for address, channel in self._channels.items()}

    def call(self, method: Method) -> Call:
        """The call of a method, within the time-out that the service config has for it. Each use is one RPC.

        A call that streams its request takes an iterator of messages. One that streams at all may last as long as it
        likes, where the service config is silent.
        """
        path = f"/{method.service}/{method.name}"
        channel = self._channels[self._addresses[method.service]]
        write, read = message_class(method.input).SerializeToString, message_class(method.output).FromString
        ceiling = self.most_s(method)
        if not method.streaming:
            one = UnaryMethod(channel, path, write=write, read=read)
            return lambda message, *, timeout, metadata: one(message, timeout=min(timeout, ceiling), metadata=metadata)
        kinds: dict[tuple[bool, bool], Any] = {
            (False, True): channel.unary_stream,
            (True, False): channel.stream_unary,
            (True, True): channel.stream_stream,
        }
        many: Call = kinds[method.client_streaming, method.server_streaming](
            path, request_serializer=write, response_deserializer=read
        )
        if not method.client_streaming:
            return lambda message, *, timeout, metadata: many(
                message, timeout=_finite(min(timeout, ceiling)), metadata=metadata
            )

        def taking_many(messages: AsyncIterable[Message], *, timeout: float, metadata: Metadata) -> Any:
            rpc = many(timeout=_finite(min(timeout, ceiling)), metadata=metadata)
            pour(rpc, messages, write)
            return rpc

        return taking_many

    def most_s(self, method: Method) -> float:
        """How long a call of a method may take at most."""
        most_s = self._config.timeout_s(f"/{method.service}/{method.name}")
        return most_s or (math.inf if method.streaming else self._deadline_s)

    def breaker(self, method: Method) -> Breaker:
        """The breaker of the upstream that serves a method."""
        return self._breakers[self._addresses[method.service]]

    async def not_ready(self) -> dict[str, str]:
        """The services that do not answer SERVING to a health check, and what they answer, within 2 s."""
        names = sorted(self._addresses)
        states = await asyncio.gather(*(self._state(name) for name in names))
        return {name: state for name, state in zip(names, states, strict=True) if state != "SERVING"}

    async def close(self) -> None:
        """Close all channels; calls in flight are cancelled. Idempotent."""
        await asyncio.gather(*(channel.close() for channel in self._channels.values()))

    async def _state(self, service: str) -> str:
        check = self._health[self._addresses[service]]
        try:
            answer = await check(health_pb2.HealthCheckRequest(service=service), timeout=_HEALTH_S)
        except grpc.aio.AioRpcError as error:
            # A server without the health service is taken at its word that it answers.
            code = error.code()
            return "SERVING" if code is grpc.StatusCode.UNIMPLEMENTED else code.name
        return str(health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status))


def _with_budget(service_config: str) -> str:
    """The service config, with a budget of retries unless it sets one."""
    return json.dumps({**_RETRY_BUDGET, **json.loads(service_config)})


def _finite(timeout: float) -> float | None:
    """A time-out that gRPC can count with: it takes the longest for none at all, and then for one that has passed."""
    return timeout if timeout < _FOR_EVER_S else None


def _health_call(channel: grpc.aio.Channel) -> Call:
    call: Call = channel.unary_unary(
        _HEALTH,
        request_serializer=health_pb2.HealthCheckRequest.SerializeToString,
        response_deserializer=health_pb2.HealthCheckResponse.FromString,
    )
    return call
