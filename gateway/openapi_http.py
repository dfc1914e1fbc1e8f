"""What HTTP adds to messages, in OpenAPI's words: conditions, bodies of many messages, rates."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from gateway.conditions import guard_of, tag_of
from gateway.errors import JSON
from gateway.routes import ANY_METHOD, Route
from gateway.streams import NDJSON, SSE

_KEY_FIELD = "request_id"
_RATES = ("RateLimit", "RateLimit-Policy")
_ITEMS: Mapping[str, str] = {
    NDJSON.decode(): "A line of JSON for each message.",
    SSE.decode(): "An event for each message, with JSON as its data; an event `error` if it fails behind the first.",
}

HEADERS: Mapping[str, Any] = {
    "ETag": {
        "description": "Which state of the resource this is, for If-None-Match and If-Match.",
        "schema": {"type": "string"},
    },
    "RateLimit": {
        "description": "How many requests are left, and in how many seconds all are again, for each way of counting.",
        "schema": {"type": "string"},
        "example": '"address";r=99;t=1',
    },
    "RateLimit-Policy": {
        "description": "How many requests may come, and in how many seconds, for each way of counting.",
        "schema": {"type": "string"},
        "example": '"address";q=100;w=2',
    },
    "Retry-After": {
        "description": "In how many seconds to try again.",
        "schema": {"type": "integer", "minimum": 1},
    },
}
"""The components that answers refer to."""


def header_parameters(route: Route) -> Iterator[Mapping[str, Any]]:
    """The headers that mean something to a route."""
    method = route.rule.http_method
    if _KEY_FIELD in route.method.input.fields_by_name and method not in ("GET", ANY_METHOD):
        yield _header("Idempotency-Key", f"Stands for the field `{_KEY_FIELD}`; if both are given they must be equal.")
    if _is_conditional(route):
        yield _header("If-None-Match", 'Entity tags such as `"xyzzy"` of what the client has already, or `*`.')
    if _is_guarded(route):
        yield _header(
            "If-Match", 'The entity tag, such as `"xyzzy"`, that the resource must have to be changed, or `*`.'
        )
    if route.method.server_streaming:
        yield _header("Last-Event-ID", "The id of the last event that the client has seen.")


def responses(
    route: Route, content: Mapping[str, Any], failed: Mapping[str, Any], *, is_limited: bool
) -> Mapping[str, Any]:
    """The answers of a route: `content` if all is well, and `failed` otherwise."""
    tagged = {"headers": _headers("ETag")} if _is_tagged(route) else {}
    answers: dict[str, dict[str, Any]] = {"200": {"description": "OK", **tagged, "content": content}}
    if _is_conditional(route):
        answers["304"] = {"description": "The client has it already, as If-None-Match says", **tagged}
    if _is_guarded(route):
        answers["412"] = {"description": "The resource is not as If-Match says", "content": failed}
    if is_limited:
        answers["429"] = {
            "description": "Too many requests",
            "headers": _headers("Retry-After"),
            "content": failed,
        }
    answers["default"] = {"description": "Not OK", "content": failed}
    if is_limited:
        for answer in answers.values():
            answer["headers"] = {**answer.get("headers", {}), **_headers(*_RATES)}
    return answers


def many(schema: Mapping[str, Any], *names: bytes) -> Mapping[str, Any]:
    """A body of many messages of this schema: a JSON array, or a text of one of these media types."""
    array = {"type": "array", "items": schema}
    texts = {
        name: {
            "schema": {
                "type": "string",
                "description": _ITEMS[name],
                "contentMediaType": name,
                "contentSchema": array,
            }
        }
        for name in (one.decode() for one in names)
    }
    return {JSON.decode(): {"schema": array}, **texts}


def _is_tagged(route: Route) -> bool:
    return tag_of(route) is not None and not route.method.server_streaming


def _is_conditional(route: Route) -> bool:
    return route.rule.http_method in ("GET", "HEAD") and _is_tagged(route)


def _is_guarded(route: Route) -> bool:
    return guard_of(route) is not None and not route.method.server_streaming


def _header(name: str, description: str) -> Mapping[str, Any]:
    return {"name": name, "in": "header", "schema": {"type": "string"}, "description": description}


def _headers(*names: str) -> Mapping[str, Any]:
    return {name: {"$ref": f"#/components/headers/{name}"} for name in names}
