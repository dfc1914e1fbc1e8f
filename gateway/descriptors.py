"""A FileDescriptorSet, loaded: message classes, and the methods with their HTTP rules.

Everything lives in a descriptor pool of its own, so the shim serves protos that this process has never imported and
never collides with those it has. Options are read through classes of that same pool, because only a pool which holds
`google/api/annotations.proto` can see the rules.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.descriptor import Descriptor
from google.protobuf.message import DecodeError, Message

_SET = "google.protobuf.FileDescriptorSet"
_HTTP = "google.api.http"
_POLICY = "policy.v1.method"
_STAGE_PLANNED = 1
_NO_SIDE_EFFECTS = descriptor_pb2.MethodOptions.NO_SIDE_EFFECTS
_ACCESS = "ACCESS_"


class ConfigError(Exception):
    """What the shim was given cannot be served. `problems` names every reason, one line each."""

    def __init__(self, problems: Iterable[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(self.problems))


@dataclass(frozen=True, slots=True)
class HttpRule:
    """One binding of a method, as google/api/http.proto words it. `body` and `response_body` are "" when absent."""

    http_method: str
    path: str
    body: str = ""
    response_body: str = ""
    nested: bool = False


@dataclass(frozen=True, slots=True)
class Method:
    """One RPC. `planned` tells that the contract holds it although nobody serves it yet.

    `access` is who may call it, in the words of policy/v1: public, owner, operator, service; "" without such a rule.
    """

    service: str
    name: str
    file: str
    input: Descriptor
    output: Descriptor
    client_streaming: bool = False
    server_streaming: bool = False
    planned: bool = False
    # Marked NO_SIDE_EFFECTS.
    is_safe: bool = False
    access: str = ""
    rules: tuple[HttpRule, ...] = ()

    @property
    def full_name(self) -> str:
        """Such as `pkg.Service.Method`."""
        return f"{self.service}.{self.name}"

    @property
    def streaming(self) -> bool:
        """Whether either side sends more than one message."""
        return self.client_streaming or self.server_streaming


@dataclass(frozen=True, slots=True)
class Schema:
    """The loaded set: its pool, its services in the order of their files, and the files as messages."""

    pool: descriptor_pool.DescriptorPool
    services: Mapping[str, tuple[Method, ...]]
    files: tuple[Any, ...] = field(repr=False)


def load(descriptor_set: bytes) -> Schema:
    """Read a serialized FileDescriptorSet that includes its imports. Raises ConfigError when it is none."""
    pool = descriptor_pool.DescriptorPool()
    try:
        for file in _parse(_plain_pool(), descriptor_set):
            pool.AddSerializedFile(file.SerializeToString())
    except (DecodeError, TypeError) as error:
        raise ConfigError([f"descriptor set: not a FileDescriptorSet with all its imports ({error})"]) from error
    files = _parse(pool, descriptor_set) if _knows(pool, _SET) else ()
    return Schema(pool=pool, services=dict(_services(pool, files)), files=tuple(files))


def message_class(descriptor: Descriptor) -> type[Message]:
    """The class of a message type of any pool."""
    return message_factory.GetMessageClass(descriptor)


def extension(pool: descriptor_pool.DescriptorPool, name: str) -> Any:
    """What reads an option of this name, or None if the pool does not hold it."""
    try:
        return pool.FindExtensionByName(name)
    except KeyError:
        return None


def _plain_pool() -> descriptor_pool.DescriptorPool:
    """A pool that knows no option, so no option of the set can fail to parse in it."""
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(descriptor_pb2.DESCRIPTOR.serialized_pb)
    return pool


def _parse(pool: descriptor_pool.DescriptorPool, descriptor_set: bytes) -> tuple[Any, ...]:
    parsed: Any = message_class(pool.FindMessageTypeByName(_SET)).FromString(descriptor_set)
    return tuple(parsed.file)


def _knows(pool: descriptor_pool.DescriptorPool, message: str) -> bool:
    try:
        pool.FindMessageTypeByName(message)
    except KeyError:
        return False
    return True


def _services(pool: descriptor_pool.DescriptorPool, files: Iterable[Any]) -> Iterable[tuple[str, tuple[Method, ...]]]:
    for file in files:
        for service in file.service:
            name = f"{file.package}.{service.name}" if file.package else service.name
            yield name, tuple(_method(pool, file=file.name, service=name, proto=proto) for proto in service.method)


def _method(pool: descriptor_pool.DescriptorPool, *, file: str, service: str, proto: Any) -> Method:
    options = proto.options
    http, policy = extension(pool, _HTTP), extension(pool, _POLICY)
    return Method(
        service=service,
        name=proto.name,
        file=file,
        input=pool.FindMessageTypeByName(proto.input_type.removeprefix(".")),
        output=pool.FindMessageTypeByName(proto.output_type.removeprefix(".")),
        client_streaming=proto.client_streaming,
        server_streaming=proto.server_streaming,
        access="" if policy is None else _access(options.Extensions[policy]),
        is_safe=options.idempotency_level == _NO_SIDE_EFFECTS,
        planned=policy is not None and options.Extensions[policy].stage == _STAGE_PLANNED,
        rules=tuple(_rules(options.Extensions[http])) if http is not None and options.HasExtension(http) else (),
    )


def _access(policy: Any) -> str:
    tiers = policy.DESCRIPTOR.fields_by_name["access"].enum_type.values_by_number
    known = policy.access and policy.access in tiers
    return tiers[policy.access].name.removeprefix(_ACCESS).lower() if known else ""


def _rules(proto: Any) -> Iterable[HttpRule]:
    for rule in (proto, *proto.additional_bindings):
        kind = rule.WhichOneof("pattern") or ""
        custom = kind == "custom"
        yield HttpRule(
            http_method=rule.custom.kind if custom else kind.upper(),
            path=rule.custom.path if custom else (getattr(rule, kind) if kind else ""),
            body=rule.body,
            response_body=rule.response_body,
            nested=rule is not proto and bool(rule.additional_bindings),
        )
