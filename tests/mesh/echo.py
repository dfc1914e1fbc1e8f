"""A service to try the kit on: test.mesh.v1.EchoService, one method for each access rule."""

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc
from google.protobuf.descriptor import ServiceDescriptor
from google.protobuf.descriptor_pb2 import FileDescriptorProto, MethodOptions
from google.protobuf.descriptor_pool import Default
from google.protobuf.wrappers_pb2 import StringValue

from mesh.auth import Authenticator
from mesh.run import GrpcHost
from policy.v1 import policy_pb2

SECRET = "the secret that the services of the test share"
SERVICE = "test.mesh.v1.EchoService"
RULES = {
    "Public": policy_pb2.MethodPolicy(access=policy_pb2.ACCESS_PUBLIC),
    "Owner": policy_pb2.MethodPolicy(access=policy_pb2.ACCESS_OWNER),
    "Operator": policy_pb2.MethodPolicy(access=policy_pb2.ACCESS_OPERATOR),
    "Service": policy_pb2.MethodPolicy(access=policy_pb2.ACCESS_SERVICE),
    "Planned": policy_pb2.MethodPolicy(access=policy_pb2.ACCESS_PUBLIC, stage=policy_pb2.STAGE_PLANNED),
}

Behaviour = Callable[[str], Awaitable[str]]
Call = Callable[..., Awaitable[StringValue]]


def describe(service: str, rules: dict[str, policy_pb2.MethodPolicy | None]) -> ServiceDescriptor:
    """A service whose methods take and answer a StringValue, each under its rule or without one."""
    package, _, name = service.rpartition(".")
    file = FileDescriptorProto(name=f"{service}.proto", package=package, dependency=["google/protobuf/wrappers.proto"])
    described = file.service.add(name=name)
    for method, rule in rules.items():
        options = MethodOptions()
        if rule is not None:
            options.Extensions[policy_pb2.method].CopyFrom(rule)
        value = ".google.protobuf.StringValue"
        described.method.add(name=method, input_type=value, output_type=value, options=options)
    Default().AddSerializedFile(file.SerializeToString())
    found: ServiceDescriptor = Default().FindServiceByName(service)
    return found


_DESCRIPTOR = describe(SERVICE, dict(RULES))


async def again(text: str) -> str:
    """Say what was said."""
    return text


class Echo:
    """Every method answers what `behaviour` makes of the request's text."""

    name = "echo"
    descriptors: tuple[ServiceDescriptor, ...] = (_DESCRIPTOR,)

    def __init__(self, behaviour: Behaviour = again) -> None:
        self._behaviour = behaviour
        self.is_ready = True

    def register(self, server: grpc.aio.Server) -> None:
        async def answer(request: StringValue, _: Any) -> StringValue:
            return StringValue(value=await self._behaviour(request.value))

        handler = grpc.unary_unary_rpc_method_handler(
            answer,
            request_deserializer=StringValue.FromString,
            response_serializer=StringValue.SerializeToString,
        )
        handlers = dict.fromkeys(RULES, handler)
        server.add_registered_method_handlers(SERVICE, handlers)

    async def start(self) -> None:
        """Nothing to start."""

    async def ready(self) -> bool:
        return self.is_ready

    async def stop(self) -> None:
        """Nothing to stop."""


async def no_keys() -> dict[str, Any]:
    return {"keys": []}


@contextlib.asynccontextmanager
async def served(echo: Echo, *, authenticator: Authenticator | None = None, port: int = 0) -> AsyncIterator[str]:
    """A real server over `echo`, by its address."""
    host = GrpcHost([echo], authenticator or Authenticator(SECRET, no_keys), bind="127.0.0.1", port=port)
    try:
        yield f"127.0.0.1:{await host.start()}"
    finally:
        await host.stop(0)


def method(channel: grpc.aio.Channel, name: str = "Public") -> Call:
    """The call of one method."""
    call: Call = channel.unary_unary(
        f"/{SERVICE}/{name}",
        request_serializer=StringValue.SerializeToString,
        response_deserializer=StringValue.FromString,
    )
    return call
