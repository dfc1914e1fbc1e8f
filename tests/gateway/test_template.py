"""The path grammar."""

import pytest

from gateway.template import TemplateError, parse


@pytest.mark.parametrize(
    ("text", "segments", "verb"),
    [
        ("/v1/a", [("v1", False), ("a", False)], ""),
        ("/v1/*", [("v1", False), ("*", True)], ""),
        ("/v1/**", [("v1", False), ("**", True)], ""),
        ("/v1/{a}", [("v1", False), ("*", True)], ""),
        ("/v1/{a.b_c=x/*/y/**}:do", [("v1", False), ("x", False), ("*", True), ("y", False), ("**", True)], "do"),
        ("/.well-known/a.json", [(".well-known", False), ("a.json", False)], ""),
        ("/a%20b", [("a b", False)], ""),
        ("/%2A", [("*", False)], ""),
        ("/a:batchGet", [("a", False)], "batchGet"),
    ],
)
def test_lawful_paths_are_parsed(text: str, segments: list[tuple[str, bool]], verb: str) -> None:
    template = parse(text)
    assert (list(template.segments), template.verb) == (segments, verb)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "v1",
        "/",
        "/a//b",
        "/a/",
        "/a:",
        "/a:b:c",
        "/a:*",
        "/{a",
        "/a}",
        "/{}",
        "/{=a}",
        "/{a.}",
        "/{1a}",
        "/{a={b}}",
        "/{a=}",
        "/{a=b/}",
        "/**/a",
        "/{a=**}/b",
        "/{a}/{a}",
        "/a*b",
        "/a b",
        "/a?b",
        "/%FF",
        "/%2",
    ],
)
def test_unlawful_paths_are_refused(text: str) -> None:
    with pytest.raises(TemplateError):
        parse(text)


@pytest.mark.parametrize(
    ("text", "raw", "value"),
    [
        ("/{a}", ["x%2Fy%20z"], "x/y z"),
        ("/{a}", ["%2541"], "%41"),
        ("/{a=b/*}", ["b", "x%2Fy%20z"], "b/x%2Fy z"),
        ("/{a=b/**}", ["b", "c", "d"], "b/c/d"),
        ("/{a=**}", [], ""),
        ("/{a=**}", ["%3f%C3%BC%3F"], "%3fü%3F"),
        ("/{a=**}", ["%2541"], "%2541"),
        ("/{a=lit}", ["lit"], "lit"),
    ],
)
def test_variables_are_decoded_once(text: str, raw: list[str], value: str) -> None:
    assert parse(text).variables[0].value(raw) == value
