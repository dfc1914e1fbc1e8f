"""`shopmesh config` and the settings that all programs read."""

import os

import pytest

from mesh.errors import ConfigError
from shopmesh import settings
from shopmesh.parts import PARTS, read_settings


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name.startswith("SHOP_"):
            monkeypatch.delenv(name)


def test_config_prints_what_programs_read_and_no_secret(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SHOP_DB_URL", "mysql://shop:hunter2@db:3306")
    monkeypatch.setenv("SHOP_REDIS_URL", "redis://:hunter2@cache:6379/0")
    monkeypatch.setenv("SHOP_SERVICE_SECRET", "hunter2" * 5)
    monkeypatch.setenv("SHOP_WEBHOOK_SECRETS", "hunter2,hunter2")
    monkeypatch.setenv("SHOP_CART_ADDR", "dns:///cart-service:50051")

    assert settings.main() == 0

    lines = capsys.readouterr().out.splitlines()
    assert "hunter2" not in "".join(lines)
    assert "SHOP_BIND=127.0.0.1" in lines
    assert "SHOP_CART_ADDR=dns:///cart-service:50051" in lines
    assert "SHOP_CHECKOUT_ADDR=127.0.0.1:50051" in lines
    assert "SHOP_PSP_DB_URL=mysql+aiomysql://shop:***@db:3306/shop_psp" in lines


def test_a_setting_of_one_service_is_known_to_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHOP_CART_TTL_S", "60")
    monkeypatch.setenv("SHOP_PAYMENT_TIMEOUT_S", "30")

    found = read_settings()

    own = {part.name: found.of(part).model_dump() for part in PARTS}
    assert own["cart"]["cart_ttl_s"] == 60
    assert own["checkout"]["payment_timeout_s"] == 30


def test_every_problem_of_every_program_is_named_once(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"CART_TTL_S": "0", "HTTP_PORT": "x", "PAYMENT_TIMEOUT_S": "0", "SHIP_ADDR": "a:1"}.items():
        monkeypatch.setenv(f"SHOP_{name}", value)

    with pytest.raises(ConfigError) as raised:
        read_settings()

    named = [problem.split(":")[0] for problem in raised.value.problems]
    assert sorted(named) == ["SHOP_CART_TTL_S", "SHOP_HTTP_PORT", "SHOP_PAYMENT_TIMEOUT_S", "SHOP_SHIP_ADDR"]


def test_services_that_run_apart_on_a_server_must_be_given_their_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHOP_DB_URL", "mysql://shop:shop@db:3306")

    assert read_settings().common.service_secret is None
    with pytest.raises(ConfigError, match="SHOP_SERVICE_SECRET"):
        read_settings(apart=True)


@pytest.mark.parametrize(
    ("demo", "db_url", "filled"), [("", "", True), ("", "mysql://h", False), ("1", "mysql://h", True)]
)
def test_the_demo_is_there_by_default_only_without_a_database_server(
    monkeypatch: pytest.MonkeyPatch, demo: str, db_url: str, *, filled: bool
) -> None:
    monkeypatch.setenv("SHOP_DEMO", demo)
    monkeypatch.setenv("SHOP_DB_URL", db_url)

    assert read_settings().demo is filled
