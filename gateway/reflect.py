"""The protos of a running server, asked of it by gRPC reflection, for whoever has no descriptor set at hand."""

from __future__ import annotations

import grpc
from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

from gateway.descriptors import ConfigError

_WITHIN_S = 10.0
# What every server has beside what it serves.
_OF_GRPC = "grpc."


def reflect(address: str) -> tuple[bytes, list[str]]:
    """A serialized FileDescriptorSet of all that the server serves, and the names of its services.

    Comments are not in it: servers do not keep them. Raises ConfigError when it does not answer.
    """
    with grpc.insecure_channel(address) as channel:
        try:
            grpc.channel_ready_future(channel).result(timeout=_WITHIN_S)
            database = ProtoReflectionDescriptorDatabase(channel)
            services = [name for name in database.get_services() if not name.startswith(_OF_GRPC)]
            files: dict[str, FileDescriptorProto] = {}
            for service in services:
                _collect(database, database.FindFileContainingSymbol(service), files)
        except grpc.FutureTimeoutError:
            raise ConfigError([f"--reflect {address}: no gRPC server answers"]) from None
        except grpc.RpcError as error:
            raise ConfigError([f"--reflect {address}: {_told(error)}"]) from error
    return FileDescriptorSet(file=files.values()).SerializeToString(), services


def _collect(
    database: ProtoReflectionDescriptorDatabase, file: FileDescriptorProto, files: dict[str, FileDescriptorProto]
) -> None:
    """The file and all it imports, each behind what it imports."""
    if file.name in files:
        return
    for name in file.dependency:
        if name not in files:
            _collect(database, database.FindFileByName(name), files)
    files[file.name] = file


def _told(error: grpc.RpcError) -> str:
    if isinstance(error, grpc.Call) and error.code() is grpc.StatusCode.UNIMPLEMENTED:
        return "the server does not offer reflection"
    return str(error.details()) if isinstance(error, grpc.Call) else "the server does not answer"
