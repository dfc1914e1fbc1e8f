"""What `up` settles before anything starts."""

import os
import socket
import stat
from pathlib import Path

import pytest

from mesh.config import service_address
from mesh.errors import ConfigError
from shopmesh.parts import MeshSettings, read_settings
from shopmesh.up import with_free_ports
from tests.support.servers import free_port

ALL_ADDRESSES = "0.0.0.0"  # noqa: S104 - bound only to see whether the port is free


@pytest.fixture
def settings(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> MeshSettings:
    for name in os.environ:
        if name.startswith("SHOP_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("SHOP_DATA_DIR", str(tmp_path_factory.mktemp("data")))
    monkeypatch.setenv("SHOP_HTTP_PORT", "0")
    monkeypatch.setenv("SHOP_GRPC_PORT", "0")
    return read_settings()


def test_port_0_becomes_a_free_one_that_all_services_are_dialled_at(settings: MeshSettings) -> None:
    found = with_free_ports(settings).common

    assert found.http_port != 0
    assert service_address(found, "cart") == f"127.0.0.1:{found.grpc_port}"


@pytest.mark.parametrize(("bind", "dialled"), [(ALL_ADDRESSES, "127.0.0.1"), ("127.0.0.2", "127.0.0.2")])
def test_services_are_dialled_where_they_listen(settings: MeshSettings, bind: str, dialled: str) -> None:
    found = with_free_ports(settings.changed(bind=bind)).common

    assert service_address(found, "checkout") == f"{dialled}:{found.grpc_port}"


def test_an_address_that_was_given_is_kept(settings: MeshSettings) -> None:
    elsewhere = {"SHOP_CART_ADDR": "elsewhere:1"}

    found = with_free_ports(settings.changed(per_service=elsewhere)).common

    assert service_address(found, "cart") == "elsewhere:1"
    assert service_address(found, "inventory") == f"127.0.0.1:{found.grpc_port}"


def test_every_port_that_cannot_be_had_is_named(settings: MeshSettings) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]

        with pytest.raises(ConfigError) as raised:
            with_free_ports(settings.changed(http_port=port, grpc_port=port))

    assert [problem.split(":")[0] for problem in raised.value.problems] == ["SHOP_HTTP_PORT", "SHOP_GRPC_PORT"]


def test_one_port_cannot_serve_both(settings: MeshSettings) -> None:
    port = free_port()

    with pytest.raises(ConfigError) as raised:
        with_free_ports(settings.changed(http_port=port, grpc_port=port))

    assert raised.value.problems == ["SHOP_HTTP_PORT and SHOP_GRPC_PORT: must not be the same"]


def test_the_data_folder_is_its_owners_alone(settings: MeshSettings, tmp_path: Path) -> None:
    folder = tmp_path / "new" / "data"

    with_free_ports(settings.changed(data_dir=folder))

    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
