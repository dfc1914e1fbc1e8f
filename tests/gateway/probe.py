"""The probe: protos compiled at run time and a real grpc.aio server for them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib import resources
from pathlib import Path
from typing import Any

import google.rpc
import grpc
import httpx
from google.protobuf import any_pb2, descriptor_pb2
from google.rpc import error_details_pb2, status_pb2
from grpc_health.v1 import health_pb2
from grpc_health.v1._async import HealthServicer
from grpc_health.v1.health_pb2_grpc import add_HealthServicer_to_server
from grpc_reflection.v1alpha import reflection
from grpc_tools import protoc

from gateway.app import Gateway, GatewayConfig
from gateway.descriptors import load, message_class
from gateway.server import HttpServer, Limits

SERVICE = "probe.v1.Probe"
HERE = Path(__file__).parent
ROOT = HERE.parent.parent
PACKAGES = Path(next(iter(google.rpc.__path__))).parent.parent


def compile_protos(folder: Path, **sources: str) -> bytes:
    """A descriptor set, with imports and comments, of files given as `name="text"`."""
    for name, text in sources.items():
        (folder / f"{name}.proto").write_text(text)
    out = folder / "set.binpb"
    includes = [folder, ROOT / "protos", PACKAGES, resources.files("grpc_tools") / "_proto"]
    arguments = ["protoc", *(f"-I{path}" for path in includes), "--include_imports", "--include_source_info"]
    code = protoc.main([*arguments, f"--descriptor_set_out={out}", *(f"{name}.proto" for name in sources)])
    assert code == 0
    return out.read_bytes()


def compile_probe(folder: Path) -> bytes:
    return compile_protos(folder, probe=(HERE / "probe.proto").read_text())


class ProbeServer(grpc.GenericRpcHandler):
    """Serves the probe on a free port; `port` may be given to come back where another has been."""

    def __init__(self, descriptor_set: bytes) -> None:
        schema = load(descriptor_set)
        self._methods = {f"/{SERVICE}/{one.name}": one for one in schema.services[SERVICE]}
        self._pool = schema.pool
        self.hanging = asyncio.Event()
        self.cancelled = asyncio.Event()
        self.release = asyncio.Event()
        self.calls = 0
        # Of streams of requests: the texts as they came, and whether the call is over.
        self.arrived: asyncio.Queue[str] = asyncio.Queue()
        self.ended = asyncio.Event()
        self._server = grpc.aio.server()
        self.health = HealthServicer()
        self.port = 0

    async def start(self, port: int = 0) -> None:
        self._server.add_generic_rpc_handlers([self])
        add_HealthServicer_to_server(self.health, self._server)
        reflection.enable_server_reflection((SERVICE, reflection.SERVICE_NAME), self._server, pool=self._pool)
        await self.health.set(SERVICE, health_pb2.HealthCheckResponse.SERVING)
        self.port = self._server.add_insecure_port(f"127.0.0.1:{port}")
        await self._server.start()

    async def stop(self) -> None:
        await self._server.stop(None)

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[Any, Any] | None:
        method = self._methods.get(handler_call_details.method)
        if method is None:
            return None
        requests: Any = message_class(method.input).FromString
        replies: Any = message_class(method.output).SerializeToString
        streamed = {
            "Watch": (grpc.unary_stream_rpc_method_handler, self._watch),
            "Follow": (grpc.unary_stream_rpc_method_handler, self._follow),
            "Download": (grpc.unary_stream_rpc_method_handler, self._download),
            "Collect": (grpc.stream_unary_rpc_method_handler, self._collect),
            "Talk": (grpc.stream_stream_rpc_method_handler, self._talk),
            "Append": (grpc.stream_stream_rpc_method_handler, self._append),
        }.get(method.name)
        if streamed is not None:
            handler, stream = streamed
            return handler(stream, request_deserializer=requests, response_serializer=replies)
        behaviour = {
            "Fail": self._fail,
            "Arrival": self._arrival,
            "Hang": self._hang,
            "ReadStored": self._read,
            "WriteStored": self._write,
        }.get(method.name, self._echo)
        return grpc.unary_unary_rpc_method_handler(
            behaviour,
            request_deserializer=message_class(method.input).FromString,
            response_serializer=message_class(method.output).SerializeToString,
        )

    async def _watch(self, request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> AsyncIterator[Any]:
        new = message_class(self._methods[f"/{SERVICE}/Watch"].output)
        for number in range(request.count):
            yield new(number=number)
        await self._end(request, context)

    async def _follow(self, request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> AsyncIterator[Any]:
        metadata = {key: str(value) for key, value in context.invocation_metadata() or ()}
        seen = metadata.get("last-event-id", "")
        new = message_class(self._methods[f"/{SERVICE}/Follow"].output)
        for number in range(request.count):
            yield new(event_id=f"e{number}", text=f"after {seen}")

    async def _download(self, request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> AsyncIterator[Any]:
        new = message_class(self._methods[f"/{SERVICE}/Download"].output)
        for number in range(request.count):
            yield new(content_type="image/png", data=bytes([number]) * 1000)
        await self._end(request, context)

    async def _collect(self, requests: Any, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
        new = message_class(self._methods[f"/{SERVICE}/Collect"].output)
        return new(collected=[one async for one in self._arriving(requests, context)])

    async def _talk(self, requests: Any, context: grpc.aio.ServicerContext[Any, Any]) -> AsyncIterator[Any]:
        async for one in self._arriving(requests, context):
            yield one

    async def _append(self, requests: Any, _: grpc.aio.ServicerContext[Any, Any]) -> AsyncIterator[Any]:
        async for one in requests:
            yield one

    async def _arriving(self, requests: Any, context: grpc.aio.ServicerContext[Any, Any]) -> AsyncIterator[Any]:
        """The requests. The text of one may say that nothing more is taken, or be the code to fail with."""
        self.ended.clear()
        try:
            async for one in requests:
                self.arrived.put_nowait(one.text)
                if one.text == "hang":
                    await self._hang(one, context)
                elif one.text in grpc.StatusCode.__members__:
                    await context.abort(grpc.StatusCode[one.text], "as asked")
                yield one
        finally:
            self.ended.set()

    async def _end(self, request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> None:
        if request.hangs:
            await self._hang(request, context)
        if request.code:
            await context.abort(next(one for one in grpc.StatusCode if one.value[0] == request.code), "as asked")

    async def _echo(self, request: Any, _: grpc.aio.ServicerContext[Any, Any]) -> Any:
        self.calls += 1
        return request

    async def _read(self, request: Any, _: grpc.aio.ServicerContext[Any, Any]) -> Any:
        self.calls += 1
        # Long enough to be compressed, or not.
        request.display_name = "long " * 500 if request.name == "long" else "short"
        request.etag = "e1"
        request.ClearField("secret")
        return request

    async def _write(self, request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
        if request.etag not in ("", "e1"):
            await context.abort(grpc.StatusCode.ABORTED, "it has changed")
        request.ClearField("secret")
        return request

    async def _arrival(self, _: Any, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
        method = self._methods[f"/{SERVICE}/Arrival"]
        metadata = {key: str(value) for key, value in context.invocation_metadata() or ()}
        return message_class(method.output)(metadata=metadata, left_ms=int(context.time_remaining() * 1000))

    async def _hang(self, request: Any, _: grpc.aio.ServicerContext[Any, Any]) -> Any:
        self.calls += 1
        self.hanging.set()
        try:
            await self.release.wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise
        return request

    async def _fail(self, request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
        self.calls += 1
        if request.exception:
            raise RuntimeError(request.exception)
        status = status_pb2.Status(code=request.code, message=request.message)
        if request.retry_s:
            retry = error_details_pb2.RetryInfo()
            retry.retry_delay.FromSeconds(request.retry_s)
            status.details.append(packed(retry))
        if request.reason:
            info = error_details_pb2.ErrorInfo(reason=request.reason, domain="probe", metadata={"left": "3"})
            status.details.append(packed(info))
            status.details.append(packed(error_details_pb2.DebugInfo(detail="secret")))
        trailing = (("grpc-status-details-bin", status.SerializeToString()),) if status.details else ()
        code = next(one for one in grpc.StatusCode if one.value[0] == request.code)
        await context.abort(code, request.message, trailing)


@asynccontextmanager
async def serving(descriptor_set: bytes, port: int = 0) -> AsyncIterator[ProbeServer]:
    """A probe that serves within the block."""
    server = ProbeServer(descriptor_set)
    await server.start(port)
    try:
        yield server
    finally:
        await server.stop()


def packed(message: Any) -> any_pb2.Any:
    """An Any that holds the message."""
    holder = any_pb2.Any()
    holder.Pack(message)
    return holder


@asynccontextmanager
async def shim(
    descriptor_set: bytes, address: str, *, limits: Limits | None = None, **config: Any
) -> AsyncIterator[httpx.AsyncClient]:
    """A gateway before the probe at this address, on a real port, and a client for it."""
    gateway = Gateway(GatewayConfig(descriptor_set=descriptor_set, upstreams={SERVICE: address}, **config))
    server = HttpServer(gateway.asgi(), host="127.0.0.1", port=0, limits=limits)
    port = await server.start()
    try:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=20) as client:
            yield client
    finally:
        await server.stop(1)
        await gateway.close()


def reason_of(response: httpx.Response) -> str:
    """The reason in the ErrorInfo of an error; checks the form that all errors have."""
    error = response.json()["error"]
    assert set(error) == {"code", "status", "message", "details"}
    assert error["code"] == response.status_code
    assert response.headers["content-type"] == "application/json"
    infos = [one for one in error["details"] if one["@type"] == "type.googleapis.com/google.rpc.ErrorInfo"]
    assert len(infos) == 1
    return str(infos[0]["reason"])


def violated(response: httpx.Response) -> list[str]:
    """The fields that a BadRequest names."""
    assert response.status_code == 400, response.text
    assert response.json()["error"]["status"] == "INVALID_ARGUMENT"
    details = response.json()["error"]["details"]
    bad = [one for one in details if one["@type"] == "type.googleapis.com/google.rpc.BadRequest"]
    return [violation["field"] for one in bad for violation in one["fieldViolations"]]


def file_of(descriptor_set: bytes, name: str) -> descriptor_pb2.FileDescriptorProto:
    files = descriptor_pb2.FileDescriptorSet.FromString(descriptor_set).file
    return next(file for file in files if file.name == name)
