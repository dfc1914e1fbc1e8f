"""compose.yaml as YAML; what only a container engine can show is shown where there is one."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from shopmesh.parts import read_settings

ROOT = Path(__file__).resolve().parents[2]
GRPC_SERVICES = ["identity-service", "inventory-service", "cart-service", "checkout-service"]
OURS = [*GRPC_SERVICES, "gateway", "migrate", "seed"]

# ${NAME:-value}: the value unless the person's environment says otherwise.
DEFAULT = re.compile(r"\$\{[A-Z_]+:-(.*)\}")

Service = dict[str, Any]


@pytest.fixture(scope="module")
def services() -> dict[str, Service]:
    document = yaml.safe_load((ROOT / "compose.yaml").read_text())
    found: dict[str, Service] = document["services"]
    return found


def test_the_schema_comes_before_the_services_and_they_before_the_gateway(services: dict[str, Service]) -> None:
    assert services["migrate"]["depends_on"] == {"mariadb": {"condition": "service_healthy"}}
    for name in GRPC_SERVICES:
        assert services[name]["depends_on"]["migrate"] == {"condition": "service_completed_successfully"}
    assert services["gateway"]["depends_on"] == {name: {"condition": "service_healthy"} for name in GRPC_SERVICES}


def test_what_others_wait_for_says_when_it_is_healthy(services: dict[str, Service]) -> None:
    waited_for = {
        name
        for service in services.values()
        for name, wait in service.get("depends_on", {}).items()
        if wait["condition"] == "service_healthy"
    }
    assert {name for name in waited_for if "healthcheck" not in services[name]} == set()


def test_what_runs_once_is_not_started_again(services: dict[str, Service]) -> None:
    assert {name for name in OURS if services[name]["restart"] == "no"} == {"migrate", "seed"}


def test_our_containers_are_read_only_and_without_privilege(services: dict[str, Service]) -> None:
    for name in OURS:
        assert services[name]["read_only"] is True
        assert services[name]["cap_drop"] == ["ALL"]
        assert services[name]["security_opt"] == ["no-new-privileges:true"]


def test_every_address_names_a_service_of_the_file(services: dict[str, Service]) -> None:
    addresses = {key: value for key, value in services["gateway"]["environment"].items() if key.endswith("_ADDR")}
    expected = {f"SHOP_{name.removesuffix('-service').upper()}_ADDR": f"dns:///{name}:50051" for name in GRPC_SERVICES}
    assert addresses == expected


def test_every_process_takes_the_settings_that_it_is_given(
    services: dict[str, Service], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in OURS:
        with monkeypatch.context() as environment:
            for key, value in services[name]["environment"].items():
                environment.setenv(key, DEFAULT.sub(r"\1", value))

            read_settings(apart=name not in {"migrate", "gateway"})
