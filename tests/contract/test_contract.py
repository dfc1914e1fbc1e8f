"""What must hold for every method of the contract, so that a new one cannot forget it."""

import json
import subprocess
import sys
from collections import Counter
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.descriptor_pb2 import FileDescriptorSet, MethodOptions
from google.protobuf.descriptor_pool import DescriptorPool

from mesh.service_config import ServiceConfig
from policy.v1 import policy_pb2

ROOT = Path(__file__).parents[2]
CONFIG = resources.files("shop").joinpath("service_config.json").read_text()
PLANNED = {
    "shop.cart.v1.CartService.MergeCarts",
    "shop.checkout.v1.CheckoutService.GetOrderMetrics",
    "shop.checkout.v1.CheckoutService.ListOrderEvents",
    "shop.checkout.v1.CheckoutService.ReceiveDeliveryEvent",
    "shop.checkout.v1.CheckoutService.UpdateOrder",
    "shop.checkout.v1.CheckoutService.WatchOrder",
    "shop.inventory.v1.InventoryService.WatchStock",
}


def methods() -> dict[str, MethodDescriptor]:
    """Every method of shop.*, by its full name."""
    files = FileDescriptorSet.FromString(resources.files("shop").joinpath("descriptor_set.binpb").read_bytes())
    pool = DescriptorPool()
    for file in files.file:
        pool.Add(file)
    described = (pool.FindFileByName(file.name) for file in files.file if file.package.startswith("shop."))
    services = (service for file in described for service in file.services_by_name.values())
    return {method.full_name: method for service in services for method in service.methods}


METHODS = methods()
ALL = pytest.mark.parametrize("name", METHODS)


def options(name: str) -> Any:
    # Read anew, so that the extension is the one that this process has registered.
    return MethodOptions.FromString(METHODS[name].GetOptions().SerializeToString())


def entries() -> dict[str, dict[str, Any]]:
    """The entries of the service config that name a method, by its full name."""
    return {
        f"{name['service']}.{name['method']}": entry
        for entry in json.loads(CONFIG)["methodConfig"]
        for name in entry["name"]
        if "method" in name
    }


def streams(method: MethodDescriptor) -> bool:
    return bool(method.client_streaming or method.server_streaming)


def path(name: str) -> str:
    service, _, method = name.rpartition(".")
    return f"/{service}/{method}"


def test_there_is_a_contract() -> None:
    assert len(METHODS) > 40


@ALL
def test_every_method_says_who_may_call_it(name: str) -> None:
    assert options(name).Extensions[policy_pb2.method].access != policy_pb2.ACCESS_UNSPECIFIED


@ALL
def test_every_method_but_streams_has_a_time_out(name: str) -> None:
    timeout_s = ServiceConfig(CONFIG).timeout_s(path(name))

    if streams(METHODS[name]):
        assert timeout_s is None
    else:
        assert timeout_s is not None
        assert 0 < timeout_s <= 60


def test_only_methods_that_may_be_repeated_are_retried() -> None:
    retried = {name for name, entry in entries().items() if "retryPolicy" in entry}
    repeatable = {
        name
        for name in METHODS
        if options(name).idempotency_level in (MethodOptions.NO_SIDE_EFFECTS, MethodOptions.IDEMPOTENT)
    }

    assert retried
    assert retried <= repeatable


def test_no_entry_for_all_or_for_a_whole_service_retries() -> None:
    wide = [
        entry for entry in json.loads(CONFIG)["methodConfig"] if any("method" not in name for name in entry["name"])
    ]

    assert not [entry for entry in wide if "retryPolicy" in entry]


def test_retries_wait_for_nothing_but_an_unavailable_server() -> None:
    codes = {
        code for entry in entries().values() for code in entry.get("retryPolicy", {}).get("retryableStatusCodes", ())
    }

    assert codes == {"UNAVAILABLE"}


def test_every_name_in_the_service_config_exists_and_stands_once() -> None:
    named = [
        f"{name['service']}.{name['method']}"
        for entry in json.loads(CONFIG)["methodConfig"]
        for name in entry["name"]
        if name
    ]

    assert set(named) <= set(METHODS)
    assert [name for name, times in Counter(named).items() if times > 1] == []


@ALL
def test_reads_over_http_say_that_they_have_no_side_effects(name: str) -> None:
    http = [value for field, value in METHODS[name].GetOptions().ListFields() if field.full_name == "google.api.http"]

    if http and http[0].get:
        assert options(name).idempotency_level == MethodOptions.NO_SIDE_EFFECTS


def test_planned_are_only_those_that_a_later_release_serves() -> None:
    planned = {
        name for name in METHODS if options(name).Extensions[policy_pb2.method].stage == policy_pb2.STAGE_PLANNED
    }

    assert planned == PLANNED


def test_generated_code_has_not_drifted_from_the_protos() -> None:
    done = subprocess.run(
        [sys.executable, "protos/generate.py", "--check"], cwd=ROOT, capture_output=True, text=True, check=False
    )

    assert done.returncode == 0, done.stderr
