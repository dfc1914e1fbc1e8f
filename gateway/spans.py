"""Spans of requests and of their calls, sent to an OpenTelemetry collector. Imported only where one is configured.

Names and attributes are those of the semantic conventions for HTTP and RPC. What a path holds may be an id that nobody
else should know, so `url.path` is the route's template, and there is no `url.query`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

import grpc
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, OTELResourceDetector, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import (
    NonRecordingSpan,
    Span,
    SpanContext,
    SpanKind,
    StatusCode,
    TraceFlags,
    TraceState,
    set_span_in_context,
)

from gateway.metrics import UNMATCHED, known_method
from gateway.trace import Trace

_SERVER_ERROR = 500
Call = Callable[..., Any]
"""(*, metadata) -> a grpc.aio call."""
Metadata = tuple[tuple[str, str], ...]

# How long what is left may take to be sent at the end.
_FLUSH_S = 3.0


class Spans:
    """Makes the spans of one gateway. Make it on the running loop; `close` sends what is left."""

    def __init__(self, endpoint: str) -> None:
        """`endpoint` is the collector's URL, where it takes OTLP over gRPC; https for TLS.

        All else is as OTEL_* variables say: OTEL_SERVICE_NAME, OTEL_TRACES_SAMPLER and so on. Without them, what has no
        parent is sampled, and what has one as that is.
        """
        resource = Resource.create({SERVICE_NAME: "gateway"}).merge(OTELResourceDetector().detect())
        self._provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        self._exporter = OTLPSpanExporter(endpoint=endpoint)
        self._provider.add_span_processor(BatchSpanProcessor(self._exporter))
        self._tracer = self._provider.get_tracer("gateway")
        self._calls: set[asyncio.Task[None]] = set()

    def start(self, scope: Mapping[str, Any], trace: Trace) -> RequestSpan:
        """The span of a request; `trace` is what its headers tell."""
        method = known_method(scope["method"])
        attributes: dict[str, str | int] = {
            "http.request.method": method,
            "url.scheme": scope["scheme"],
            "network.protocol.version": scope["http_version"],
        }
        if method != scope["method"]:
            attributes["http.request.method_original"] = scope["method"]
        if scope.get("client"):
            attributes["client.address"] = scope["client"][0]
        if scope.get("server"):
            attributes["server.address"], attributes["server.port"] = scope["server"]
        parent = None if trace.is_new else set_span_in_context(NonRecordingSpan(_context_of(trace)))
        return RequestSpan(self, self._tracer.start_span(method, parent, SpanKind.SERVER, attributes), trace)

    def start_call(self, request: Span, rpc: str) -> Span:
        """A span of a call inside of a request's."""
        attributes = {"rpc.system.name": "grpc", "rpc.method": rpc}
        return self._tracer.start_span(rpc, set_span_in_context(request), SpanKind.CLIENT, attributes)

    def end_with(self, span: Span, call: Any) -> None:
        """End a span when its call ends."""
        task = asyncio.create_task(_end_with(span, call), name="end a span")
        self._calls.add(task)
        task.add_done_callback(self._calls.discard)

    async def close(self) -> None:
        """Send what is left, for 3 s at most. No call may be under way any more."""
        await asyncio.gather(*self._calls)
        sending = asyncio.ensure_future(asyncio.to_thread(self._provider.shutdown))
        await asyncio.wait({sending}, timeout=_FLUSH_S)
        if not sending.done():
            # Who waits for a collector that does not answer, waits no longer.
            self._exporter.shutdown(timeout_millis=0)
        await sending


class RequestSpan:
    """The span of one request. `trace` is what others are told of it."""

    def __init__(self, spans: Spans, span: Span, asked_in: Trace) -> None:
        self._spans = spans
        self._span = span
        self.trace = _trace_of(span, asked_in)

    def call(self, rpc: str, make: Call, metadata: Metadata) -> Any:
        """Begin the request's call to `pkg.Service/Method` with a span of its own, of which its metadata tell."""
        span = self._spans.start_call(self._span, rpc)
        call = make(metadata=(*metadata, *_trace_of(span, self.trace).metadata))
        self._spans.end_with(span, call)
        return call

    def end(self, method: str, route: str, status: int, *, sent: int) -> None:
        """The request came to that status, and was one to that route, or UNMATCHED.

        `sent` is the status that the client got: a stream's, though it failed behind it.
        """
        if route != UNMATCHED:
            self._span.update_name(f"{known_method(method)} {route}")
            self._span.set_attributes({"http.route": route, "url.path": route})
        self._span.set_attribute("http.response.status_code", sent)
        if status >= _SERVER_ERROR:
            self._span.set_attribute("error.type", str(status))
            self._span.set_status(StatusCode.ERROR)
        self._span.end()


def _trace_of(span: Span, outer: Trace) -> Trace:
    """What others are told of a span: that it is inside of the outer one, if OTEL_SDK_DISABLED makes it none."""
    context = span.get_span_context()
    if not context.is_valid:
        return outer
    return Trace(
        f"{context.trace_id:032x}", f"{context.span_id:016x}", int(context.trace_flags), context.trace_state.to_header()
    )


async def _end_with(span: Span, call: Any) -> None:
    code = await call.code()
    span.set_attribute("rpc.response.status_code", code.name)
    if code is not grpc.StatusCode.OK:
        span.set_attribute("error.type", code.name)
        span.set_status(StatusCode.ERROR)
    span.end()


def _context_of(trace: Trace) -> SpanContext:
    return SpanContext(
        trace_id=int(trace.trace_id, 16),
        span_id=int(trace.span_id, 16),
        is_remote=True,
        trace_flags=TraceFlags(trace.flags),
        trace_state=TraceState.from_header([trace.state] if trace.state else []),
    )
