"""JSON to message, strictly, and naming every field that is wrong.

One reader per message type, compiled when the type is first seen. Unknown members, members given twice (also once by
each of their two names), wrong types, values out of range and two members of one oneof are refused. The well-known
types that JSON writes in a form of their own are left to google.protobuf.json_format.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, NoReturn, cast

from google.protobuf import descriptor_pool, json_format
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

from gateway import scalars
from gateway.errors import Violation
from gateway.fields import DYNAMIC, FIELD_MASK, TIMES, WELL_KNOWN, is_map, is_repeated, message_of
from gateway.scalars import BadValueError

MAX_DEPTH = 100
"""How deep a body may nest, as deep as protobuf's own parsers go."""

MOST_VIOLATIONS = 100

# What json_format lets out for values that it did not expect.
_WELL_KNOWN_ERRORS = (json_format.ParseError, ValueError, TypeError, KeyError, AttributeError, RecursionError)


class BadJsonError(ValueError):
    """The text is not JSON as we take it. `field` names the member, where one is to blame."""

    def __init__(self, message: str, field: str = "") -> None:
        super().__init__(message)
        self.field = field


def parse(text: bytes) -> Any:
    """The JSON value of UTF-8 text. Raises BadJsonError, also for NaN, Infinity and members given twice."""
    try:
        return json.loads(text.decode(), object_pairs_hook=_object, parse_constant=_refuse_constant)
    except BadJsonError:
        raise
    except UnicodeDecodeError as error:
        raise BadJsonError("the body is not UTF-8") from error
    except json.JSONDecodeError as error:
        raise BadJsonError(f"the body is not JSON: {error.msg} at byte {error.pos}") from error
    except RecursionError as error:
        raise BadJsonError("the body nests too deep") from error
    except ValueError as error:
        raise BadJsonError("the body holds a number with too many digits") from error


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        seen: set[str] = set()
        for name, _ in pairs:
            if name in seen:
                raise BadJsonError("is given more than once", name)
            seen.add(name)
    return value


def _refuse_constant(name: str) -> NoReturn:
    raise BadJsonError(f"the body is not JSON: {name} is no number")


class Findings:
    """What was found wrong in one body, at most MOST_VIOLATIONS of it, and how deep the reader stands."""

    def __init__(self) -> None:
        self.violations: list[Violation] = []
        self.depth = 0

    def add(self, path: str, description: str) -> None:
        """Note one violation."""
        if len(self.violations) < MOST_VIOLATIONS:
            self.violations.append(Violation(path, description))


Read = Callable[[Any, Any, str, Findings], None]
"""(JSON value, message to fill, path of that message, what was found wrong)"""


class JsonReader:
    """Fills messages of any type of one pool."""

    def __init__(self, pool: descriptor_pool.DescriptorPool) -> None:
        self._pool = pool
        self._readers: dict[Descriptor, Read] = {}

    def read(self, value: Any, message: Message, *, path: str = "") -> list[Violation]:
        """Fill a message from a JSON value. Answers what is wrong; the message is of use only if nothing is."""
        found = Findings()
        self._message(cast("Descriptor", message.DESCRIPTOR))(value, message, path, found)
        return found.violations

    def read_field(self, value: Any, message: Message, field: FieldDescriptor) -> list[Violation]:
        """Fill one field of a message, of any kind, from a JSON value."""
        found = Findings()
        self._member(field)(value, message, field.name, found)
        return found.violations

    def _message(self, descriptor: Descriptor) -> Read:
        reader = self._readers.get(descriptor)
        if reader is None:
            compile_ = self._well_known if descriptor.full_name in WELL_KNOWN else self._object
            reader = self._readers[descriptor] = compile_(descriptor)
        return reader

    def _object(self, descriptor: Descriptor) -> Read:
        # Filled after the reader is registered, since a message may hold itself.
        members: dict[str, tuple[FieldDescriptor, Read]] = {}

        def read(value: Any, message: Any, path: str, found: Findings) -> None:
            if type(value) is not dict:
                found.add(path or "body", "must be an object")
                return
            if found.depth == MAX_DEPTH:
                found.add(path, "nests too deep")
                return
            found.depth += 1
            _read_members(members, value, message, path, found)
            found.depth -= 1

        self._readers[descriptor] = read
        for field in descriptor.fields:
            members[field.name] = members[field.json_name] = (field, self._member(field))
        return read

    def _member(self, field: FieldDescriptor) -> Read:
        if is_map(field):
            return self._map(field)
        if is_repeated(field):
            return self._list(field)
        if field.message_type is not None:
            return self._single_message(field)
        name, convert = field.name, _scalar(field)

        def read(value: Any, message: Any, path: str, found: Findings) -> None:
            try:
                setattr(message, name, convert(value))
            except BadValueError as error:
                found.add(path, str(error))

        return read

    def _single_message(self, field: FieldDescriptor) -> Read:
        name, read_message = field.name, self._message(message_of(field))

        def read(value: Any, message: Any, path: str, found: Findings) -> None:
            inner = getattr(message, name)
            inner.SetInParent()
            read_message(value, inner, path, found)

        return read

    def _list(self, field: FieldDescriptor) -> Read:
        name = field.name
        read_message = self._message(field.message_type) if field.message_type is not None else None
        convert = _scalar(field) if read_message is None else None

        def read(value: Any, message: Any, path: str, found: Findings) -> None:
            if type(value) is not list:
                found.add(path, "must be a list")
                return
            items = getattr(message, name)
            for index, item in enumerate(value):
                where = f"{path}[{index}]"
                if item is None and not _takes_null(field):
                    found.add(where, "must not be null")
                elif read_message is not None:
                    read_message(item, items.add(), where, found)
                elif convert is not None:
                    _append(items, convert, item, where, found)

        return read

    def _map(self, field: FieldDescriptor) -> Read:
        entry = message_of(field).fields_by_name
        name, value_field = field.name, entry["value"]
        to_key = scalars.from_text(entry["key"])
        read_message = self._message(value_field.message_type) if value_field.message_type is not None else None
        convert = _scalar(value_field) if read_message is None else None

        def read(value: Any, message: Any, path: str, found: Findings) -> None:
            if type(value) is not dict:
                found.add(path or "body", "must be an object")
                return
            items = getattr(message, name)
            for text, item in value.items():
                where = f"{path}[{text}]"
                try:
                    key = to_key(text)
                    if read_message is not None:
                        read_message(item, items[key], where, found)
                    elif convert is not None:
                        items[key] = convert(item)
                except BadValueError as error:
                    found.add(where, str(error))

        return read

    def _well_known(self, descriptor: Descriptor) -> Read:
        name = descriptor.full_name
        if name not in DYNAMIC | TIMES | {FIELD_MASK}:
            return _wrapper(descriptor)

        def read(value: Any, message: Any, path: str, found: Findings) -> None:
            try:
                json_format.ParseDict(value, message, descriptor_pool=self._pool, max_recursion_depth=MAX_DEPTH)
            except _WELL_KNOWN_ERRORS:
                found.add(path, f"is not a {name}")

        return read


def _read_members(
    members: dict[str, tuple[FieldDescriptor, Read]], value: dict[str, Any], message: Any, path: str, found: Findings
) -> None:
    prefix = f"{path}." if path else ""
    seen: set[str] = set()
    for name, item in value.items():
        member = members.get(name)
        if member is None:
            found.add(prefix + name, "is not a field of this message")
            continue
        field, read = member
        slot = _slot(field, item)
        if slot in seen:
            found.add(prefix + field.name, "is given more than once")
            continue
        seen.add(slot)
        if item is not None or _takes_null(field):
            read(item, message, prefix + field.name, found)


def _wrapper(descriptor: Descriptor) -> Read:
    convert = scalars.from_json(descriptor.fields_by_name["value"])

    def read(value: Any, message: Any, path: str, found: Findings) -> None:
        try:
            message.value = convert(value)
        except BadValueError as error:
            found.add(path, str(error))

    return read


def _append(items: Any, convert: scalars.Convert, value: Any, path: str, found: Findings) -> None:
    try:
        items.append(convert(value))
    except BadValueError as error:
        found.add(path, str(error))


def _scalar(field: FieldDescriptor) -> scalars.Convert:
    if _takes_null(field):
        return lambda _: 0
    return scalars.from_json(field)


def _takes_null(field: FieldDescriptor) -> bool:
    """Whether null is a value of the field; for all others it means that the member is absent."""
    if field.message_type is not None:
        return bool(field.message_type.full_name == "google.protobuf.Value")
    return field.enum_type is not None and bool(field.enum_type.full_name == "google.protobuf.NullValue")


def _slot(field: FieldDescriptor, value: Any) -> str:
    """What may be given once: the field, or the oneof that it would set."""
    oneof = field.containing_oneof
    return field.name if oneof is None or value is None else f"{oneof.name} (oneof)"
