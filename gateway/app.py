"""The shim put together. The only file here that constructs things."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from functools import partial
from ipaddress import ip_network
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.types import ASGIApp
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from gateway import descriptors, routes, service_config
from gateway.api import Api, Endpoint, Receive, Scope, Send
from gateway.cache import ResponseCache
from gateway.codec import Codec, JsonForm
from gateway.coding import LEAST_BYTES
from gateway.descriptors import ConfigError, Schema
from gateway.errors import UpstreamErrors
from gateway.head import MAX_METADATA_BYTES, OWN_HEADERS
from gateway.limits import KINDS, SLOWEST, Limits
from gateway.metrics import Meter
from gateway.openapi import OpenApi
from gateway.pages import PAGES, Pages
from gateway.routes import ANY_METHOD, MethodNotAllowedError, Route, Router
from gateway.tokens import Issuer, Tokens
from gateway.transcode import Transcoder
from gateway.upstream import Upstreams

if TYPE_CHECKING:
    from gateway.shared_rates import SharedRates
    from gateway.spans import Spans

__all__ = ["OTLP_ENDPOINT", "ConfigError", "Gateway", "GatewayConfig"]

_Around = Callable[[ASGIApp], ASGIApp]

OTLP_ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"
"""The variable that programs read `otlp_endpoint` from, as all do that make spans."""
_MOST_DEADLINE_S = 30.0
_HEADER = re.compile(r"[A-Za-z0-9_.-]+")
_ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://[^/\s]+")
_DIRECTIVE = r"[A-Za-z-]+(=([\w-]+|\"[ !#-\[\]-~]*\"))?"
_CACHE_CONTROL = re.compile(rf"{_DIRECTIVE}(, *{_DIRECTIVE})*", re.ASCII)
_COLLECTOR = re.compile(r"https?://[^/\s]+/?")
_CORS_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")
# What a script may read of an answer beyond what it always may.
_CORS_EXPOSED = ("age", "etag", "location", "ratelimit", "ratelimit-policy", "retry-after", "x-request-id")
_CORS_MAX_AGE_S = 600


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayConfig:
    """What a gateway serves. Only the services that `upstreams` names are served, whatever else the set holds."""

    descriptor_set: bytes = field(repr=False)
    """A serialized FileDescriptorSet with all imports; with source info, its comments become documentation."""
    upstreams: Mapping[str, str]
    """Full service name -> gRPC target, such as `pkg.v1.Service` -> `127.0.0.1:50051`."""
    service_config: str | None = None
    """A gRPC service config (JSON text) for the channels."""
    forward_headers: tuple[str, ...] = ()
    """More headers that become metadata, in any letter case."""
    max_body_bytes: int = 1 << 20
    max_metadata_bytes: int = MAX_METADATA_BYTES
    """Of what is passed on of a request's headers, each counted with 32 bytes more. Upstreams that take more than gRPC
    servers do unless they are told otherwise can be given it."""
    deadline_s: float = 10.5
    """Of a call to a method that the service config gives no time-out; at most 30. A client may ask for less."""
    title: str = "API"
    cors_origins: tuple[str, ...] = ()
    """Of pages whose scripts may call; `*` is every page's."""
    jwt: Mapping[str, str] | None = None
    """Whose tokens are let through: `issuer`, `audience`, and `jwks_uri` unless the issuer's OpenID configuration tells
    it. Without it, tokens are for the upstreams to verify."""
    rate_limits: Mapping[str, float] = field(default_factory=dict)
    """How many requests a second each `address`, and each `client` by its Authorization, may make: to this
    process, or to all that share a Redis."""
    redis_url: str | None = field(default=None, repr=False)
    """A Redis through which replicas tell each other what they have counted for `rate_limits`."""
    cache_s: Mapping[str, float] = field(default_factory=dict)
    """Full method name, such as `pkg.v1.Service.GetThing` -> seconds for which an answer may be given to others who ask
    for the same without credentials. Only of methods marked NO_SIDE_EFFECTS."""
    cache_control: Mapping[str, str] = field(default_factory=dict)
    """Full method name -> what browsers and proxies may do with its good answers, such as `private, max-age=60`. Of any
    method that does not stream."""
    trusted_proxies: tuple[str, ...] = ()
    """Addresses and networks (CIDR) in front, whose word on where a request comes from counts; `*` for everybody's.
    Upstreams are told the client's address as `x-forwarded-for`, if there are any."""
    otlp_endpoint: str = ""
    """Of a collector that takes spans by OTLP over gRPC, such as `http://127.0.0.1:4317`; without it, none are made."""
    emit_defaults: bool = True
    """How answers are written, and fields that are wrong are named, as are the next two: see `JsonForm`."""
    enums_as_ints: bool = False
    proto_names: bool = False

    @property
    def form(self) -> JsonForm:
        """How answers are written."""
        return JsonForm(
            emit_defaults=self.emit_defaults, enums_as_ints=self.enums_as_ints, proto_names=self.proto_names
        )

    def problems(self) -> list[str]:
        """What is wrong with the values by themselves."""
        found = []
        if not self.upstreams:
            found.append("upstreams: name at least one service")
        found += [
            f"upstreams: {name} is at {address!r}, which is not of the form HOST:PORT"
            for name, address in self.upstreams.items()
            if ":" not in address
        ]
        if not 0 < self.deadline_s <= _MOST_DEADLINE_S:
            found.append(f"deadline_s: must be more than 0 and at most {_MOST_DEADLINE_S:g}, not {self.deadline_s:g}")
        found += _wrong_issuer(self.jwt)
        found += [
            f"rate_limits: {name} is none of {', '.join(KINDS)}" for name in self.rate_limits if name not in KINDS
        ]
        found += [
            f"rate_limits: {name} must be a number from {SLOWEST:f}"
            for name, rate in self.rate_limits.items()
            if not SLOWEST <= rate < math.inf
        ]
        found += [
            f"cache_control: {name} has {text!r}, which is no Cache-Control"
            for name, text in self.cache_control.items()
            if not _CACHE_CONTROL.fullmatch(text)
        ]
        if self.redis_url:
            found += [f"redis_url: {problem}" for problem in _wrong_redis(self.redis_url)]
        found += [f"trusted_proxies: {name!r} is no address or network" for name in _no_networks(self.trusted_proxies)]
        if self.max_body_bytes < 1:
            found.append(f"max_body_bytes: must be positive, not {self.max_body_bytes}")
        if self.max_metadata_bytes < 1:
            found.append(f"max_metadata_bytes: must be positive, not {self.max_metadata_bytes}")
        if self.otlp_endpoint and not _COLLECTOR.fullmatch(self.otlp_endpoint):
            found.append(f"otlp_endpoint: {self.otlp_endpoint!r} is no URL such as http://127.0.0.1:4317")
        found += [f"forward_headers: {name!r} cannot be passed on" for name in _not_to_be_passed(self.forward_headers)]
        found += [
            f"cors_origins: {origin!r} is no origin such as https://www.example"
            for origin in self.cors_origins
            if origin != "*" and not _ORIGIN.fullmatch(origin)
        ]
        return found


class Gateway:
    """A REST shim in front of gRPC services. Made inside a running loop; closed by `close`.

    Raises ConfigError, naming every problem, before any channel is opened.
    """

    def __init__(self, config: GatewayConfig) -> None:
        schema = descriptors.load(config.descriptor_set)
        built = _routes(schema, config)
        self._spans = _spans(config.otlp_endpoint) if config.otlp_endpoint else None
        self._upstreams = Upstreams(
            config.upstreams, service_config=config.service_config, deadline_s=config.deadline_s
        )
        codec = Codec(schema.pool, config.form)
        router = _router(built, codec, self._upstreams, config)
        self._cache = ResponseCache()
        self._tokens = Tokens(Issuer(**config.jwt)) if config.jwt else None
        self._shared = _shared_rates(config.redis_url) if config.redis_url and config.rate_limits else None
        api = Api(
            router,
            # In the one form that our own errors have.
            UpstreamErrors(schema.pool, Codec(schema.pool).writer),
            forward_headers=config.forward_headers,
            max_body_bytes=config.max_body_bytes,
            max_metadata_bytes=config.max_metadata_bytes,
            cache=self._cache,
            tokens=self._tokens,
            limits=_limits(config, self._shared),
            spans=self._spans,
            tells_address=bool(config.trusted_proxies),
        )
        openapi = OpenApi(schema, title=config.title, form=config.form, is_limited=bool(config.rate_limits))
        pages = Pages(openapi.document(built), self._upstreams.not_ready, has_home=not _claims_root(router))
        cors = _cors(config.cors_origins, built) if config.cors_origins else None
        self._app = _Shim(api, pages, cors=cors, trusted_proxies=config.trusted_proxies)

    def asgi(self) -> Starlette:
        """The ASGI app: the API, and /livez, /readyz, /metrics, /openapi.json and /docs, which are asked first.

        `/` leads to /docs, unless a route claims it.
        """
        return self._app

    async def close(self) -> None:
        """Close the channels. Idempotent."""
        await self._cache.close()
        if self._shared is not None:
            await self._shared.close()
        if self._tokens is not None:
            await self._tokens.close()
        await self._upstreams.close()
        if self._spans is not None:
            await self._spans.close()


def _wrong_redis(url: str) -> list[str]:
    from gateway.shared_rates import wrong_url  # noqa: PLC0415 - the package imports much that few need

    return wrong_url(url)


def _shared_rates(url: str) -> SharedRates:
    from gateway.shared_rates import SharedRates  # noqa: PLC0415 - as above

    return SharedRates(url)


def _limits(config: GatewayConfig, shared: SharedRates | None) -> Limits | None:
    if not config.rate_limits:
        return None
    return Limits(config.rate_limits, note=shared.note if shared is not None else None)


class _Shim(Starlette):
    """Starlette for the fixed pages and whatever the owner adds; all other paths go straight to the API."""

    def __init__(self, api: Api, pages: Pages, *, cors: _Around | None, trusted_proxies: tuple[str, ...]) -> None:
        compressing = Middleware(GZipMiddleware, minimum_size=LEAST_BYTES)
        super().__init__(routes=pages.routes, exception_handlers=pages.exception_handlers, middleware=[compressing])
        # Uvicorn's types of ASGI are its own.
        trusting: Any = ProxyHeadersMiddleware
        self._api: ASGIApp = trusting(api, list(trusted_proxies)) if trusted_proxies else api
        self._cors = cors(self._any) if cors is not None else None
        self._counted = 0
        self._pages: set[str | None] = set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope.get("root_path"):
            scope = _beneath(scope)
        # Only a page of another origin needs the word of this one.
        if (
            self._cors is not None
            and scope["type"] == "http"
            and any(name == b"origin" for name, _ in scope["headers"])
        ):
            await self._cors(scope, receive, send)
        else:
            await self._any(scope, receive, send)

    async def _any(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and not self._has_page(scope["path"]):
            await self._api(scope, receive, send)
        else:
            await super().__call__(scope, receive, send)

    def _has_page(self, path: str) -> bool:
        # The owner may have added some.
        if len(self.router.routes) != self._counted:
            self._counted = len(self.router.routes)
            self._pages = {getattr(route, "path", None) for route in self.router.routes}
        return path in self._pages


def _beneath(scope: Scope) -> Scope:
    """The scope of an app that is mounted under a path, as if it were not."""
    root: str = scope["root_path"].rstrip("/")
    path: str = scope["path"]
    if not path.startswith(root):
        return scope
    raw: bytes = scope.get("raw_path") or quote(path).encode()
    # As many segments, however they are written.
    raw = b"/" + raw.split(b"/", root.count("/") + 1)[-1]
    return {**scope, "path": path[len(root) :] or "/", "raw_path": raw, "root_path": ""}


def _cors(origins: tuple[str, ...], built: list[Route]) -> _Around:
    # The usual methods, and those that routes have of their own.
    own = {route.rule.http_method for route in built} - {*_CORS_METHODS, ANY_METHOD}
    return partial(
        CORSMiddleware,
        allow_origins=origins,
        allow_methods=(*_CORS_METHODS, *sorted(own)),
        allow_headers=["*"],
        expose_headers=_CORS_EXPOSED,
        max_age=_CORS_MAX_AGE_S,
    )


def _spans(endpoint: str) -> Spans:
    try:
        from gateway.spans import Spans  # noqa: PLC0415 - who makes none need not have the packages
    except ImportError as error:
        raise ConfigError([f"otlp_endpoint: needs the packages of the extra `tracing` ({error})"]) from error
    return Spans(endpoint)


def _routes(schema: Schema, config: GatewayConfig) -> list[Route]:
    problems = config.problems()
    known = [name for name in config.upstreams if name in schema.services]
    problems += [
        f"upstreams: {name} is not in the descriptor set" for name in config.upstreams if name not in schema.services
    ]
    if config.service_config is not None:
        methods = {name: frozenset(method.name for method in schema.services[name]) for name in known}
        wrong = service_config.problems(config.service_config, methods)
        problems += [f"service_config: {problem}" for problem in wrong]
    built, unlawful = routes.build(schema, known)
    problems += unlawful
    problems += [
        f"{route.method.file}: {route.method.full_name}: {route.rule.path} is a page of the gateway's own"
        for route in built
        if route.rule.path in PAGES
    ]
    if known and not built and not unlawful:
        problems.append(f"no method of {', '.join(known)} has a rule (google.api.http)")
    problems += _not_to_be_kept(built, config.cache_s)
    problems += _not_one_answer(built, config.cache_control)
    if problems:
        raise ConfigError(problems)
    return built


def _not_to_be_kept(built: list[Route], cache_s: Mapping[str, float]) -> list[str]:
    safe = {route.method.full_name: route.method.is_safe and not route.method.streaming for route in built}
    wrong = [f"cache_s: {name} is not served" for name in cache_s if name not in safe]
    wrong += [
        f"cache_s: {name} is not marked NO_SIDE_EFFECTS, or streams" for name in cache_s if not safe.get(name, True)
    ]
    return wrong + [f"cache_s: {name} must be positive, not {value:g}" for name, value in cache_s.items() if value <= 0]


def _not_one_answer(built: list[Route], cache_control: Mapping[str, str]) -> list[str]:
    streams = {route.method.full_name: route.method.server_streaming for route in built}
    wrong = [f"cache_control: {name} is not served" for name in cache_control if name not in streams]
    return wrong + [f"cache_control: {name} streams, and is not kept" for name in cache_control if streams.get(name)]


def _router(built: list[Route], codec: Codec, upstreams: Upstreams, config: GatewayConfig) -> Router[Endpoint]:
    router: Router[Endpoint] = Router()
    for route in built:
        method = route.method
        transcoder = Transcoder(route, codec)
        endpoint = Endpoint(
            transcoder,
            upstreams.call(method),
            upstreams.breaker(method),
            Meter(route.rule.path),
            rpc=f"{method.service}/{method.name}",
            takes_many=method.client_streaming,
            answers_many=method.server_streaming,
            most_s=upstreams.most_s(method),
            access=method.access,
            cache_s=config.cache_s.get(method.full_name, 0) if not transcoder.takes_body else 0,
            cache_control=config.cache_control.get(method.full_name, "").encode(),
        )
        router.add(route.template, route.rule.http_method, endpoint)
    return router


def _claims_root(router: Router[Endpoint]) -> bool:
    try:
        return router.match("GET", "/") is not None
    except MethodNotAllowedError:
        return True


def _wrong_issuer(given: Mapping[str, str] | None) -> list[str]:
    if given is None:
        return []
    known = {one.name for one in fields(Issuer)}
    places = [name for name in ("issuer", "jwks_uri") if given.get(name) and not _ORIGIN.match(given[name])]
    wrong = [f"jwt: {name} is no key; there are {', '.join(sorted(known))}" for name in given if name not in known]
    wrong += [f"jwt: {name} must be a URL, not {given[name]!r}" for name in places]
    return wrong + [f"jwt: {name} is missing" for name in ("issuer", "audience") if not given.get(name)]


def _no_networks(names: tuple[str, ...]) -> list[str]:
    wrong = []
    for name in names:
        try:
            if name != "*":
                ip_network(name)
        except ValueError:
            wrong.append(name)
    return wrong


def _not_to_be_passed(names: tuple[str, ...]) -> list[str]:
    """Names that are none, that gRPC has another form for, and those that mean something here."""
    return [
        name
        for name in names
        if not _HEADER.fullmatch(name) or name.lower().endswith("-bin") or name.lower().encode() in OWN_HEADERS
    ]
