"""Taking bodies apart finds what reading them whole finds, wherever they are cut, and refuses what that refuses."""

import json
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import HttpError
from gateway.json_text import BadJsonError, parse, parse_slowly
from gateway.splitting import Array, Bytes, Lines, Splitter

MOST = 1 << 20
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-99, 99) | st.text('ab"\\,[]{}\n é', max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text('a"]\\', max_size=3), inner, max_size=3),
    max_leaves=8,
)
CUTS = st.lists(st.integers(0, 60), max_size=20)
STYLES: list[dict[str, Any]] = [{}, {"indent": 1}, {"separators": (",", ":"), "ensure_ascii": False}]


def split(splitter: Splitter, body: bytes, cuts: Sequence[int]) -> list[Any]:
    places = sorted({0, len(body), *(cut for cut in cuts if cut < len(body))})
    texts = [text for start, end in pairwise(places) for text in splitter.feed(body[start:end])]
    return [parse(text) for text in [*texts, *splitter.end()]]


@given(st.lists(VALUES, max_size=5), st.sampled_from(STYLES), CUTS)
def test_the_elements_of_an_array_are_found(values: list[Any], style: dict[str, Any], cuts: list[int]) -> None:
    assert split(Array(MOST), b" \n" + json.dumps(values, **style).encode() + b"\r\n ", cuts) == values


@given(st.lists(VALUES, max_size=5), CUTS)
def test_lines_are_found(values: list[Any], cuts: list[int]) -> None:
    body = "\n\n".join(json.dumps(value) for value in values)
    assert split(Lines(MOST), body.encode(), cuts) == values


@given(st.text('[]{},:"\\1a \n', max_size=12), CUTS)
def test_an_array_is_taken_if_and_only_if_it_is_json(text: str, cuts: list[int]) -> None:
    body = f"[{text}".encode()
    try:
        whole = parse_slowly(body)
    except BadJsonError:
        whole = None
    try:
        found = split(Array(MOST), body, cuts)
    except (HttpError, BadJsonError):
        found = None
    assert found == whole


@given(st.binary(max_size=50), CUTS)
def test_bytes_stay_as_they_are_in_messages_that_are_not_too_large(body: bytes, cuts: list[int]) -> None:
    splitter = Bytes(7)
    places = sorted({0, len(body), *(cut for cut in cuts if cut < len(body))})
    pieces = [piece for start, end in pairwise(places) for piece in splitter.feed(body[start:end])]
    pieces += splitter.end()
    assert b"".join(pieces) == body
    assert pieces
    assert all(len(piece) <= 7 for piece in pieces)
