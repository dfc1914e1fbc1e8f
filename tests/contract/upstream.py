"""The upstream of the table: a real grpc.aio server that does what the case at hand tells it, and notes what it saw."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
from google.protobuf import any_pb2, descriptor_pool, json_format, text_format
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2

from gateway.descriptors import Method, load, message_class

SERVICE = "table.v1.Table"
PROTOS = {path.stem: path.read_text() for path in sorted(Path(__file__).parent.glob("*.proto"))}
"""The files of the service, by their names."""
_Context = grpc.aio.ServicerContext[Any, Any]
_HANDLERS: Mapping[tuple[bool, bool], Any] = {
    (False, False): grpc.unary_unary_rpc_method_handler,
    (False, True): grpc.unary_stream_rpc_method_handler,
    (True, False): grpc.stream_unary_rpc_method_handler,
    (True, True): grpc.stream_stream_rpc_method_handler,
}
# Only who has imported the file of these can pack them.
_DETAILS_POOL = error_details_pb2.DESCRIPTOR.pool


@dataclass(frozen=True, slots=True)
class Script:
    """What to do with the next call: answer `replies` (in protobuf's text format; None: what came), then the end.

    `fails` is the code and the message to end in, with details, each an Any in JSON or in bytes; or what to raise
    instead.
    """

    replies: Sequence[str] | None = None
    fails: Mapping[str, Any] = field(default_factory=dict)
    hangs: bool = False


@dataclass(frozen=True, slots=True)
class Seen:
    """What a call brought. The messages are JSON as google.protobuf.json_format writes it, which is not the gateway."""

    rpc: str
    messages: Sequence[Any]
    metadata: Mapping[str, str]
    left_s: float | None


class Upstream(grpc.GenericRpcHandler):
    """Serves the methods of table.proto. `script` is set before a call, `seen` is read behind it."""

    def __init__(self, descriptor_set: bytes) -> None:
        schema = load(descriptor_set)
        self._pool = schema.pool
        self._methods = {f"/{SERVICE}/{one.name}": one for one in schema.services[SERVICE]}
        self.script = Script()
        self.seen: Seen | None = None

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[Any, Any] | None:
        method = self._methods.get(handler_call_details.method)
        if method is None:
            return None
        handler: grpc.RpcMethodHandler[Any, Any] = _HANDLERS[method.client_streaming, method.server_streaming](
            self._many(method) if method.server_streaming else self._one(method),
            request_deserializer=message_class(method.input).FromString,
            response_serializer=message_class(method.output).SerializeToString,
        )
        return handler

    def _one(self, method: Method) -> Any:
        async def answer(request: Any, context: _Context) -> Message:
            replies = await self._replies(method, request, context)
            await self._end(context)
            return replies[-1] if replies else message_class(method.output)()

        return answer

    def _many(self, method: Method) -> Any:
        async def answer(request: Any, context: _Context) -> AsyncIterator[Message]:
            for reply in await self._replies(method, request, context):
                yield reply
            await self._end(context)

        return answer

    async def _replies(self, method: Method, request: Any, context: _Context) -> list[Message]:
        requests = [one async for one in request] if method.client_streaming else [request]
        self.seen = Seen(
            rpc=method.name,
            messages=[json_format.MessageToDict(one, descriptor_pool=self._pool) for one in requests],
            metadata={key: str(value) for key, value in context.invocation_metadata() or ()},
            left_s=context.time_remaining(),
        )
        if self.script.replies is None:
            return requests if method.input is method.output else []
        new = message_class(method.output)
        return [text_format.Parse(text, new(), descriptor_pool=self._pool) for text in self.script.replies]

    async def _end(self, context: _Context) -> None:
        if self.script.hangs:
            await asyncio.Event().wait()
        fails = self.script.fails
        if "raises" in fails:
            raise RuntimeError(fails["raises"])
        if fails:
            code, message = grpc.StatusCode[fails["code"]], fails.get("message", "")
            details = [self._packed(detail) for detail in fails.get("details", ())]
            status = status_pb2.Status(code=code.value[0], message=message, details=details)
            trailing = (("grpc-status-details-bin", status.SerializeToString()),) if details else ()
            await context.abort(code, message, trailing)

    def _packed(self, detail: dict[str, Any]) -> any_pb2.Any:
        """A detail of a type that google.rpc or table.proto knows, or an empty one of a type that nobody knows.

        What JSON has no form for is given as `bytes`.
        """
        if "bytes" in detail:
            return any_pb2.Any(type_url=detail["@type"], value=detail["bytes"])
        for pool in (_DETAILS_POOL, self._pool):
            if _knows(pool, detail["@type"].rpartition("/")[2]):
                return json_format.ParseDict(detail, any_pb2.Any(), descriptor_pool=pool)
        return any_pb2.Any(type_url=detail["@type"])


def _knows(pool: descriptor_pool.DescriptorPool, name: str) -> bool:
    try:
        pool.FindMessageTypeByName(name)
    except KeyError:
        return False
    return True


@asynccontextmanager
async def serving(descriptor_set: bytes) -> AsyncIterator[tuple[Upstream, str]]:
    """An upstream that serves within the block, and its address."""
    upstream = Upstream(descriptor_set)
    server = grpc.aio.server()
    server.add_generic_rpc_handlers([upstream])
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield upstream, f"127.0.0.1:{port}"
    finally:
        await server.stop(None)
