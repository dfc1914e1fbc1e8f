"""JSON Schemas of messages, as the codec writes them."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from itertools import chain
from typing import Any

from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor

from gateway.behavior import INPUT_ONLY, OUTPUT_ONLY, REQUIRED, Behaviors
from gateway.encode import JsonForm
from gateway.fields import NULL_VALUE, WELL_KNOWN, WRAPPERS, is_map, is_repeated, message_of, reaches

Schema = dict[str, Any]
Ways = Collection[Sequence[FieldDescriptor]]
"""Ways to fields, each field in the one before it."""

_MARKS = {OUTPUT_ONLY: "readOnly", INPUT_ONLY: "writeOnly"}

_INT32 = {"type": "integer", "format": "int32"}
_UINT32 = {"type": "integer", "minimum": 0, "maximum": (1 << 32) - 1}
_INT64 = {"type": "string", "format": "int64", "pattern": "^-?[0-9]+$"}
_UINT64 = {"type": "string", "format": "uint64", "pattern": "^[0-9]+$"}
_SCALARS: Mapping[int, Schema] = {
    FieldDescriptor.TYPE_DOUBLE: {"type": "number", "format": "double"},
    FieldDescriptor.TYPE_FLOAT: {"type": "number", "format": "float"},
    FieldDescriptor.TYPE_INT32: _INT32,
    FieldDescriptor.TYPE_SINT32: _INT32,
    FieldDescriptor.TYPE_SFIXED32: _INT32,
    FieldDescriptor.TYPE_UINT32: _UINT32,
    FieldDescriptor.TYPE_FIXED32: _UINT32,
    FieldDescriptor.TYPE_INT64: _INT64,
    FieldDescriptor.TYPE_SINT64: _INT64,
    FieldDescriptor.TYPE_SFIXED64: _INT64,
    FieldDescriptor.TYPE_UINT64: _UINT64,
    FieldDescriptor.TYPE_FIXED64: _UINT64,
    FieldDescriptor.TYPE_BOOL: {"type": "boolean"},
    FieldDescriptor.TYPE_STRING: {"type": "string"},
    FieldDescriptor.TYPE_BYTES: {"type": "string", "contentEncoding": "base64"},
}
_WELL_KNOWN: Mapping[str, Schema] = {
    "google.protobuf.Timestamp": {"type": "string", "format": "date-time"},
    "google.protobuf.Duration": {"type": "string", "pattern": "^-?[0-9]+(\\.[0-9]{1,9})?s$"},
    "google.protobuf.FieldMask": {"type": "string", "description": "Field paths with commas between them."},
    "google.protobuf.Struct": {"type": "object", "additionalProperties": True},
    "google.protobuf.ListValue": {"type": "array", "items": {}},
    "google.protobuf.Value": {},
    "google.protobuf.Any": {
        "type": "object",
        "properties": {"@type": {"type": "string"}},
        "required": ["@type"],
        "additionalProperties": True,
    },
}


class Schemas:
    """Collects the schemas that a document refers to, under `#/components/schemas/<full name>`.

    Those of requests and of answers go to the same components.
    """

    def __init__(
        self,
        components: dict[str, Schema],
        comments: Mapping[str, str],
        form: JsonForm,
        behaviors: Behaviors,
        *,
        of_requests: bool = False,
    ) -> None:
        self._components = components
        self._comments = comments
        self._form = form
        self._behaviors = behaviors
        self._of_requests = of_requests

    def message(self, descriptor: Descriptor, bound: Ways = ()) -> Schema:
        """A schema of the message: a reference, or inline for a well-known type.

        It is inline, too, where it differs because `bound` fields are given by other means, and so need not be in it.
        """
        name = descriptor.full_name
        if name in WRAPPERS:
            return dict(self.value(descriptor.fields_by_name["value"]))
        if name in WELL_KNOWN:
            return dict(_WELL_KNOWN[name])
        if any(map(self.requires, chain.from_iterable(bound))):
            return self._object(descriptor, bound)
        # What a request must have an answer may lack, such as a message that is not set. So a type that is, or holds,
        # one with such fields has a schema for requests beside its own; no name of protobuf has a hyphen.
        if self._of_requests and reaches(descriptor, self._asks_more):
            name += "-request"
        if name not in self._components:
            self._components[name] = {}  # stands there while its fields are visited: a message may hold itself
            self._components[name] = self._object(descriptor)
        return {"$ref": f"#/components/schemas/{name}"}

    def requires(self, field: FieldDescriptor) -> bool:
        """Whether the field is in every message."""
        return field.is_required or (self._of_requests and REQUIRED in self._behaviors(field))

    def field(self, field: FieldDescriptor, bound: Ways = ()) -> Schema:
        """A schema of the field with its comment. `bound` is of its message."""
        schema = self.value(field, bound)
        if is_map(field):
            schema = {"type": "object", "additionalProperties": self.value(_entry_value(field))}
        elif is_repeated(field):
            schema = {"type": "array", "items": schema}
        return self._described(schema, field.full_name)

    def value(self, field: FieldDescriptor, bound: Ways = ()) -> Schema:
        """A schema of one value of the field."""
        if field.enum_type is not None:
            return self._enum(field.enum_type)
        if is_map(field):
            return {}
        if field.message_type is not None:
            return self.message(field.message_type, bound)
        return dict(_SCALARS[field.type])

    def _asks_more(self, descriptor: Descriptor) -> bool:
        return any(REQUIRED in self._behaviors(field) for field in descriptor.fields)

    def _object(self, descriptor: Descriptor, bound: Ways = ()) -> Schema:
        properties = {self._form.member(field): self._property(field, bound) for field in descriptor.fields}
        given = {way[0] for way in bound}
        required = [
            self._form.member(field) for field in descriptor.fields if self.requires(field) and field not in given
        ]
        schema = {"type": "object", "properties": properties, **({"required": required} if required else {})}
        return self._described(schema, descriptor.full_name)

    def _property(self, field: FieldDescriptor, bound: Ways) -> Schema:
        within = [way[1:] for way in bound if way[0] == field and way[1:]]
        behaviors = self._behaviors(field)
        return self.field(field, within) | {mark: True for behavior, mark in _MARKS.items() if behavior in behaviors}

    def _enum(self, enum: EnumDescriptor) -> Schema:
        name = enum.full_name
        if name == NULL_VALUE:
            return {"type": "null"}
        if name not in self._components:
            values = [value.number if self._form.enums_as_ints else value.name for value in enum.values]
            schema = {"type": "integer" if self._form.enums_as_ints else "string", "enum": list(dict.fromkeys(values))}
            self._components[name] = self._described(schema, name, self._values(enum))
        return {"$ref": f"#/components/schemas/{name}"}

    def _values(self, enum: EnumDescriptor) -> str:
        lines = ((value.name, self._comments.get(f"{enum.full_name}.{value.name}")) for value in enum.values)
        return "\n".join(f"- `{name}`: {text}" for name, text in lines if text)

    def _described(self, schema: Schema, name: str, more: str = "") -> Schema:
        text = "\n\n".join(part for part in (self._comments.get(name, ""), more) if part)
        return {**schema, "description": text} if text else schema


def _entry_value(field: FieldDescriptor) -> FieldDescriptor:
    value: FieldDescriptor = message_of(field).fields_by_name["value"]
    return value


ERROR: Schema = {
    "type": "object",
    "description": "What went wrong, as AIP-193 has it.",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["code", "status", "message", "details"],
            "properties": {
                "code": {"type": "integer", "description": "The HTTP status."},
                "status": {"type": "string", "description": "A name of google.rpc.Code."},
                "message": {"type": "string", "description": "For developers, in English."},
                "details": {
                    "type": "array",
                    "items": _WELL_KNOWN["google.protobuf.Any"],
                    "description": "Messages of google.rpc; always an ErrorInfo whose `reason` is meant for programs.",
                },
            },
        }
    },
}
"""The body of every answer that is not OK."""
