"""Filling Struct, Value and ListValue: any JSON there is, kept in a message.

Depth is counted in messages, as protobuf's parsers do: a member of a Struct is an entry, a Value and what it holds.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from gateway import scalars
from gateway.fields import LIST_VALUE, STRUCT, VALUE
from gateway.findings import MAX_DEPTH, Findings, Path
from gateway.json_text import Twice
from gateway.scalars import BadValueError


def fill_value(value: Any, message: Any, path: Path, depth: int, found: Findings) -> None:
    """Fill a Value."""
    kind = type(value)
    if depth > MAX_DEPTH:
        found.add(path, "nests too deep")
    elif kind is dict or kind is Twice:
        message.struct_value.SetInParent()
        fill_struct(value, message.struct_value, path, depth + 1, found)
    elif kind is list:
        message.list_value.SetInParent()
        fill_list(value, message.list_value, path, depth + 1, found)
    elif kind is bool:
        message.bool_value = value
    elif value is None:
        message.null_value = 0
    else:
        try:
            _fill_scalar(value, message)
        except BadValueError as error:
            found.add(path, str(error))


def fill_struct(value: Any, message: Any, path: Path, depth: int, found: Findings) -> None:
    """Fill a Struct."""
    if not found.is_object(value, path, depth):
        return
    fields = message.fields
    for name, item in value.items():
        where = (path, f"[{name}]")
        try:
            key = scalars.to_string(name)
        except BadValueError as error:
            found.add(where, str(error))
        else:
            fill_value(item, fields[key], where, depth + 2, found)


def fill_list(value: Any, message: Any, path: Path, depth: int, found: Findings) -> None:
    """Fill a ListValue."""
    if type(value) is not list:
        found.add(path, "must be a list")
    elif depth >= MAX_DEPTH:
        found.add(path, "nests too deep")
    else:
        values = message.values
        for index, item in enumerate(value):
            fill_value(item, values.add(), (path, index), depth + 1, found)


Fill = Callable[[Any, Any, Path, int, Findings], None]

FILLERS: dict[str, Fill] = {STRUCT: fill_struct, VALUE: fill_value, LIST_VALUE: fill_list}


def _fill_scalar(value: Any, message: Any) -> None:
    if type(value) is str:
        message.string_value = scalars.to_string(value)
    else:
        number = scalars.to_double(value)
        if not math.isfinite(number):
            raise BadValueError("is out of the range of a double")
        message.number_value = number
