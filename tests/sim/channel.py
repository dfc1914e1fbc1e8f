"""Channels with the interface that generated stubs use: serializers, the contract's time-outs and retries, errors."""

import asyncio
import json
from collections.abc import Callable, Mapping
from typing import Any

import grpc

from mesh.service_config import ServiceConfig
from tests.sim.transport import Answer, Metadata, Network

# What a stub's method takes for a message.
Serializer = Callable[[Any], bytes]
Deserializer = Callable[[bytes], Any]


class Channels:
    """What mesh.channel.Channels is to a program; channels to any address, one service config for all."""

    def __init__(self, network: Network, service_config: str) -> None:
        self._network = network
        self._timeouts = ServiceConfig(service_config)
        self._retries = _retries(json.loads(service_config))

    def to(self, address: str) -> "Channel":
        """The channel to an address."""
        return Channel(self._network, address, timeouts=self._timeouts, retries=self._retries)

    async def close(self) -> None:
        """Nothing is held open."""


class Channel:
    """What grpc.aio.Channel is to stubs."""

    def __init__(
        self, network: Network, address: str, *, timeouts: ServiceConfig, retries: Mapping[str, list[float]]
    ) -> None:
        self._network = network
        self._address = address
        self._timeouts = timeouts
        self._retries = retries

    def unary_unary(
        self, method: str, request_serializer: Serializer, response_deserializer: Deserializer, **_: Any
    ) -> Callable[..., Any]:
        """A method to call."""

        async def call(request: Any, *, timeout: float | None = None, metadata: Metadata = ()) -> Any:  # noqa: ASYNC109 - gRPC's name
            answer = await self._call(method, request_serializer(request), metadata, timeout)
            if answer.code is grpc.StatusCode.OK:
                return response_deserializer(answer.data)
            trailer = grpc.aio.Metadata(*answer.trailer)
            raise grpc.aio.AioRpcError(answer.code, grpc.aio.Metadata(), trailer, details=answer.details)

        return call

    def unary_stream(self, method: str, *_: Any, **__: Any) -> Callable[..., Any]:
        """Streams are not simulated."""

        def refuse(*_: Any, **__: Any) -> Any:
            raise NotImplementedError(method)

        return refuse

    async def close(self, grace: float | None = None) -> None:
        """Nothing is held open."""

    async def _call(self, path: str, data: bytes, metadata: Metadata, timeout_s: float | None) -> Answer:
        """A call with its retries (gRFC A6), all within its time-out."""
        loop = asyncio.get_running_loop()
        limits = [limit for limit in (timeout_s, self._timeouts.timeout_s(path)) if limit is not None]
        deadline = loop.time() + min(limits)
        for pause_s in (*self._retries.get(path, ()), None):
            answer = await self._network.call(self._address, path, data, metadata, deadline - loop.time())
            is_last = pause_s is None or loop.time() + pause_s >= deadline
            if is_last or answer.code is not grpc.StatusCode.UNAVAILABLE:
                break
            self._network.log.count("retries by gRPC")
            await asyncio.sleep(pause_s or 0.0)
        return answer


def _retries(config: dict[str, Any]) -> dict[str, list[float]]:
    """By method's path, how long each retry waits; without the jitter."""
    found = {}
    for method in config["methodConfig"]:
        policy = method.get("retryPolicy")
        for name in method["name"] if policy else ():
            first_s, most_s = (float(policy[key].removesuffix("s")) for key in ("initialBackoff", "maxBackoff"))
            pauses = [min(most_s, first_s * policy["backoffMultiplier"] ** n) for n in range(policy["maxAttempts"] - 1)]
            found[f"/{name['service']}/{name['method']}"] = pauses
    return found
