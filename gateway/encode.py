"""Message to JSON.

One writer per message type, compiled when the type is first seen: lists of (member, attribute, conversion). Unless the
form says otherwise, members without presence are written at their defaults, under their JSON names, and enums by name.
"""

from __future__ import annotations

import base64
import math
import re
import struct
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, cast

import orjson
from google.protobuf import descriptor_pool
from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor
from google.protobuf.message import DecodeError, Message

from gateway.behavior import INPUT_ONLY, behaviors
from gateway.descriptors import message_class
from gateway.fields import (
    ANY,
    DURATION,
    FIELD_MASK,
    LIST_VALUE,
    NULL_VALUE,
    STRUCT,
    TIMESTAMP,
    VALUE,
    WELL_KNOWN,
    WRAPPERS,
    enum_of,
    is_map,
    is_repeated,
    message_of,
)
from gateway.texts import UnwritableError, write_duration, write_mask, write_timestamp
from gateway.type_urls import find_type

Write = Callable[[Any], Any]
"""From the value of a field to a JSON value. Raises UnwritableError."""

_Step = tuple[str, str, Write | None]
"""A member, the field behind it, and its conversion unless JSON takes the value as it is."""

# A name in a path of fields, and what stands between it and the next.
_STEP = re.compile(r"([^.\[\]]+)((?:\[[^\]]*\])?(?:\.|$))")
_PATH = re.compile(rf"(?:{_STEP.pattern})+")
_AS_STRING = {
    FieldDescriptor.TYPE_INT64,
    FieldDescriptor.TYPE_UINT64,
    FieldDescriptor.TYPE_SINT64,
    FieldDescriptor.TYPE_FIXED64,
    FieldDescriptor.TYPE_SFIXED64,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class JsonForm:
    """Which of the forms that ProtoJSON leaves open is written; all are read."""

    emit_defaults: bool = True
    """Whether members without presence are there at their defaults, too."""
    enums_as_ints: bool = False
    proto_names: bool = False
    """Whether members have their names of the proto instead of their JSON names, also where violations name them."""

    def member(self, field: FieldDescriptor) -> str:
        """What the field is called."""
        if field.is_extension:
            return f"[{field.full_name}]"
        return field.name if self.proto_names else field.json_name

    def path(self, fields: Iterable[FieldDescriptor]) -> str:
        """What the last of these fields is called, each of which is in the one before it."""
        return ".".join(self.member(field) for field in fields)

    def retold(self, message: Descriptor, path: str) -> str:
        """A path of the proto's names, such as `items[1].unit_price`, in the names of members.

        What leads to no field of the message is answered as it is.
        """
        at: Descriptor | None = message
        steps: list[str] = []
        if not _PATH.fullmatch(path):
            return path
        for name, rest in _STEP.findall(path):
            field = at.fields_by_name.get(name) if at is not None else None
            if field is None:
                return path
            steps += self.member(field), rest
            value = message_of(field).fields_by_name["value"] if is_map(field) else field
            at = value.message_type
        return "".join(steps)


DEFAULT_FORM = JsonForm()


class JsonWriter:
    """Writes messages of any type of one pool. Raises UnwritableError for what the specification has no form for."""

    def __init__(self, pool: descriptor_pool.DescriptorPool, form: JsonForm) -> None:
        self._pool = pool
        self._form = form
        self._behaviors = behaviors(pool)
        self._writers: dict[Descriptor, Write] = {}

    def text(self, message: Message) -> bytes:
        """The JSON text of a message."""
        return orjson.dumps(self.value(message))

    def value(self, message: Message) -> Any:
        """The JSON value of a message: an object, or what the ProtoJSON specification gives a well-known type."""
        return self._message(cast("Descriptor", message.DESCRIPTOR))(message)

    def field(self, field: FieldDescriptor) -> Callable[[Any], bytes]:
        """A writer of the JSON text of one field of a message, defaults included."""
        name, write = field.name, self._any(field)
        if write is None:
            return lambda message: orjson.dumps(getattr(message, name))
        return lambda message: orjson.dumps(write(getattr(message, name)))

    def _message(self, descriptor: Descriptor) -> Write:
        writer = self._writers.get(descriptor)
        if writer is None:
            writer = self._writers[descriptor] = self._compile(descriptor)
        return writer

    def _compile(self, descriptor: Descriptor) -> Write:
        name = descriptor.full_name
        if name in WRAPPERS:
            single = self._single(descriptor.fields_by_name["value"])
            return lambda message: single(message.value) if single else message.value
        if name in WELL_KNOWN:
            return self._packed if name == ANY else _WRITERS[name]
        return self._object(descriptor)

    def _packed(self, message: Any) -> dict[str, Any]:
        url = message.type_url
        if not url and not message.value:
            return {}
        descriptor = find_type(self._pool, url)
        if descriptor is None:
            raise UnwritableError(f"an Any is of a type that is not known here: {url!r}")
        try:
            inner = message_class(descriptor).FromString(message.value)
        except DecodeError as error:
            raise UnwritableError(f"an Any holds no {descriptor.full_name}") from error
        value = self._message(descriptor)(inner)
        return {"@type": url, "value": value} if descriptor.full_name in WELL_KNOWN else {"@type": url, **value}

    def _object(self, descriptor: Descriptor) -> Write:
        # The lists are filled after the writer is registered, since a message may hold itself.
        always: list[_Step] = []
        unless_default: list[_Step] = []
        when_present: list[_Step] = []

        def write(message: Any) -> dict[str, Any]:
            out = {}
            for member, name, convert in always:
                value = getattr(message, name)
                out[member] = value if convert is None else convert(value)
            if unless_default:
                for member, name, convert in unless_default:
                    value = getattr(message, name)
                    if value or _is_negative_zero(value):
                        out[member] = value if convert is None else convert(value)
            if when_present:
                has = message.HasField
                for member, name, convert in when_present:
                    if has(name):
                        value = getattr(message, name)
                        out[member] = value if convert is None else convert(value)
            return out

        self._writers[descriptor] = write
        for field in descriptor.fields:
            # No answer has what is for requests alone, unless upstream gives it.
            is_always = self._form.emit_defaults and INPUT_ONLY not in self._behaviors(field)
            target = when_present if field.has_presence else always if is_always else unless_default
            target.append((self._form.member(field), field.name, self._any(field)))
        return write

    def _any(self, field: FieldDescriptor) -> Write | None:
        if is_map(field):
            return self._map(field)
        one = self._one(field)
        if not is_repeated(field):
            return one
        return list if one is None else lambda values: [one(value) for value in values]

    def _one(self, field: FieldDescriptor) -> Write | None:
        return self._single(field) if field.message_type is None else self._message(field.message_type)

    def _single(self, field: FieldDescriptor) -> Write | None:
        if field.type == FieldDescriptor.TYPE_ENUM and self._form.enums_as_ints:
            return None if enum_of(field).full_name != NULL_VALUE else _enum(enum_of(field))
        return _single(field)

    def _map(self, field: FieldDescriptor) -> Write:
        entry = message_of(field).fields_by_name
        key = (lambda one: "true" if one else "false") if entry["key"].type == FieldDescriptor.TYPE_BOOL else str
        one = self._one(entry["value"])
        # Sorted, so that equal messages have equal bytes.
        if one is None:
            return lambda items: {key(name): items[name] for name in sorted(items)}
        return lambda items: {key(name): one(items[name]) for name in sorted(items)}


def _single(field: FieldDescriptor) -> Write | None:
    """The conversion of one scalar, or None where JSON takes it as it is."""
    kind = field.type
    if kind in _AS_STRING:
        return str
    if kind == FieldDescriptor.TYPE_ENUM:
        return _enum(enum_of(field))
    if kind == FieldDescriptor.TYPE_BYTES:
        return lambda value: base64.b64encode(value).decode("ascii")
    if kind == FieldDescriptor.TYPE_DOUBLE:
        return _double
    if kind == FieldDescriptor.TYPE_FLOAT:
        return _float
    return None


def _enum(enum: EnumDescriptor) -> Write:
    if enum.full_name == NULL_VALUE:
        return lambda _: None
    # Of several names for one number the first is written.
    names: dict[int, str] = {value.number: value.name for value in reversed(enum.values)}
    return lambda number: names.get(number, number)


def _is_negative_zero(value: Any) -> bool:
    """Which is no default: its bits are not those of zero."""
    return isinstance(value, float) and math.copysign(1.0, value) < 0


def _double(value: float) -> float | str:
    if math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else ("Infinity" if value > 0 else "-Infinity")


def _float(value: float) -> float | str:
    """The shortest number that reads back as the same 32 bits."""
    if not math.isfinite(value):
        return _double(value)
    for digits in range(6, 10):
        short = float(f"{value:.{digits}g}")
        if struct.pack("<f", short) == struct.pack("<f", value):
            return short
    return value


def _write_value(message: Any) -> Any:
    """A Value that holds none of its kinds is null."""
    kind = message.WhichOneof("kind")
    if kind is None or kind == "null_value":
        return None
    held = getattr(message, kind)
    if kind == "number_value" and not math.isfinite(held):
        raise UnwritableError(f"a Value is {held}, which is no number of JSON")
    if kind == "struct_value":
        return _write_struct(held)
    return _write_list(held) if kind == "list_value" else held


def _write_struct(message: Any) -> dict[str, Any]:
    """Sorted, so that equal messages have equal bytes."""
    fields = message.fields
    return {name: _write_value(fields[name]) for name in sorted(fields)}


def _write_list(message: Any) -> list[Any]:
    return [_write_value(value) for value in message.values]


_WRITERS: Mapping[str, Write] = {
    TIMESTAMP: write_timestamp,
    DURATION: write_duration,
    FIELD_MASK: write_mask,
    STRUCT: _write_struct,
    VALUE: _write_value,
    LIST_VALUE: _write_list,
}
