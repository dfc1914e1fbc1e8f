"""JSON to message, strictly, and naming every field that is wrong.

One reader per message type, compiled when the type is first seen. A reader makes of a JSON value what the message's
constructor takes, so that a message is filled by one call once all of it is known to be good. Unknown members, members
given twice (also once by each of their two names), wrong types, values out of range and two members of one oneof are
refused.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple, cast

from google.protobuf import descriptor_pool
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

from gateway import scalars
from gateway.descriptors import message_class
from gateway.dynamic import FILLERS, Fill
from gateway.encode import DEFAULT_FORM, JsonForm
from gateway.errors import Violation
from gateway.fields import (
    ANY,
    DURATION,
    FIELD_MASK,
    TIMESTAMP,
    VALUE,
    WELL_KNOWN,
    WRAPPERS,
    is_map,
    is_repeated,
    message_of,
)
from gateway.findings import MAX_DEPTH, Findings, Path
from gateway.json_text import BadJsonError, GivenTwiceError, parse
from gateway.required import find_missing
from gateway.scalars import BadValueError, Convert
from gateway.texts import read_duration, read_mask, read_timestamp
from gateway.type_urls import find_type

__all__ = ["BadJsonError", "GivenTwiceError", "JsonReader", "parse"]

_TYPE = "@type"
_LEAVES: Mapping[str, Convert] = {TIMESTAMP: read_timestamp, DURATION: read_duration, FIELD_MASK: read_mask}


Read = Callable[[Any, Path, int, Findings], Any]
"""(JSON value, its path, how many messages it is in, what was found wrong) -> what a constructor takes for it.

That is a message, or its fields by name. It is of use only if nothing was found wrong.
"""


class _Member(NamedTuple):
    """A field as a member of an object. `convert` is the shorter way past `read`, where no path is needed."""

    field: str
    # What violations call it.
    told: str
    convert: Convert | None
    read: Read


class JsonReader:
    """Fills messages of any type of one pool."""

    def __init__(self, pool: descriptor_pool.DescriptorPool, form: JsonForm = DEFAULT_FORM) -> None:
        """Fields that are wrong are named as `form` names members; both of their names are read."""
        self._pool = pool
        self._form = form
        self._readers: dict[Descriptor, Read] = {}
        self._members: dict[FieldDescriptor, _Member] = {}

    def read(self, value: Any, message: Message) -> list[Violation]:
        """Fill a new message from a JSON value. Answers what is wrong with it; the message is of use if nothing is."""
        found = Findings()
        given = self._message(cast("Descriptor", message.DESCRIPTOR))(value, None, 0, found)
        _fill(message, given, found)
        return found.violations

    def read_field(self, value: Any, message: Message, field: FieldDescriptor) -> list[Violation]:
        """Fill one field of a message, of any kind, from a JSON value. Answers what is wrong with it."""
        found = Findings()
        given = self._member(field).read(value, (None, self._form.member(field)), 1, found)
        _fill(message, {field.name: given}, found)
        return found.violations

    def _message(self, descriptor: Descriptor) -> Read:
        return self._readers.get(descriptor) or self._compile(descriptor)

    def _compile(self, descriptor: Descriptor) -> Read:
        name, convert = descriptor.full_name, _leaf(descriptor)
        if name not in WELL_KNOWN:
            return self._object(descriptor)
        if convert is not None:
            reader = _leaf_reader(convert)
        elif name == ANY:
            reader = self._read_any
        else:
            reader = _dynamic_reader(message_class(descriptor), FILLERS[name])
        self._readers[descriptor] = reader
        return reader

    def _object(self, descriptor: Descriptor) -> Read:
        # Filled after the reader is registered, since a message may hold itself.
        members: dict[str, _Member] = {}
        nullable = {field.name for field in descriptor.fields if _is_value(field)}
        choices = [tuple(field.name for field in oneof.fields) for oneof in descriptor.oneofs if oneof.fields[1:]]
        told = partial(_told, members)

        def read_object(value: Any, path: Path, depth: int, found: Findings) -> dict[str, Any] | None:
            # Looked at twice, since to ask costs more than to look.
            if (type(value) is not dict or depth >= MAX_DEPTH) and not found.is_object(value, path, depth, step=told):
                return None
            # None stands for what is null or wrong; constructors take it for absent.
            given: dict[str, Any] = {}
            for name, item in value.items():
                try:
                    field, called, convert, read = members[name]
                except KeyError:
                    found.add((path, name), "is not a field of this message")
                    continue
                if convert is not None:
                    try:
                        given[field] = convert(item)
                    except BadValueError as error:
                        given[field] = None
                        if item is not None:
                            found.add((path, called), str(error))
                elif item is None and field not in nullable:
                    given[field] = None
                else:
                    given[field] = read(item, (path, called), depth + 1, found)
            if choices or len(given) < len(value):
                fields = [members[name].field for name in value if name in members]
                found.add_members(path, _rivals(fields, choices, given, told))
            return given

        self._readers[descriptor] = read_object
        members.update({field.name: self._member(field) for field in descriptor.fields})
        members.update({field.json_name: self._member(field) for field in descriptor.fields})
        return read_object

    def _member(self, field: FieldDescriptor) -> _Member:
        member = self._members.get(field)
        if member is None:
            convert, read = self._one(field)
            if is_map(field):
                convert, read = None, self._map(field)
            elif is_repeated(field):
                convert, read = None, _list_reader(read) if convert is None else _scalars_reader(convert, read)
            member = self._members[field] = _Member(field.name, self._form.member(field), convert, read)
        return member

    def _one(self, field: FieldDescriptor) -> tuple[Convert | None, Read]:
        kind = field.message_type
        convert = scalars.from_json(field) if kind is None else _leaf(kind)
        return convert, self._message(message_of(field)) if convert is None else _leaf_reader(convert)

    def _map(self, field: FieldDescriptor) -> Read:
        entry = message_of(field).fields_by_name
        read, kind = self._one(entry["value"])[1], entry["value"].message_type
        if kind is not None:
            read = _builder(message_class(kind), read)
        return _map_reader(scalars.from_text(entry["key"]), read)

    def _read_any(self, value: Any, path: Path, depth: int, found: Findings) -> dict[str, Any] | None:
        """An empty object is an Any of nothing; every other tells its type, wherever it does."""
        if not found.is_object(value, path, depth, step=str):
            return None
        if not value:
            return {}
        url = value.get(_TYPE)
        descriptor = find_type(self._pool, url) if type(url) is str else None
        if descriptor is None:
            wrong = f"names no type that is known here: {url}" if type(url) is str else "must be the URL of a type"
            found.add((path, _TYPE), wrong)
            return None
        build = _builder(message_class(descriptor), self._packed_reader(descriptor))
        message = build(value, path, depth + 1, found)
        if message is None:
            return None
        find_missing(message, path, self._form, found)
        return {"type_url": url, "value": message.SerializePartialToString(deterministic=True)}

    def _packed_reader(self, descriptor: Descriptor) -> Read:
        read = self._message(descriptor)

        def read_beside_type(value: Any, path: Path, depth: int, found: Findings) -> Any:
            members = {name: item for name, item in value.items() if name != _TYPE}
            if descriptor.full_name not in WELL_KNOWN:
                return read(members, path, depth, found)
            for name in members.keys() - {"value"}:
                found.add((path, name), f"is not a member of a packed {descriptor.full_name}")
            if "value" in members:
                return read(members["value"], (path, "value"), depth, found)
            found.add((path, "value"), "is missing")
            return None

        return read_beside_type


def _told(members: Mapping[str, _Member], name: str) -> str:
    """What violations call a member that is given by this name."""
    return members[name].told if name in members else name


def _rivals(
    fields: Sequence[str], choices: Sequence[Sequence[str]], given: Mapping[str, Any], told: Callable[[str], str]
) -> Iterator[tuple[str, str]]:
    """Fields that were given by both of their names, and of each oneof all that were given but the first; and why."""
    for field in given:
        if fields.count(field) > 1:
            yield told(field), "is given more than once"
    for choice in choices:
        chosen = [field for field, item in given.items() if field in choice and item is not None]
        for field in chosen[1:]:
            yield told(field), f"is given beside {told(chosen[0])}, and only one of them may be"


def _leaf_reader(convert: Convert) -> Read:
    def read_leaf(value: Any, path: Path, _depth: int, found: Findings) -> Any:
        try:
            return convert(value)
        except BadValueError as error:
            found.add(path, str(error))
            return None

    return read_leaf


def _dynamic_reader(new: Callable[[], Any], fill: Fill) -> Read:
    def read_dynamic(value: Any, path: Path, depth: int, found: Findings) -> Any:
        message = new()
        fill(value, message, path, depth, found)
        return message

    return read_dynamic


def _scalars_reader(convert: Convert, read: Read) -> Read:
    read_list = _list_reader(read)

    def read_scalars(value: Any, path: Path, depth: int, found: Findings) -> Any:
        if type(value) is list:
            try:
                return [convert(item) for item in value]
            except BadValueError:
                pass
        return read_list(value, path, depth, found)

    return read_scalars


def _list_reader(read: Read) -> Read:
    def read_list(value: Any, path: Path, depth: int, found: Findings) -> list[Any] | None:
        if type(value) is not list:
            found.add(path, "must be a list")
            return None
        return [read(item, (path, index), depth, found) for index, item in enumerate(value)]

    return read_list


def _map_reader(to_key: Convert, read: Read) -> Read:
    def read_map(value: Any, path: Path, depth: int, found: Findings) -> dict[Any, Any] | None:
        if not found.is_object(value, path, depth):
            return None
        items: dict[Any, Any] = {}
        for text, item in value.items():
            where = (path, f"[{text}]")
            try:
                key = to_key(text)
            except BadValueError as error:
                found.add(where, str(error))
                continue
            if key in items:
                found.add(where, "is given more than once")
            else:
                items[key] = read(item, where, depth + 1, found)
        return items

    return read_map


def _builder(new: Callable[..., Any], read: Read) -> Read:
    """Reads what is to be a message and not its fields; answers None if something is wrong with it."""

    def build(value: Any, path: Path, depth: int, found: Findings) -> Any:
        before = found.count
        given = read(value, path, depth, found)
        if found.count != before:
            return None
        return new(**given) if type(given) is dict else given

    return build


def _leaf(descriptor: Descriptor) -> Convert | None:
    """The conversion of a message that is one value of JSON, which stands for its fields."""
    if descriptor.full_name in WRAPPERS:
        convert = scalars.from_json(descriptor.fields_by_name["value"])
        return lambda value: {"value": convert(value)}
    return _LEAVES.get(descriptor.full_name)


def _is_value(field: FieldDescriptor) -> bool:
    """Whether null is a value of the field. For others it means that the member is absent, unless it is converted."""
    return not is_repeated(field) and field.message_type is not None and field.message_type.full_name == VALUE


def _fill(message: Any, given: Any, found: Findings) -> None:
    """What a constructor does, done to a message that is there already."""
    if type(given) is not dict:
        if not found.count:
            message.MergeFrom(given)
    elif found.count:
        _fill_leaves(message, given)
    else:
        message.__init__(**given)


def _fill_leaves(message: Any, given: Mapping[str, Any]) -> None:
    """As much of a message with something wrong in it as other parts of the request may contradict."""
    for name, item in given.items():
        if isinstance(item, str | bytes | int | float):
            setattr(message, name, item)
        elif type(item) is dict and isinstance(inner := getattr(message, name), Message):
            _fill_leaves(inner, item)
