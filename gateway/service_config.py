"""Whether a text is a service config that gRPC takes, asked of gRPC's core itself, and one that is meant for us."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

import grpc

# As grpc/service_config.proto has them. The core passes over others, and so over what is misspelt.
_KEYS = frozenset(
    ("loadBalancingPolicy", "loadBalancingConfig", "methodConfig", "retryThrottling", "healthCheckConfig")
)
_METHOD_KEYS = frozenset(
    ("name", "waitForReady", "timeout", "maxRequestMessageBytes", "maxResponseMessageBytes", "retryPolicy")
)
# Nobody listens there: a channel that can be made fails to connect, one that cannot tells why.
_NOWHERE = "unix:/nowhere/to/be/found"
_FOUND = re.compile(r"field:(\S*) error:(.*?)(?=; field:|\]$)")
# It tells at once; one that can be made may try again and again.
_WITHIN_S = 1.0


def problems(text: str, methods: Mapping[str, frozenset[str]]) -> list[str]:
    """What is wrong with a service config; `methods` are those of the services that are served, by service.

    Other services may stand in it: one config may be for many.
    """
    try:
        config: Any = json.loads(text)
    except ValueError as error:
        return [f"is not JSON: {error}"]
    if not isinstance(config, dict):
        return ["is not a JSON object"]
    return _refused_by_core(text) or [*_misspelt(config), *_unknown(config, methods)]


def _refused_by_core(text: str) -> list[str]:
    with grpc.insecure_channel(_NOWHERE, options=[("grpc.service_config", text)]) as channel:
        try:
            ask = channel.unary_unary("/nobody/asks", request_serializer=bytes, response_deserializer=bytes)
            ask(b"", timeout=_WITHIN_S, wait_for_ready=False)
        except grpc.RpcError as error:
            told = str(error.details()) if isinstance(error, grpc.Call) else ""
            if isinstance(error, grpc.Call) and error.code() is grpc.StatusCode.INVALID_ARGUMENT:
                return [f"{field} {wrong}" for field, wrong in _FOUND.findall(told)] or [told]
    return []


def _misspelt(config: Mapping[str, Any]) -> Iterator[str]:
    for name in config.keys() - _KEYS:
        yield f"{name} is no key; there are {', '.join(sorted(_KEYS))}"
    for number, method in enumerate(config.get("methodConfig", [])):
        for name in method.keys() - _METHOD_KEYS:
            yield f"methodConfig[{number}].{name} is no key; there are {', '.join(sorted(_METHOD_KEYS))}"


def _unknown(config: Mapping[str, Any], methods: Mapping[str, frozenset[str]]) -> Iterator[str]:
    for number, method in enumerate(config.get("methodConfig", [])):
        if not method.get("name"):
            yield f"methodConfig[{number}].name is missing: it is for no method"
        for place, name in enumerate(method.get("name", [])):
            known = methods.get(name.get("service", ""))
            if known is not None and name.get("method", "") not in {"", *known}:
                yield f"methodConfig[{number}].name[{place}] is {name['method']!r}, which {name['service']} has not"
