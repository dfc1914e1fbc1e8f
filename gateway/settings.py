"""The config file: a JSON object whose keys are those of `GatewayConfig`, each told what it may be."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from gateway.decode import BadJsonError, parse

# Beyond it nothing is meant.
_MOST = 1e12


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < _MOST


@dataclass(frozen=True, slots=True)
class _Kind:
    told: str
    fits: Callable[[Any], bool]


_BOOL = _Kind("true or false", lambda value: isinstance(value, bool))
_TEXT = _Kind("a text", lambda value: isinstance(value, str))
_TEXTS = _Kind("a list of texts", lambda value: isinstance(value, list) and all(isinstance(one, str) for one in value))
_COUNT = _Kind("a whole number", lambda value: isinstance(value, int) and _is_number(value))
_NUMBER = _Kind("a number", _is_number)
_TEXTS_BY_NAME = _Kind(
    "an object of texts", lambda value: isinstance(value, dict) and all(isinstance(one, str) for one in value.values())
)
_NUMBERS_BY_NAME = _Kind(
    "an object of numbers", lambda value: isinstance(value, dict) and all(_NUMBER.fits(one) for one in value.values())
)
_OBJECT = _Kind("an object", lambda value: isinstance(value, dict))

KEYS: Mapping[str, _Kind] = {
    "upstreams": _TEXTS_BY_NAME,
    "service_config": _OBJECT,
    "title": _TEXT,
    "forward_headers": _TEXTS,
    "cors_origins": _TEXTS,
    "trusted_proxies": _TEXTS,
    "rate_limits": _NUMBERS_BY_NAME,
    "redis_url": _TEXT,
    "jwt": _TEXTS_BY_NAME,
    "cache_s": _NUMBERS_BY_NAME,
    "cache_control": _TEXTS_BY_NAME,
    "otlp_endpoint": _TEXT,
    "deadline_s": _NUMBER,
    "max_body_bytes": _COUNT,
    "max_metadata_bytes": _COUNT,
    "emit_defaults": _BOOL,
    "enums_as_ints": _BOOL,
    "proto_names": _BOOL,
}


def read(text: bytes) -> tuple[dict[str, Any], list[str]]:
    """The values of a config file, as `GatewayConfig` takes them, and what is wrong with it, one line each."""
    try:
        given = parse(text)
    except BadJsonError as error:
        return {}, [f"{error.field} {error}" if error.field else "is not JSON"]
    if not isinstance(given, dict):
        return {}, ["must be a JSON object"]
    problems = list(_problems(given))
    return {} if problems else {name: _value(name, value) for name, value in given.items()}, problems


def _problems(given: Mapping[str, Any]) -> Iterator[str]:
    for name, value in given.items():
        kind = KEYS.get(name)
        if kind is None:
            yield f"{name}: is no key of the config; there are {', '.join(KEYS)}"
        elif not kind.fits(value):
            yield f"{name}: must be {kind.told}"


def _value(name: str, value: Any) -> Any:
    if name == "service_config":
        return json.dumps(value)
    return tuple(value) if isinstance(value, list) else value
