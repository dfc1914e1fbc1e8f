"""The pages that every shim has: liveness, readiness, metrics, the OpenAPI document and its viewer from local files."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus
from importlib import resources
from typing import Any

import orjson
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute, Route

from gateway.errors import HttpError, answer_of, internal, method_not_allowed, not_found, unavailable

_ASSETS = {
    "swagger-ui.css": "text/css",
    "swagger-ui-bundle.js": "text/javascript",
    "start.js": "text/javascript",
    "favicon.png": "image/png",
}
# The viewer styles elements from its script, hence the one exception.
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    "connect-src 'self'; font-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_DOCS_HEADERS = {
    "content-security-policy": _POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
}
_JSON = "application/json"

PAGES = frozenset({"/livez", "/readyz", "/metrics", "/openapi.json", "/docs", *(f"/docs/{name}" for name in _ASSETS)})
"""Their paths; routes that are asked behind them cannot have the same."""

NotReady = Callable[[], Awaitable[Mapping[str, str]]]


class Pages:
    """The pages' routes and the handlers of their errors, for Starlette."""

    def __init__(self, document: Mapping[str, Any], not_ready: NotReady, *, has_home: bool) -> None:
        """`not_ready` answers the services that are not ready and their states; `has_home` adds `/`."""
        self._document = orjson.dumps(document)
        self._not_ready = not_ready
        self._has_home = has_home

    @property
    def routes(self) -> list[BaseRoute]:
        """All pages."""
        return [
            Route("/livez", self._livez),
            Route("/readyz", self._readyz),
            Route("/metrics", _metrics),
            Route("/openapi.json", self._openapi),
            Route("/docs", _asset("index.html", "text/html")),
            *(Route(f"/docs/{name}", _asset(name, kind)) for name, kind in _ASSETS.items()),
            *([Route("/", _home)] if self._has_home else []),
        ]

    @property
    def exception_handlers(self) -> Mapping[Any, Any]:
        """What answers errors in the one form that all errors have."""
        return {HTTPException: _refuse, HttpError: _refuse_ours, Exception: _fail}

    async def _livez(self, _: Request) -> Response:
        return Response(b'{"status":"alive"}', media_type=_JSON)

    async def _readyz(self, _: Request) -> Response:
        missing = await self._not_ready()
        if missing:
            raise unavailable(f"not ready: {', '.join(missing)}", "NOT_READY", missing)
        return Response(b'{"status":"ready"}', media_type=_JSON)

    async def _openapi(self, _: Request) -> Response:
        return Response(self._document, media_type=_JSON)


async def _home(_: Request) -> Response:
    return RedirectResponse("/docs")


async def _metrics(_: Request) -> Response:
    """All that this process measures, whoever in it measures it."""
    return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)


def _asset(name: str, media_type: str) -> Callable[[Request], Awaitable[Response]]:
    data = resources.files("gateway").joinpath("assets", name).read_bytes()

    async def page(_: Request) -> Response:
        return Response(data, media_type=media_type, headers=_DOCS_HEADERS)

    return page


async def _refuse(_: Request, error: Exception) -> Response:
    if isinstance(error, HTTPException) and error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        allow = (error.headers or {}).get("Allow", "GET").split(", ")
        return _answer(method_not_allowed(sorted(allow)))
    return _answer(not_found())


async def _refuse_ours(_: Request, error: Exception) -> Response:
    return _answer(error if isinstance(error, HttpError) else internal())


async def _fail(_: Request, __: Exception) -> Response:
    """Starlette raises the error again behind this answer, and the server logs it."""
    return _answer(internal())


def _answer(error: HttpError) -> Response:
    code, headers, body = answer_of(error)
    return Response(body, status_code=code, headers={name.decode(): value.decode() for name, value in headers})
