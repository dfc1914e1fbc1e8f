"""The OpenAPI document of the probe."""

import asyncio
import re
import sys
from pathlib import Path
from typing import Any

import pytest
from openapi_spec_validator import validate

from gateway.descriptors import load
from gateway.openapi import OpenApi
from gateway.routes import build
from tests.contract.upstream import PROTOS
from tests.gateway.probe import HERE, ROOT, SERVICE, compile_protos, serving, shim

PROBE = HERE / "probe.proto"
SCHEMATHESIS = ROOT / "tests" / "e2e" / "schemathesis.toml"


@pytest.fixture(scope="module")
def document(probe_set: bytes) -> Any:
    schema = load(probe_set)
    return OpenApi(schema, title="Probe").document(build(schema, [SERVICE])[0])


def test_it_validates(document: Any) -> None:
    validate(document)


def test_planned_methods_and_custom_kinds_are_left_out(document: Any) -> None:
    assert "/v1/later" not in document["paths"]
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
    assert not {"inner", "inners", "value", "inner.inner.inner.text"} & set(names)
    post = document["paths"]["/v1/echo"]["post"]["parameters"]
    assert [one["name"] for one in post] == ["Idempotency-Key"]


def test_maps_whose_values_are_texts_are_parameters_by_their_entries(document: Any) -> None:
    parameters = {one["name"]: one for one in document["paths"]["/v1/echo"]["get"]["parameters"]}
    assert parameters["counts"] == {
        "name": "counts",
        "in": "query",
        "style": "deepObject",
        "explode": True,
        "description": "By name.",
        "schema": {
            "type": "object",
            "additionalProperties": {"type": "string", "format": "int64", "pattern": "^-?[0-9]+$"},
        },
    }
    assert "byNumber" not in parameters


def test_maps_in_messages_are_parameters_by_their_paths(tmp_path: Path) -> None:
    schema = load(compile_protos(tmp_path, **PROTOS))
    table: Any = OpenApi(schema, title="Table").document(build(schema, ["table.v1.Table"])[0])
    validate(table)
    parameters = table["paths"]["/v1/echo"]["get"]["parameters"]
    maps = {one["name"] for one in parameters if one.get("style") == "deepObject"}
    assert {"labels", "maps.int32", "maps.bool", "maps.colors", "maps.timestamps"} <= maps
    assert not {"maps.parts", "maps.values"} & {one["name"] for one in parameters}


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


def test_conditions_are_told_where_there_is_an_etag(document: Any) -> None:
    stored = document["paths"]["/v1/stored/{name}"]
    tag = {"headers": {"ETag": {"$ref": "#/components/headers/ETag"}}}
    assert _headers(stored["get"]) == ["If-None-Match"]
    assert stored["get"]["responses"]["200"].items() >= tag.items()
    assert stored["get"]["responses"]["304"].items() >= tag.items()
    assert "412" not in stored["get"]["responses"]
    assert _headers(stored["put"]) == _headers(stored["delete"]) == ["If-Match"]
    assert set(stored["put"]["responses"]) == {"200", "412", "default"}
    # Of the resource in the request; what is answered has none.
    things = document["paths"]["/v1/things/{thing.name}"]
    assert _headers(things["patch"]) == ["If-Match"]
    assert "headers" not in things["get"]["responses"]["200"]
    assert _headers(document["paths"]["/v1/echo"]["get"]) == []


def test_answers_of_many_messages_are_an_array_lines_or_events(document: Any) -> None:
    watch = document["paths"]["/v1/watch"]["get"]
    array = {"type": "array", "items": {"$ref": "#/components/schemas/probe.v1.Everything"}}
    content = watch["responses"]["200"]["content"]
    assert set(content) == {"application/json", "application/x-ndjson", "text/event-stream"}
    assert content["application/json"]["schema"] == array
    for name in ("application/x-ndjson", "text/event-stream"):
        schema = content[name]["schema"]
        assert (schema["type"], schema["contentMediaType"], schema["contentSchema"]) == ("string", name, array)
    assert _headers(watch) == ["Last-Event-ID"]
    assert document["paths"]["/v1/download"]["get"]["responses"]["200"]["content"] == {"*/*": {}}


def test_requests_of_many_messages_are_an_array_or_lines(document: Any) -> None:
    collect = document["paths"]["/v1/collect"]["post"]
    content = collect["requestBody"]["content"]
    assert set(content) == {"application/json", "application/x-ndjson"}
    assert content["application/json"]["schema"]["items"] == {"$ref": "#/components/schemas/probe.v1.Everything"}
    inner = document["paths"]["/v1/collect/{text}"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    assert inner["items"]["$ref"] == "#/components/schemas/probe.v1.Inner"
    assert set(collect["responses"]["200"]["content"]) == {"application/json"}
    assert document["paths"]["/v1/append"]["post"]["requestBody"]["content"] == {"*/*": {}}


def test_rates_are_told_where_there_are_any(probe_set: bytes, document: Any) -> None:
    schema = load(probe_set)
    limited: Any = OpenApi(schema, title="Probe", is_limited=True).document(build(schema, [SERVICE])[0])
    validate(limited)
    for path in limited["paths"].values():
        for operation in path.values():
            answers = operation["responses"]
            assert set(answers["429"]["headers"]) == {"Retry-After", "RateLimit", "RateLimit-Policy"}
            assert {"RateLimit", "RateLimit-Policy"} <= set(answers["200"]["headers"])
    assert "429" not in document["paths"]["/v1/echo"]["get"]["responses"]


@pytest.mark.parametrize("config", [{}, {"rate_limits": {"address": 5}}], ids=["free", "limited"])
async def test_no_answer_breaks_the_document(probe_set: bytes, tmp_path: Path, config: dict[str, Any]) -> None:
    async with serving(probe_set) as probe, shim(probe_set, probe.address, **config) as http:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "schemathesis.cli", "--config-file", str(SCHEMATHESIS), "run"),
            *(f"{http.base_url}/openapi.json", "--include-path-regex", "^/v1/(stored|collect|talk|append)"),
            # Any member may be null, as ProtoJSON has it, which the document does not say.
            *("--exclude-checks", "negative_data_rejection", "--max-examples", "8", "--seed", "1", "--no-color"),
            cwd=tmp_path,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        told, _ = await process.communicate()

    assert process.returncode == 0, told.decode()[-6000:]


def _headers(operation: Any) -> list[str]:
    return [
        one["name"] for one in operation["parameters"] if one["in"] == "header" and one["name"] != "Idempotency-Key"
    ]


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
