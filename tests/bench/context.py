"""A service of the bench's own, served as those of the mesh are: it answers a message four levels deep with itself.

The shop takes no message as deep. This one is Google's: who asked whom for what, with texts, a list, a map, numbers of
64 bits, a time, and claims of any form.
"""

from typing import Any

import grpc
from google.api import annotations_pb2
from google.protobuf import json_format
from google.protobuf.descriptor import ServiceDescriptor
from google.protobuf.descriptor_pb2 import FileDescriptorProto, MethodOptions
from google.protobuf.descriptor_pool import Default
from google.rpc.context.attribute_context_pb2 import DESCRIPTOR, AttributeContext

from mesh import log, program
from mesh.program import Kit
from mesh.run import run
from policy.v1 import policy_pb2
from shopmesh.parts import read_settings, service_config

PATH = "/v1/contexts"
BODY = """\
{"source":{"ip":"10.0.0.7","port":"41822","labels":{"zone":"a"}},\
"request":{"id":"0198c0de-0000-7000-8000-000000000001","method":"POST","path":"/v1/books","time":"2026-11-28T19:42:00Z",\
"size":"312","auth":{"principal":"issuer/reader","audiences":["library"],"claims":{"role":"reader","level":4}}}}"""
CONTEXT = json_format.Parse(BODY, AttributeContext())
SERVICE, METHOD = "bench.v1.ContextService", "Echo"


class Contexts:
    """Serves it."""

    name = "context"

    def __init__(self) -> None:
        self.descriptors: tuple[ServiceDescriptor, ...] = (_described(),)

    def register(self, server: grpc.aio.Server) -> None:
        """Add the one method."""

        async def echo(request: AttributeContext, _: Any) -> AttributeContext:
            return request

        handler = grpc.unary_unary_rpc_method_handler(
            echo,
            request_deserializer=AttributeContext.FromString,
            response_serializer=AttributeContext.SerializeToString,
        )
        server.add_registered_method_handlers(SERVICE, {METHOD: handler})

    async def start(self) -> None:
        """Nothing to start."""

    async def ready(self) -> bool:
        """Always."""
        return True

    async def stop(self) -> None:
        """Nothing to stop."""


def main() -> int:
    """Run until SIGTERM and answer the exit code, as `shopmesh serve` does."""
    settings = read_settings(apart=True).common
    log.set_up(settings.log_level)
    return run(program.serve(settings, _build, _nothing, service_config()))


async def _build(_: Kit) -> Contexts:
    return Contexts()


async def _nothing() -> None:
    """There is no database to migrate."""


def _described() -> ServiceDescriptor:
    options = MethodOptions()
    options.Extensions[annotations_pb2.http].post = PATH
    options.Extensions[annotations_pb2.http].body = "*"
    options.Extensions[policy_pb2.method].access = policy_pb2.ACCESS_PUBLIC
    package, _, name = SERVICE.rpartition(".")
    imports = (DESCRIPTOR.name, "google/api/annotations.proto", "policy/v1/policy.proto")
    file = FileDescriptorProto(name=f"{SERVICE}.proto", package=package, dependency=imports, syntax="proto3")
    message = f".{AttributeContext.DESCRIPTOR.full_name}"
    file.service.add(name=name).method.add(name=METHOD, input_type=message, output_type=message, options=options)
    Default().AddSerializedFile(file.SerializeToString())
    found: ServiceDescriptor = Default().FindServiceByName(SERVICE)
    return found
