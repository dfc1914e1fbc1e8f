"""Text to JSON values, strictly: UTF-8 alone, no NaN, no member given twice, integers of 64 bits exact.

orjson is three times as fast as the standard library and as strict, except that it keeps the last of the members that
have one name. So what it has read is written again, which takes little: a lost member is a name less.
"""

from __future__ import annotations

import json
from collections import Counter
from typing import Any, NoReturn

import orjson


class BadJsonError(ValueError):
    """The text is not JSON as we take it. `field` names the member, where one is to blame."""

    def __init__(self, message: str, field: str = "") -> None:
        super().__init__(message)
        self.field = field


class Twice(dict[str, Any]):
    """An object in which members were given more than once: it holds the last of each, and `names` them."""

    def __init__(self, pairs: list[tuple[str, Any]]) -> None:
        super().__init__(pairs)
        self.names = [name for name, times in Counter(name for name, _ in pairs).items() if times > 1]


class GivenTwiceError(BadJsonError):
    """Members are given twice. `value` is what the text holds, with a Twice where they are, for who knows the way."""

    def __init__(self, value: Any, field: str) -> None:
        super().__init__("is given more than once", field)
        self.value = value


def parse(text: bytes) -> Any:
    """The JSON value of UTF-8 text. Raises BadJsonError, also for NaN and Infinity, and for members given twice."""
    try:
        value = orjson.loads(text)
        again = orjson.dumps(value)
        # Most programs write as orjson does, and there is nothing to count.
        if again == text or _quotes(again) == _quotes(text):
            return value
    except (orjson.JSONDecodeError, orjson.JSONEncodeError):
        pass
    # The slow parser says what is wrong in words we know, and leaves to the reader, which names the field, what only
    # the fast one minds: half a surrogate pair, a number too large for a double, and more than 254 levels.
    return parse_slowly(text)


def _quotes(text: bytes) -> int:
    """How many quotes stand around the strings of a JSON text."""
    if b'\\"' in text:
        text = text.replace(b"\\\\", b"").replace(b'\\"', b"")
    return text.count(b'"')


def parse_slowly(text: bytes) -> Any:
    """As `parse`, by the standard library alone."""
    twice: list[Twice] = []

    def to_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        value = dict(pairs)
        if len(value) == len(pairs):
            return value
        twice.append(Twice(pairs))
        return twice[-1]

    try:
        value = json.loads(text.decode(), object_pairs_hook=to_object, parse_constant=_refuse_constant)
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
    if twice:
        raise GivenTwiceError(value, twice[0].names[0])
    return value


def _refuse_constant(name: str) -> NoReturn:
    raise BadJsonError(f"the body is not JSON: {name} is no number")
