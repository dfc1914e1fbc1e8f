"""The OpenAPI document of the probe."""

import re
from pathlib import Path
from typing import Any

import pytest
from openapi_spec_validator import validate

from gateway.descriptors import load
from gateway.openapi import OpenApi
from gateway.routes import build
from tests.gateway.probe import HERE, SERVICE, compile_protos

PROBE = HERE / "probe.proto"


@pytest.fixture(scope="module")
def document(probe_set: bytes) -> Any:
    schema = load(probe_set)
    return OpenApi(schema, title="Probe").document(build(schema, [SERVICE])[0])


def test_it_validates(document: Any) -> None:
    validate(document)


def test_planned_and_streaming_methods_and_custom_kinds_are_left_out(document: Any) -> None:
    assert "/v1/later" not in document["paths"]
    assert "/v1/watch" not in document["paths"]
    assert set(document["paths"]["/v1/things/mine"]) == {"get"}


def test_methods_of_one_shape_share_a_path(document: Any) -> None:
    path = document["paths"]["/v1/things/{thing.name}"]
    assert set(path) == {"get", "patch"}
    assert document["paths"]["/v1/things/{text}:archive"]["post"]["parameters"][0]["name"] == "text"


def test_wildcards_of_one_variable_are_numbered(document: Any) -> None:
    operation = document["paths"]["/v1/shelves/{text_1}/books/{text_2}"]["get"]
    assert [one["name"] for one in operation["parameters"] if one["in"] == "path"] == ["text_1", "text_2"]


def test_query_parameters_are_the_fields_that_are_left(document: Any) -> None:
    names = [one["name"] for one in document["paths"]["/v1/echo"]["get"]["parameters"] if one["in"] == "query"]
    assert {"text", "bigNumber", "inner.text", "list", "time", "mask"} <= set(names)
    assert not {"inner", "inners", "counts", "value", "inner.inner.inner.text"} & set(names)
    post = document["paths"]["/v1/echo"]["post"]["parameters"]
    assert [one["name"] for one in post] == ["Idempotency-Key"]


def test_comments_become_descriptions(document: Any) -> None:
    assert document["tags"] == [{"name": "Probe", "description": "Echoes what it gets."}]
    echo = document["paths"]["/v1/echo"]["post"]
    assert (echo["summary"], echo["description"]) == (
        "Answers the request",
        "Answers the request. With every kind of field.",
    )
    color = document["components"]["schemas"]["probe.v1.Color"]
    assert "- `COLOR_RED`: Like a rose." in color["description"]
    number = document["components"]["schemas"]["probe.v1.Everything"]["properties"]["bigNumber"]
    assert number["type"] == "string"
    assert number["description"] == "64 bits."


@pytest.mark.parametrize(
    ("path", "method", "tier", "security"),
    [
        ("/v1/things/{thing.name}", "get", "public", None),
        ("/v1/things/mine", "get", "owner", [{}, {"bearer": []}]),
        ("/v1/things/{thing.name}", "patch", "operator", [{"bearer": []}]),
        ("/v1/files/{text}", "get", "service", [{"bearer": []}]),
    ],
)
def test_access_says_who_needs_a_token(document: Any, path: str, method: str, tier: str, security: Any) -> None:
    operation = document["paths"][path][method]
    assert operation.get("security") == security
    assert operation["description"].endswith(f"\n\nAccess: {tier}.")
    assert "Access" not in operation["summary"]
    assert document["components"]["securitySchemes"] == {
        "bearer": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}
    }


def test_without_access_rules_there_is_no_security(tmp_path: Path) -> None:
    proto = re.sub(r"option \(policy.*;|import \"policy.*;", "", PROBE.read_text())
    schema = load(compile_protos(tmp_path, open=proto))
    document: Any = OpenApi(schema, title="Open").document(build(schema, [SERVICE])[0])
    validate(document)
    assert "securitySchemes" not in document["components"]
    for path in document["paths"].values():
        for operation in path.values():
            assert "security" not in operation
            assert "Access:" not in operation["description"]
