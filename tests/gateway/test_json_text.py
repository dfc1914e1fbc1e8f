"""The parser of bodies: fast where all is well, and as strict as the standard library's where it is not."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gateway.json_text import BadJsonError, GivenTwiceError, Twice, parse, parse_slowly

_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
    lambda one: st.lists(one, max_size=3) | st.dictionaries(st.text(max_size=2), one, max_size=3),
    max_leaves=8,
)
_PIECES = st.sampled_from(
    [
        *(
            b"{",
            b"}",
            b"[",
            b"]",
            b",",
            b":",
            b'"',
            b'"a"',
            b'"a":',
            b"1",
            b"-",
            b"-0",
            b"0",
            b"1.5",
            b"e9",
            b"E+",
            b".",
        ),
        *(b"null", b"true", b"NaN", b"Infinity", b"-Infinity", b" ", b"\n", b"\x0c", b"\\u00e9", b"\\ud800", b"\\"),
        *(b"\xff", b"\xc3", b"\xc3\xa9", b"\xed\xa0\x80", b"\xef\xbb\xbf", b"\0", b"//", b"/**/", b"'", b"1" * 30),
        *(b'"a":1,"a":2', b'"\\"":"\\\\"', b'"\\u0061"'),
    ]
)


def outcome(read: Any, text: bytes) -> str:
    """What comes of a text, told exactly: 1 and 1.0 and True are three, and so are 0.0 and -0.0."""
    try:
        return repr(rounded(read(text)))
    except BadJsonError:
        return "refused"


def rounded(value: Any) -> Any:
    """The same value with integers of more than 64 bits as floats, which is what they are for any field."""
    if isinstance(value, dict):
        return {name: rounded(item) for name, item in value.items()}
    if isinstance(value, list):
        return [rounded(item) for item in value]
    return float(value) if isinstance(value, int) and not -(1 << 63) <= value < 1 << 64 else value


@settings(max_examples=200, deadline=None)
@given(value=_VALUES, plain=st.booleans())
def test_json_is_read_as_the_standard_library_reads_it(value: Any, *, plain: bool) -> None:
    text = json.dumps(value, ensure_ascii=not plain).encode("utf-8", "surrogatepass")
    assert outcome(parse, text) == outcome(parse_slowly, text)


@settings(max_examples=400, deadline=None)
@given(text=st.lists(_PIECES, max_size=12).map(b"".join))
@example(text=b'{"a":1,"\\u0061":2}')
@example(text=b'{"a":"\\\\\\"","a":"\\\\"}')
@example(text=b'{"a":"x","a":"\\"\\""}')
@example(text=b"[1e400,-1e400,1e-400,-0,-0.0]")
@example(text=b'{"a":' + b"9" * 300 + b"}")
@example(text=b'{"a":' + b"9" * 5000 + b"}")
@example(text=b'["\xed\xa0\x80"]')
@example(text=b'["\xc0\x80"]')
@example(text=b'["\xf4\x90\x80\x80"]')
def test_what_is_nearly_json_is_refused_as_the_standard_library_refuses_it(text: bytes) -> None:
    assert outcome(parse, text) == outcome(parse_slowly, text)


def test_integers_of_64_bits_are_exact() -> None:
    assert parse(b"[18446744073709551615, -9223372036854775808]") == [(1 << 64) - 1, -(1 << 63)]


def test_members_that_are_given_twice_are_marked_where_they_are() -> None:
    with pytest.raises(GivenTwiceError) as raised:
        parse(b'{"a": [{}, {"b": 1, "c": 2, "b": 3, "c": 4, "d": 5}], "e": 6}')
    twice = raised.value.value["a"][1]
    assert (type(twice), twice, twice.names) == (Twice, {"b": 3, "c": 4, "d": 5}, ["b", "c"])
    assert type(raised.value.value) is dict


@pytest.mark.parametrize(
    ("text", "field", "message"),
    [
        (b'{"a": 1, "b": {"c": 1, "c": 2}}', "c", "more than once"),
        (b"[1", "", "at byte 2"),
        (b"[NaN]", "", "NaN"),
        (b"[-Infinity]", "", "-Infinity"),
        (b"\xff", "", "UTF-8"),
        (b"[" * 100_000, "", "too deep"),
        (b"1" * 5_000, "", "digits"),
        (b"{} {}", "", "at byte 3"),
        (b"", "", "not JSON"),
    ],
)
def test_what_is_wrong_is_said(text: bytes, field: str, message: str) -> None:
    with pytest.raises(BadJsonError, match=message) as raised:
        parse(text)
    assert raised.value.field == field
