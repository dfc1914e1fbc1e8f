"""The shim with the shop's own contract, and without a word of the shop's in it."""

import re
from pathlib import Path
from typing import Any

import pytest
from openapi_spec_validator import validate

from gateway.descriptors import Schema, load
from gateway.openapi import OpenApi
from gateway.routes import Route, build
from tests.gateway.probe import ROOT

COMMERCE = re.compile(
    r"\b(cart|order_id|orders?/|stock|checkout|sku|product|shop|payment|customer|invoice|inventory|saga)", re.IGNORECASE
)


@pytest.fixture(scope="module")
def schema() -> Schema:
    return load((ROOT / "shop" / "descriptor_set.binpb").read_bytes())


@pytest.fixture(scope="module")
def routes(schema: Schema) -> list[Route]:
    built, problems = build(schema, schema.services)
    assert problems == []
    return built


def test_every_rule_of_the_contract_is_a_route(schema: Schema, routes: list[Route]) -> None:
    rules = [rule for methods in schema.services.values() for method in methods for rule in method.rules]
    assert len(routes) == len(rules) > 30


def test_openapi_validates_and_leaves_out_what_is_planned(schema: Schema, routes: list[Route]) -> None:
    document: Any = OpenApi(schema, title="shopmesh").document(routes)
    validate(document)
    described = {operation["operationId"] for path in document["paths"].values() for operation in path.values()}
    planned = {f"{one.method.service.rpartition('.')[2]}_{one.method.name}" for one in routes if one.method.planned}
    served = {f"{one.method.service.rpartition('.')[2]}_{one.method.name}" for one in routes} - planned
    assert planned
    assert described == served


def test_every_operation_and_parameter_is_described(schema: Schema, routes: list[Route]) -> None:
    document: Any = OpenApi(schema, title="shopmesh").document(routes)
    for path in document["paths"].values():
        for operation in path.values():
            assert operation["description"]
            assert all(parameter.get("description") for parameter in operation["parameters"])
            assert "Access: " in operation["description"]


@pytest.mark.parametrize("file", sorted((ROOT / "gateway").glob("*.py")), ids=lambda one: one.name)
def test_the_shim_has_no_word_of_commerce(file: Path) -> None:
    assert COMMERCE.findall(file.read_text()) == []
