"""Fields that proto2 requires: which types may lack one, and what the OpenAPI document tells of them."""

from pathlib import Path
from typing import Any

import pytest
from google.protobuf.descriptor import Descriptor
from openapi_spec_validator import validate

from gateway.descriptors import Schema, load, message_class
from gateway.encode import JsonForm
from gateway.findings import MOST_VIOLATIONS, Findings
from gateway.openapi import OpenApi
from gateway.required import find_missing, may_lack
from gateway.routes import build
from tests.contract.upstream import PROTOS, SERVICE
from tests.gateway.probe import compile_protos

KINDS = """
syntax = "proto2";
package kinds.v1;
import "google/protobuf/any.proto";
message Free { optional Free free = 1; optional Other other = 2; map<string, Free> by_name = 3; }
message Other { repeated Free back = 1; optional google.protobuf.Any any = 2; }
message Own { required int32 number = 1; }
message Held { optional Held held = 1; repeated Between between = 2; }
message Between { map<string, Own> owns = 1; optional Held back = 2; }
message Grouped { repeated group Part = 1 { required string some_name = 2; } }
message Extended { extensions 100 to 199; }
"""
EDITION = """
edition = "2023";
package edition.v1;
message Own { string name = 1 [features.field_presence = LEGACY_REQUIRED]; }
"""


@pytest.fixture(scope="module")
def schema(tmp_path_factory: pytest.TempPathFactory) -> Schema:
    return load(compile_protos(tmp_path_factory.mktemp("kinds"), kinds=KINDS, edition=EDITION))


@pytest.fixture(scope="module")
def document(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder: Path = tmp_path_factory.mktemp("strict")
    table = load(compile_protos(folder, **PROTOS))
    document = OpenApi(table, title="Strict").document(build(table, [SERVICE])[0])
    validate(document)
    return document


def kind(schema: Schema, name: str) -> Descriptor:
    return schema.pool.FindMessageTypeByName(name)


def missing(message: Any) -> list[str]:
    found = Findings()
    find_missing(message, None, JsonForm(), found)
    return [violation.field for violation in found.violations]


@pytest.mark.parametrize("name", ["Own", "Held", "Between", "Grouped", "Extended"])
def test_a_type_may_lack_what_any_type_in_it_requires(schema: Schema, name: str) -> None:
    assert may_lack(kind(schema, f"kinds.v1.{name}"))


@pytest.mark.parametrize("name", ["Free", "Other"])
def test_a_type_that_requires_nothing_lacks_nothing(schema: Schema, name: str) -> None:
    assert not may_lack(kind(schema, f"kinds.v1.{name}"))


def test_members_of_groups_are_named(schema: Schema) -> None:
    grouped: Any = message_class(kind(schema, "kinds.v1.Grouped"))()
    grouped.part.add(some_name="a")
    grouped.part.add()
    assert missing(grouped) == ["part[1].someName"]


def test_what_editions_require_is_named(schema: Schema) -> None:
    assert may_lack(kind(schema, "edition.v1.Own"))
    assert missing(message_class(kind(schema, "edition.v1.Own"))()) == ["name"]


def test_no_more_are_kept_than_are_told(schema: Schema) -> None:
    held: Any = message_class(kind(schema, "kinds.v1.Held"))()
    for number in range(MOST_VIOLATIONS + 1):
        held.between.add().owns[f"{number}"].SetInParent()
    assert len(missing(held)) == MOST_VIOLATIONS


def test_the_document_requires_them_of_requests_and_answers(document: Any) -> None:
    schemas, strict = document["components"]["schemas"], {"$ref": "#/components/schemas/table.v1.Strict"}
    make = document["paths"]["/v1/strict"]["post"]
    assert make["requestBody"] == {"content": {"application/json": {"schema": strict}}, "required": True}
    assert make["responses"]["200"]["content"]["application/json"]["schema"] == strict
    assert schemas["table.v1.Strict"]["required"] == ["name", "roomNumber"]
    assert schemas["table.v1.StrictPart"]["required"] == ["displayName"]
    assert not [name for name in schemas if name.endswith("-request")]


def test_the_document_requires_nothing_twice(document: Any) -> None:
    body = document["paths"]["/v1/strict/{name}"]["put"]["requestBody"]
    assert body["content"]["application/json"]["schema"]["required"] == ["roomNumber"]


def test_the_document_requires_parameters(document: Any) -> None:
    parameters = document["paths"]["/v1/strict"]["get"]["parameters"]
    assert {one["name"] for one in parameters if one.get("required")} == {"name", "roomNumber"}
    assert "part.displayName" in {one["name"] for one in parameters}
