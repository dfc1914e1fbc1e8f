"""What google.api.field_behavior makes of the OpenAPI document."""

from pathlib import Path
from typing import Any

import pytest
from openapi_spec_validator import validate

from gateway.codec import JsonForm
from gateway.descriptors import load
from gateway.openapi import OpenApi
from gateway.routes import build
from tests.gateway.probe import PACKAGES, compile_protos

PROTO = """
syntax = "proto3";
package garden.v1;
import "google/api/annotations.proto";
import "google/api/field_behavior.proto";
import "google/protobuf/field_mask.proto";

service Garden {
  rpc Plant(PlantRequest) returns (Bed) {
    option (google.api.http) = {
      post: "/v1/plant" body: "*"
      additional_bindings { post: "/v1/beds/{bed.name}/plant" body: "*" }
      additional_bindings { put: "/v1/beds/{bed.name}" body: "bed" }
      additional_bindings { put: "/v1/plots/{bed.plot}" body: "bed" }
      additional_bindings { put: "/v1/bed" body: "bed" }
      additional_bindings { patch: "/v1/bed" body: "bed" }
      additional_bindings { get: "/v1/plant" }
    };
  }
  rpc Sow(stream Bed) returns (stream Bed) {
    option (google.api.http) = { post: "/v1/sow" body: "*" };
  }
  rpc Water(Can) returns (Can) {
    option (google.api.http) = { post: "/v1/water" body: "*" };
  }
}

message PlantRequest {
  Bed bed = 1 [(google.api.field_behavior) = REQUIRED];
  string who_plants = 2 [(google.api.field_behavior) = REQUIRED];
  Bed next = 3;
  google.protobuf.FieldMask update_mask = 4;
}

message Bed {
  string name = 1 [(google.api.field_behavior) = REQUIRED];
  Bed left = 2;
  repeated Plant plants = 3;
  map<string, Plant> marked = 4;
  string plot = 5;
  string last_watered = 6 [(google.api.field_behavior) = OUTPUT_ONLY];
  Can can = 7 [(google.api.field_behavior) = INPUT_ONLY, (google.api.field_behavior) = IMMUTABLE];
}

message Plant {
  Can can = 1 [(google.api.field_behavior) = REQUIRED];
}

message Can {
  int32 litres = 1 [(google.api.field_behavior) = OPTIONAL];
}
"""
REQUEST, BED, BED_REQUEST = (
    {"$ref": f"#/components/schemas/garden.v1.{name}"} for name in ("PlantRequest-request", "Bed", "Bed-request")
)


def document_of(descriptor_set: bytes, form: JsonForm | None = None) -> Any:
    schema = load(descriptor_set)
    document = OpenApi(schema, title="Garden", form=form or JsonForm()).document(build(schema, ["garden.v1.Garden"])[0])
    validate(document)
    return document


def body_of(document: Any, path: str, method: str = "post") -> tuple[Any, bool]:
    """The schema of a request's body, and whether there must be one."""
    body = document["paths"][path][method]["requestBody"]
    return body["content"]["application/json"]["schema"], body.get("required", False)


@pytest.fixture(scope="module")
def garden(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return compile_protos(tmp_path_factory.mktemp("garden"), garden=PROTO)


@pytest.fixture(scope="module")
def document(garden: bytes) -> Any:
    return document_of(garden)


def test_output_only_is_read_only_and_input_only_is_write_only(document: Any) -> None:
    for name in ("garden.v1.Bed", "garden.v1.Bed-request"):
        properties = document["components"]["schemas"][name]["properties"]
        assert properties["lastWatered"] == {"type": "string", "readOnly": True}
        assert properties["can"] == {"$ref": "#/components/schemas/garden.v1.Can", "writeOnly": True}
        assert properties["plot"] == {"type": "string"}


def test_what_requests_must_have_answers_may_lack(document: Any) -> None:
    schemas = document["components"]["schemas"]
    answer = document["paths"]["/v1/plant"]["post"]["responses"]["200"]["content"]["application/json"]["schema"]
    assert body_of(document, "/v1/plant") == (REQUEST, True)
    assert schemas["garden.v1.PlantRequest-request"]["required"] == ["bed", "whoPlants"]
    assert schemas["garden.v1.Bed-request"]["required"] == ["name"]
    assert schemas["garden.v1.Plant-request"]["required"] == ["can"]
    assert answer == BED
    assert not any("required" in schemas[name] for name in ("garden.v1.Bed", "garden.v1.Plant"))


def test_what_a_request_holds_is_of_requests_however_deep(document: Any) -> None:
    properties = document["components"]["schemas"]["garden.v1.Bed-request"]["properties"]
    plant = {"$ref": "#/components/schemas/garden.v1.Plant-request"}
    assert properties["left"] == BED_REQUEST
    assert properties["plants"]["items"] == plant
    assert properties["marked"]["additionalProperties"] == plant


def test_a_type_without_anything_required_has_one_schema(document: Any) -> None:
    assert body_of(document, "/v1/water") == ({"$ref": "#/components/schemas/garden.v1.Can"}, False)
    assert "garden.v1.Can-request" not in document["components"]["schemas"]


def test_what_the_path_gives_need_not_be_in_the_body(document: Any) -> None:
    whole, is_required = body_of(document, "/v1/beds/{bed.name}/plant")
    assert is_required
    assert whole["required"] == ["whoPlants"]
    assert "required" not in whole["properties"]["bed"]
    assert whole["properties"]["bed"]["properties"]["left"] == BED_REQUEST
    assert whole["properties"]["next"] == BED_REQUEST
    bed, is_required = body_of(document, "/v1/beds/{bed.name}", "put")
    assert not is_required
    assert "required" not in bed
    assert body_of(document, "/v1/plots/{bed.plot}", "put") == (BED_REQUEST, False)


def test_a_body_that_is_a_required_field_is_required(document: Any) -> None:
    assert body_of(document, "/v1/bed", "put") == (BED_REQUEST, True)


def test_who_changes_a_resource_may_leave_out_what_is_not_to_change(document: Any) -> None:
    assert body_of(document, "/v1/bed", "patch") == (BED, True)


def test_a_parameter_is_required_if_all_on_the_way_to_it_is(document: Any) -> None:
    parameters = document["paths"]["/v1/plant"]["get"]["parameters"]
    assert {one["name"] for one in parameters if one.get("required")} == {"bed.name", "whoPlants"}
    assert {"next.name", "bed.left.name"} <= {one["name"] for one in parameters}


def test_each_message_of_a_stream_is_a_request(document: Any) -> None:
    assert body_of(document, "/v1/sow") == ({"type": "array", "items": BED_REQUEST}, False)


def test_required_members_have_the_names_of_the_form(garden: bytes) -> None:
    schemas = document_of(garden, JsonForm(proto_names=True))["components"]["schemas"]
    assert schemas["garden.v1.PlantRequest-request"]["required"] == ["bed", "who_plants"]


def test_a_set_may_bring_an_option_of_its_own(tmp_path: Path, document: Any) -> None:
    api = tmp_path / "google" / "api"
    api.mkdir(parents=True)
    text = (PACKAGES / "google" / "api" / "field_behavior.proto").read_text()
    (api / "field_behavior.proto").write_text(text.replace("= 1052;", "= 1052 [packed = true];"))

    assert document_of(compile_protos(tmp_path, garden=PROTO)) == document


def test_without_the_option_nothing_is_required(tmp_path: Path) -> None:
    lines = [line.partition(" [(")[0] for line in PROTO.splitlines() if "field_behavior.proto" not in line]
    plain = "\n".join(f"{line};" if " = " in line and line[-1].isdigit() else line for line in lines)

    document = document_of(compile_protos(tmp_path, garden=plain))

    assert body_of(document, "/v1/plant") == ({"$ref": "#/components/schemas/garden.v1.PlantRequest"}, False)
    for schema in document["components"]["schemas"].values():
        assert "Only" not in str(schema)
