"""The trie, and the rules that are refused at start."""

from pathlib import Path

import pytest

from gateway.descriptors import load
from gateway.routes import MethodNotAllowedError, Router, build
from gateway.template import parse
from tests.gateway.probe import compile_protos

TEMPLATES = [
    "/a/b",
    "/a/*",
    "/a/**",
    "/*/b/c",
    "/a/*/d",
    "/a/b:verb",
    "/a/*:verb",
    "/a/**:other",
    "/x/{y=p/*}/z",
]


@pytest.mark.parametrize(
    ("path", "wanted"),
    [
        ("/a/b", "/a/b"),
        ("/a/c", "/a/*"),
        ("/a/b/c", "/a/**"),
        ("/q/b/c", "/*/b/c"),
        ("/a/x/d", "/a/*/d"),
        ("/a/x/e", "/a/**"),
        ("/a", "/a/**"),
        ("/a/b:verb", "/a/b:verb"),
        ("/a/z:verb", "/a/*:verb"),
        ("/a/z:no", "/a/*"),
        ("/a/b:", "/a/*"),
        ("/a/b/c/d:other", "/a/**:other"),
        ("/a/%62", "/a/b"),
        ("/a/b%3Averb", "/a/*"),
        ("/x/p/1/z", "/x/{y=p/*}/z"),
        ("/x/q/1/z", None),
        ("/", None),
    ],
)
@pytest.mark.parametrize("step", [1, -1])
def test_literal_beats_one_beats_many_in_any_order(path: str, wanted: str | None, step: int) -> None:
    router: Router[str] = Router()
    for template in TEMPLATES[::step]:
        assert router.add(parse(template), "GET", template) is None
    found = router.match("GET", path)
    assert (found and found[0]) == wanted


def test_another_method_is_told_what_is_allowed() -> None:
    router: Router[str] = Router()
    router.add(parse("/a/{b}"), "GET", "get")
    router.add(parse("/a/{c}"), "PATCH", "patch")
    router.add(parse("/a/me"), "PUT", "put")
    with pytest.raises(MethodNotAllowedError) as caught:
        router.match("DELETE", "/a/me")
    assert caught.value.allow == ["GET", "HEAD", "PATCH", "PUT"]
    assert router.match("GET", "/a/me") == ("get", ["a", "me"])
    assert router.match("HEAD", "/a/x") == ("get", ["a", "x"])


def test_any_method_is_the_last_resort() -> None:
    router: Router[str] = Router()
    router.add(parse("/a"), "*", "any")
    router.add(parse("/a"), "GET", "get")
    assert [router.match(method, "/a") for method in ("GET", "PUT")] == [("get", ["a"]), ("any", ["a"])]


RULES = {
    'get: "v1"': "a path starts with '/'",
    'get: "/v1/{nope}"': "m.M has no field 'nope'",
    'get: "/v1/{list}"': "the path cannot carry field 'list'",
    'get: "/v1/{inner}"': "the path cannot carry field 'inner'",
    'get: "/v1/{text.x}"': "'text' has no fields",
    'get: "/v1" body: "*"': "GET cannot have a body",
    'post: "/v1" body: "nope"': "body names 'nope'",
    'post: "/v1" body: "inner.text"': "body names 'inner.text'",
    'post: "/v1/{text}" body: "text"': "bound by the path and by the body",
    'get: "/v1" response_body: "nope"': "response_body names 'nope'",
    'body: "*"': "needs an HTTP method and a path",
    'custom: {kind: "" path: "/v1"}': "needs an HTTP method and a path",
    'get: "/v1" additional_bindings {get: "/v2" additional_bindings {get: "/v3"}}': "one level deep",
    'get: "/v1/{text}" additional_bindings {get: "/v1/*"}': "matches the same requests as r.proto: m.S.R: GET",
}


@pytest.mark.parametrize(("rule", "reason"), RULES.items())
def test_an_unlawful_rule_names_file_method_and_reason(tmp_path: Path, rule: str, reason: str) -> None:
    schema = load(compile_protos(tmp_path, r=_proto(rule)))
    _, problems = build(schema, ["m.S"])
    assert len(problems) == 1
    assert problems[0].startswith("r.proto: m.S.R: ")
    assert reason in problems[0]


def test_a_method_without_a_rule_has_no_route(tmp_path: Path) -> None:
    schema = load(compile_protos(tmp_path, r=_proto("").replace("option (google.api.http) = {};", "")))
    assert build(schema, ["m.S"]) == ([], [])


def _proto(rule: str) -> str:
    return f"""
syntax = "proto3";
package m;
import "google/api/annotations.proto";
message M {{
  string text = 1;
  repeated string list = 2;
  M inner = 3;
}}
service S {{
  rpc R(M) returns (M) {{
    option (google.api.http) = {{{rule}}};
  }}
}}
"""
