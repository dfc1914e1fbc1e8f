"""Questions about fields that several rooms ask: what a dotted path leads to, and what a URL can carry."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import cast

from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor

WRAPPERS = frozenset(
    f"google.protobuf.{kind}Value"
    for kind in ("Double", "Float", "Int64", "UInt64", "Int32", "UInt32", "Bool", "String", "Bytes")
)
TIMESTAMP = "google.protobuf.Timestamp"
DURATION = "google.protobuf.Duration"
TIMES = frozenset({TIMESTAMP, DURATION})
FIELD_MASK = "google.protobuf.FieldMask"
NULL_VALUE = "google.protobuf.NullValue"
HTTP_BODY = "google.api.HttpBody"
ANY = "google.protobuf.Any"
STRUCT = "google.protobuf.Struct"
VALUE = "google.protobuf.Value"
LIST_VALUE = "google.protobuf.ListValue"
DYNAMIC = frozenset({ANY, STRUCT, VALUE, LIST_VALUE})
WELL_KNOWN = WRAPPERS | TIMES | DYNAMIC | {FIELD_MASK}


class FieldPathError(ValueError):
    """A path does not lead to a field that can stand there; the text says why."""


@lru_cache(maxsize=4096)
def resolve(message: Descriptor, path: str) -> tuple[FieldDescriptor, ...]:
    """The fields along a dotted path of proto or JSON names. Raises FieldPathError.

    Only the last may be repeated, and only messages with fields of their own are entered.
    """
    fields: list[FieldDescriptor] = []
    at: Descriptor | None = message
    for name in path.split("."):
        if at is None or (fields and is_repeated(fields[-1])):
            raise FieldPathError(f"field {path!r}: {fields[-1].name!r} has no fields of its own here")
        found = at.fields_by_name.get(name) or _by_json_name(at, name)
        if found is None:
            raise FieldPathError(f"field {path!r}: {at.full_name} has no field {name!r}")
        fields.append(found)
        at = found.message_type if is_plain_message(found) else None
    return tuple(fields)


def _by_json_name(message: Descriptor, name: str) -> FieldDescriptor | None:
    return next((field for field in message.fields if field.json_name == name), None)


def message_of(field: FieldDescriptor) -> Descriptor:
    """The message type of a field that is known to have one."""
    return cast("Descriptor", field.message_type)


def enum_of(field: FieldDescriptor) -> EnumDescriptor:
    """The enum type of a field that is known to have one."""
    return cast("EnumDescriptor", field.enum_type)


def is_repeated(field: FieldDescriptor) -> bool:
    """Whether the field is a list or a map."""
    return bool(field.is_repeated)


def is_map(field: FieldDescriptor) -> bool:
    """Whether the field is a map."""
    return field.message_type is not None and bool(field.message_type.GetOptions().map_entry)


def is_plain_message(field: FieldDescriptor) -> bool:
    """Whether the field is a message that JSON writes as an object of its fields."""
    return field.message_type is not None and field.message_type.full_name not in WELL_KNOWN


def reaches(message: Descriptor, is_sought: Callable[[Descriptor], bool]) -> bool:
    """Whether a message of this type is, or can hold, one of a type that is sought."""
    seen, ahead = {message}, [message]
    while ahead:
        kind = ahead.pop()
        if is_sought(kind):
            return True
        held = {message_of(field) for field in kind.fields if field.message_type is not None} - seen
        seen |= held
        ahead += held
    return False


def takes_text(field: FieldDescriptor) -> bool:
    """Whether one value of the field can be written as text in a URL."""
    kind = field.message_type
    return kind is None or kind.full_name in WRAPPERS | TIMES | {FIELD_MASK}


def takes_entries(field: FieldDescriptor) -> bool:
    """Whether the field is a map whose entries can be written as text in a URL."""
    return is_map(field) and takes_text(message_of(field).fields_by_name["value"])


def has_text(message: Descriptor, name: str) -> bool:
    """Whether a message has a field of this name that is one text."""
    field = message.fields_by_name.get(name)
    return field is not None and field.type == FieldDescriptor.TYPE_STRING and not field.is_repeated
