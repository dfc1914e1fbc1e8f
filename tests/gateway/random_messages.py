"""Hypothesis strategies for messages of any type, made from its descriptor."""

from __future__ import annotations

import string
from collections.abc import Callable
from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from gateway.descriptors import message_class
from gateway.dynamic import FILLERS
from gateway.fields import is_map
from gateway.findings import Findings

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=6)
# json_format writes floats beyond this one as numbers that it does not read.
_NEARLY_MAX = float.fromhex("0x1.fffffp+127")
_ALMOST_ALL_FLOATS = st.floats(-_NEARLY_MAX, _NEARLY_MAX, width=32) | st.sampled_from([float("inf"), float("-inf")])
_SCALARS: dict[int, SearchStrategy[Any]] = {
    FieldDescriptor.TYPE_DOUBLE: st.floats(allow_nan=False),
    FieldDescriptor.TYPE_FLOAT: _ALMOST_ALL_FLOATS,
    FieldDescriptor.TYPE_BOOL: st.booleans(),
    FieldDescriptor.TYPE_STRING: TEXT,
    FieldDescriptor.TYPE_BYTES: st.binary(max_size=6),
} | {
    getattr(FieldDescriptor, f"TYPE_{kind}{bits}"): st.integers(low << bits - 1, (1 << bits + low) - 1)
    for bits in (32, 64)
    for kinds, low in ((("INT", "SINT", "SFIXED"), -1), (("UINT", "FIXED"), 0))
    for kind in kinds
}


NANOS = (
    st.integers(0, 999_999_999)
    | st.integers(0, 999_999).map(lambda micros: micros * 1_000)
    | st.integers(0, 999).map(lambda millis: millis * 1_000_000)
)
_WORD = st.text(string.ascii_lowercase, min_size=1, max_size=3)
_PATH = st.lists(st.lists(_WORD, min_size=1, max_size=3).map("_".join), min_size=1, max_size=2).map(".".join)
JSON = st.recursive(
    st.none() | st.booleans() | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda one: st.lists(one, max_size=3) | st.dictionaries(TEXT, one, max_size=3),
    max_leaves=6,
)
_DYNAMIC = {
    "google.protobuf.Struct": st.dictionaries(TEXT, JSON, max_size=3),
    "google.protobuf.Value": JSON,
    "google.protobuf.ListValue": st.lists(JSON, max_size=3),
}


def messages(descriptor: Descriptor, depth: int = 2) -> SearchStrategy[Any]:
    """Messages that JSON can tell, of which sub-messages nest this deep."""
    special = _well_known(descriptor)
    if special is not None:
        return special
    fields = [field for field in descriptor.fields if depth or field.message_type is None]
    loose = {field.name: _field(field, depth - 1) for field in fields if not (_in_choice(field) or _is_nulls(field))}
    members = st.fixed_dictionaries({}, optional=loose)
    for oneof in descriptor.oneofs:
        chosen = [_chosen(field, depth - 1) for field in oneof.fields if field in fields and _in_choice(field)]
        if chosen:
            members = st.builds(lambda some, one: some | one, members, st.just({}) | st.one_of(chosen))
    return members.map(_from_members(descriptor))


def _from_members(descriptor: Descriptor) -> Callable[[dict[str, Any]], Any]:
    return lambda members: message_class(descriptor)(**members)


def _in_choice(field: FieldDescriptor) -> bool:
    return field.containing_oneof is not None and len(field.containing_oneof.fields) > 1


def _is_nulls(field: FieldDescriptor) -> bool:
    """A list of nulls, which json_format writes but does not read."""
    return bool(field.is_repeated) and field.enum_type is not None and field.enum_type.name == "NullValue"


def _chosen(field: FieldDescriptor, depth: int) -> SearchStrategy[dict[str, Any]]:
    return _field(field, depth).map(lambda value: {field.name: value})


def _field(field: FieldDescriptor, depth: int) -> SearchStrategy[Any]:
    if is_map(field) and field.message_type is not None:
        entry = field.message_type.fields_by_name
        return st.dictionaries(_one(entry["key"], depth), _one(entry["value"], depth), max_size=2)
    return st.lists(_one(field, depth), max_size=2) if field.is_repeated else _one(field, depth)


def _one(field: FieldDescriptor, depth: int) -> SearchStrategy[Any]:
    if field.message_type is not None:
        return messages(field.message_type, max(depth, 0))
    if field.enum_type is not None:
        numbers = [value.number for value in field.enum_type.values]
        return st.sampled_from(numbers if field.enum_type.name == "NullValue" else [*numbers, 77])
    return _SCALARS[field.type]


def _well_known(descriptor: Descriptor) -> SearchStrategy[Any] | None:
    name, new = descriptor.full_name, message_class(descriptor)
    make: Any = new
    if name in _DYNAMIC:
        return _DYNAMIC[name].map(lambda value: _dynamic(new(), name, value))
    if name == "google.protobuf.Timestamp":
        return st.builds(make, seconds=st.integers(-62_135_596_800, 253_402_300_799), nanos=NANOS)
    if name == "google.protobuf.Duration":
        whole = st.builds(make, seconds=st.integers(0, 315_576_000_000), nanos=NANOS)
        return whole | whole.map(lambda one: make(seconds=-one.seconds, nanos=-one.nanos))
    if name == "google.protobuf.FieldMask":
        return st.builds(make, paths=st.lists(_PATH, max_size=3))
    if name == "google.protobuf.Any":
        return st.builds(make) | _packed(descriptor, make)
    return None


def _packed(descriptor: Descriptor, new: Callable[..., Any]) -> SearchStrategy[Any]:
    # None with a map, whose entries json_format packs in any order.
    names = ("Timestamp", "Duration", "FieldMask", "Int64Value", "BytesValue", "Empty")
    found = [descriptor.file.pool.FindMessageTypeByName(f"google.protobuf.{name}") for name in names]
    found.append(descriptor.file.pool.FindMessageTypeByName("kinds.v1.Leaf"))

    def pack(inner: Any) -> Any:
        url = f"type.googleapis.com/{inner.DESCRIPTOR.full_name}"
        return new(type_url=url, value=inner.SerializeToString(deterministic=True))

    once = st.one_of([messages(kind, 0) for kind in found]).map(pack)
    return once | once.map(pack)


def _dynamic(message: Any, name: str, value: Any) -> Any:
    FILLERS[name](value, message, None, 0, Findings())
    return message
