"""The well-known types that JSON writes as one string: Timestamp, Duration and FieldMask, from text and to it.

The forms are those of the ProtoJSON specification, to the letter in both directions: what is read is written as the
same moment, span or path again, and what cannot be written so is refused. The readers answer what the message's
constructor takes and raise BadValueError; the writers raise UnwritableError.
"""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any

from gateway.scalars import BadValueError

Members = dict[str, Any]

# Seconds from the first moment of the year 1 to the last of 9999.
_FIRST_S, _LAST_S = -62_135_596_800, 253_402_300_799
_LONGEST_S = 315_576_000_000
_NANOS = 1_000_000_000
_DAY_S = 86_400
_EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001 - all here is UTC

# Made once, since times are half the work of writing many a message.
_TWO = [f"{number:02d}" for number in range(60)]
_MINUTES = [f"{hour}:{minute}" for hour in _TWO[:24] for minute in _TWO]

# Hours are told apart here, because later Pythons read 24:00:00 as the next day.
_TIMESTAMP = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2}T(?:[01][0-9]|2[0-3]):[0-9]{2}:[0-9]{2})"
    r"(?:\.([0-9]{1,9}))?"
    r"(?:Z|([+-])([01][0-9]|2[0-3]):([0-5][0-9]))"
)
_DURATION = re.compile(r"(-?)([0-9]{1,18})(?:\.([0-9]{1,9}))?s")
_CAPITAL = re.compile(r"[A-Z]")
_HUMP = re.compile(r"_([a-z])")
# What snake_case has that does not come back from camelCase.
_ONE_WAY = re.compile(r"[A-Z,]|_(?![a-z])")


class UnwritableError(ValueError):
    """A message holds what JSON has no form for; the text names its type and says what."""


def read_timestamp(value: Any) -> Members:
    """A moment of the years 1 to 9999 in the form of RFC 3339, with capital letters, at any offset."""
    match = _TIMESTAMP.fullmatch(value) if type(value) is str else None
    if match is None:
        raise BadValueError('must be a time such as "2026-01-02T03:04:05.678Z"')
    local, fraction, sign, hours, minutes = match.groups()
    try:
        since = datetime.fromisoformat(local) - _EPOCH
    except ValueError as error:
        raise BadValueError("is no day or time of the calendar") from error
    seconds = since.days * _DAY_S + since.seconds
    if sign is not None:
        ahead_s = int(hours) * 3600 + int(minutes) * 60
        seconds += ahead_s if sign == "-" else -ahead_s
        if not _FIRST_S <= seconds <= _LAST_S:
            raise BadValueError("must be in the years 1 to 9999")
    return {"seconds": seconds, "nanos": _read_nanos(fraction)}


def write_timestamp(message: Any) -> str:
    """In UTC, with none, three, six or nine digits behind the point."""
    seconds, nanos = message.seconds, message.nanos
    if not (_FIRST_S <= seconds <= _LAST_S and 0 <= nanos < _NANOS):
        raise UnwritableError(f"a Timestamp of {seconds} s and {nanos} ns is not in the years 1 to 9999")
    fraction = _write_nanos(nanos) if nanos else ""
    return f"{_date(seconds // _DAY_S)}T{_MINUTES[seconds % _DAY_S // 60]}:{_TWO[seconds % 60]}{fraction}Z"


@lru_cache(maxsize=1024)
def _date(days: int) -> str:
    """Of so many days since 1970. Kept, since most times that are written are of a few days."""
    return (_EPOCH + timedelta(days=days)).date().isoformat()


def read_duration(value: Any) -> Members:
    """Seconds with up to nine digits behind the point and an "s", at most 10,000 years either way."""
    match = _DURATION.fullmatch(value) if type(value) is str else None
    if match is None:
        raise BadValueError('must be a span of seconds such as "1.5s"')
    sign, whole, fraction = match.groups()
    seconds, nanos = int(whole), _read_nanos(fraction)
    if seconds > _LONGEST_S:
        raise BadValueError(f"must be from -{_LONGEST_S}s to {_LONGEST_S}s")
    return {"seconds": -seconds, "nanos": -nanos} if sign else {"seconds": seconds, "nanos": nanos}


def write_duration(message: Any) -> str:
    """With none, three, six or nine digits behind the point. Seconds and nanos must not have opposite signs."""
    seconds, nanos = message.seconds, message.nanos
    if abs(seconds) > _LONGEST_S or abs(nanos) >= _NANOS or seconds * nanos < 0:
        raise UnwritableError(f"a Duration of {seconds} s and {nanos} ns is out of its range or of two signs")
    sign = "-" if seconds < 0 or nanos < 0 else ""
    return f"{sign}{abs(seconds)}{_write_nanos(abs(nanos))}s"


def read_mask(value: Any) -> Members:
    """Paths in lowerCamelCase with commas between them; an empty text is a mask of no paths."""
    if type(value) is not str:
        raise BadValueError('must be a text of paths such as "displayName,owner.name"')
    return {"paths": [_read_path(path) for path in value.split(",")] if value else []}


def write_mask(message: Any) -> str:
    """The paths in lowerCamelCase. A path that would not be read as itself again is refused."""
    return ",".join([_write_path(path) for path in message.paths])


def read_paths(text: str) -> list[str]:
    """The paths of a mask in a URL, which may be in lowerCamelCase or, as many clients have it, in snake_case."""
    return [_read_any_path(path.strip()) for path in text.split(",") if path]


def _read_path(path: str) -> str:
    if not path or "_" in path or path.strip() != path or not path.isprintable():
        raise BadValueError(f"holds {path!r}, which is no path in lowerCamelCase")
    return _to_snake(path)


def _read_any_path(path: str) -> str:
    snake = _to_snake(path)
    if not _comes_back(snake):
        raise BadValueError(f"holds {path!r}, which is no path of fields")
    return snake


def _write_path(path: str) -> str:
    if not _comes_back(path):
        raise UnwritableError(f"a FieldMask's path {path!r} has no form in lowerCamelCase")
    return _HUMP.sub(lambda hump: hump[1].upper(), path)


def _to_snake(path: str) -> str:
    return _CAPITAL.sub(lambda capital: f"_{capital[0].lower()}", path)


def _comes_back(snake: str) -> bool:
    return bool(snake) and snake.strip() == snake and _ONE_WAY.search(snake) is None


def _read_nanos(fraction: str | None) -> int:
    return int(fraction.ljust(9, "0")) if fraction else 0


def _write_nanos(nanos: int) -> str:
    """The point and as many digits as it takes, by threes."""
    if nanos == 0:
        return ""
    if nanos % 1_000_000 == 0:
        return f".{nanos // 1_000_000:03d}"
    return f".{nanos:09d}" if nanos % 1_000 else f".{nanos // 1_000:06d}"
