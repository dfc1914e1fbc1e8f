"""Single values: from JSON, and from the text of a URL, to what a protobuf field takes.

The rules are those of the ProtoJSON specification, with its ranges; nothing is rounded, cut or guessed. Every function
raises BadValueError with a sentence fit for the caller.
"""

from __future__ import annotations

import base64
import math
import re
from collections.abc import Callable
from fractions import Fraction
from typing import Any

from google.protobuf.descriptor import EnumDescriptor, FieldDescriptor

from gateway.fields import NULL_VALUE, enum_of

Convert = Callable[[Any], Any]
"""From a JSON value to what a field takes. Raises BadValueError."""

_INTEGER = re.compile(r"-?(?:0|[1-9][0-9]{0,19})")
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]{0,400})(?:\.[0-9]{1,400})?(?:[eE][+-]?[0-9]{1,4})?")
_BASE64 = re.compile(r"[A-Za-z0-9+/_-]*={0,2}")
_SPECIAL = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}
# A number of JSON below the integers of 64 bits is read as a float, and might be rounded to the least of them.
_LEAST_EXACT = -(2.0**63)
# Half a step beyond the largest float: from here on, numbers round to infinity.
_BEYOND_FLOAT = float.fromhex("0x1.ffffffp+127")

_INT32 = {FieldDescriptor.TYPE_INT32, FieldDescriptor.TYPE_SINT32, FieldDescriptor.TYPE_SFIXED32}
_INT64 = {FieldDescriptor.TYPE_INT64, FieldDescriptor.TYPE_SINT64, FieldDescriptor.TYPE_SFIXED64}
_UINT32 = {FieldDescriptor.TYPE_UINT32, FieldDescriptor.TYPE_FIXED32}
_UINT64 = {FieldDescriptor.TYPE_UINT64, FieldDescriptor.TYPE_FIXED64}


class BadValueError(ValueError):
    """The value is not one the field can take; the text says what it takes."""


def from_json(field: FieldDescriptor) -> Convert:
    """The conversion of one JSON value of a scalar or enum field."""
    kind = field.type
    if kind in _INT32 | _INT64 | _UINT32 | _UINT64:
        return _integer(*_range(kind))
    if kind == FieldDescriptor.TYPE_ENUM:
        return _enum(enum_of(field))
    return {
        FieldDescriptor.TYPE_BOOL: _bool,
        FieldDescriptor.TYPE_STRING: to_string,
        FieldDescriptor.TYPE_BYTES: _bytes,
        FieldDescriptor.TYPE_DOUBLE: to_double,
        FieldDescriptor.TYPE_FLOAT: _float,
    }[kind]


def from_text(field: FieldDescriptor) -> Convert:
    """The conversion of the text of a scalar or enum field in a path, a query or a map's key."""
    if field.type == FieldDescriptor.TYPE_BOOL:
        return _bool_text
    if field.type == FieldDescriptor.TYPE_ENUM:
        convert = _enum(enum_of(field))
        return lambda text: convert(int(text) if _INTEGER.fullmatch(text) else text)
    return from_json(field)


def _range(kind: int) -> tuple[int, int]:
    if kind in _INT32:
        return -(1 << 31), (1 << 31) - 1
    if kind in _INT64:
        return -(1 << 63), (1 << 63) - 1
    return 0, (1 << (32 if kind in _UINT32 else 64)) - 1


def _integer(low: int, high: int) -> Convert:
    def convert(value: Any) -> int:
        number: int = value if type(value) is int else _to_integer(value)
        if low <= number <= high:
            return number
        raise BadValueError(f"must be an integer from {low} to {high}")

    return convert


def _to_integer(value: Any) -> int:
    if type(value) is str:
        try:
            number = int(value)
        except ValueError:
            return _exact(value)
        # The commonest form is the one that comes back.
        return number if str(number) == value else _exact(value)
    if type(value) is float and value.is_integer() and value > _LEAST_EXACT:
        return int(value)
    raise BadValueError("must be an integer")


def _exact(text: str) -> int:
    number = Fraction(text) if _NUMBER.fullmatch(text) else None
    if number is None or number.denominator != 1:
        raise BadValueError("must be an integer")
    return number.numerator


def to_double(value: Any) -> float:
    """A number, or one of the three texts for what JSON has no number for."""
    number = _to_float(value)
    if math.isinf(number) and value not in ("Infinity", "-Infinity"):
        raise BadValueError("is out of the range of a double")
    return number


def _float(value: Any) -> float:
    number = _to_float(value)
    if abs(number) >= _BEYOND_FLOAT and value not in ("Infinity", "-Infinity"):
        raise BadValueError("is out of the range of a float")
    return number


def _to_float(value: Any) -> float:
    if type(value) is str:
        if value in _SPECIAL:
            return _SPECIAL[value]
        if _NUMBER.fullmatch(value):
            return float(value)
    elif type(value) is int or type(value) is float:
        try:
            return float(value)
        except OverflowError as error:
            raise BadValueError("is out of the range of a double") from error
    raise BadValueError("must be a number")


def _bool(value: Any) -> bool:
    if type(value) is bool:
        return value
    raise BadValueError("must be true or false")


def _bool_text(text: str) -> bool:
    if text in ("true", "false"):
        return text == "true"
    raise BadValueError("must be true or false")


def to_string(value: Any) -> str:
    """A text of whole characters: half a surrogate pair has no UTF-8."""
    if type(value) is not str:
        raise BadValueError("must be a string")
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError as error:
            raise BadValueError("must be a string of whole Unicode characters") from error
    return value


def _bytes(value: Any) -> bytes:
    if type(value) is str and _BASE64.fullmatch(value):
        digits = value.rstrip("=")
        whole = len(value) % 4 == 0 if len(digits) != len(value) else len(digits) % 4 != 1
        if whole:
            return base64.urlsafe_b64decode(digits.replace("+", "-").replace("/", "_") + "=" * (-len(digits) % 4))
    raise BadValueError("must be base64")


def _enum(enum: EnumDescriptor) -> Convert:
    if enum.full_name == NULL_VALUE:
        return _null
    numbers = {value.name: int(value.number) for value in enum.values}
    known = frozenset(numbers.values())
    is_closed = enum.is_closed
    open_range = _integer(-(1 << 31), (1 << 31) - 1)
    takes = f"must be a value of {enum.full_name}: {', '.join(numbers)}"

    def convert(value: Any) -> int:
        if type(value) is str and value in numbers:
            return numbers[value]
        if type(value) is float and value.is_integer():
            value = int(value)
        if type(value) is int and (value in known or not is_closed):
            number: int = open_range(value)
            return number
        raise BadValueError(takes)

    return convert


def _null(value: Any) -> int:
    if value is None or value == "NULL_VALUE" or (type(value) is int and value == 0):
        return 0
    raise BadValueError("must be null")
