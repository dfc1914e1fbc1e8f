"""A collector of spans: a real server of OpenTelemetry's TraceService, that keeps what it is sent."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as messages
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2_grpc as services


class Collector(services.TraceServiceServicer):
    """Keeps spans. `hangs` lets it take none, and never say so."""

    def __init__(self) -> None:
        self.url = ""
        self.hangs = False
        self.asked = asyncio.Event()
        self.spans: list[Any] = []
        self.service_names: set[str] = set()

    async def Export(self, request: Any, _: Any) -> Any:  # noqa: N802 - as the service names it
        self.asked.set()
        if self.hangs:
            await asyncio.Event().wait()
        for group in request.resource_spans:
            self.service_names.add(str(attributes(group.resource)["service.name"]))
            self.spans += [span for scope in group.scope_spans for span in scope.spans]
        return messages.ExportTraceServiceResponse()

    def one(self, name: str) -> Any:
        """The one span of that name."""
        [span] = [one for one in self.spans if one.name == name]
        return span


def attributes(holder: Any) -> Mapping[str, Any]:
    """The attributes of a span or a resource."""
    return {one.key: getattr(one.value, one.value.WhichOneof("value")) for one in holder.attributes}


@asynccontextmanager
async def collecting() -> AsyncIterator[Collector]:
    """A collector that serves within the block."""
    collector, server = Collector(), grpc.aio.server()
    services.add_TraceServiceServicer_to_server(collector, server)  # type: ignore[no-untyped-call]
    collector.url = f"http://127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    await server.start()
    try:
        yield collector
    finally:
        await server.stop(None)
