import os
from pathlib import Path

import pytest
from pydantic import Field
from sqlalchemy.engine import URL

from mesh.config import Settings, database_url, load, load_all, service_address
from mesh.errors import ConfigError


class Cart(Settings):
    cart_ttl_s: int = Field(default=60, ge=1)


class Stock(Settings):
    sweep_every_s: float = 1.0


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith("SHOP_"):
            monkeypatch.delenv(name)


def problems(monkeypatch: pytest.MonkeyPatch, **environment: str) -> list[str]:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError) as caught:
        load(Cart)
    return caught.value.problems


def test_without_a_word_everything_is_embedded_and_local() -> None:
    settings = load(Cart)

    assert (settings.bind, settings.grpc_port, settings.http_port) == ("127.0.0.1", 50051, 8080)
    assert settings.embedded
    assert settings.demo is None
    assert database_url(settings, "cart") == URL.create("sqlite+aiosqlite", database=str(Path(".data/cart.db")))


def test_variables_are_read_by_their_fields_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHOP_CART_TTL_S", "7")
    monkeypatch.setenv("SHOP_DEMO", "0")
    monkeypatch.setenv("SHOP_REDIS_URL", "")

    settings = load(Cart)

    assert (settings.cart_ttl_s, settings.demo, settings.redis_url) == (7, False, None)


def test_an_unknown_name_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    assert problems(monkeypatch, SHOP_CART_TLL_S="7") == ["SHOP_CART_TLL_S: no such setting"]


def test_names_of_programs_that_share_the_environment_are_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHOP_SWEEP_EVERY_S", "2")

    assert load(Cart, known=(Stock,))
    with pytest.raises(ConfigError, match="SHOP_SWEEP_EVERY_S"):
        load(Cart)


def test_settings_of_tests_are_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHOP_TEST_DB_URL", "anything")
    monkeypatch.setenv("SHOP_TEST_WHATEVER", "")

    assert load(Cart)


def test_every_problem_is_named_at_once_by_its_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    found = problems(
        monkeypatch,
        SHOP_CART_TTL_S="0",
        SHOP_GRPC_PORT="70000",
        SHOP_HTTP_PORT="eighty",
        SHOP_LOG_LEVEL="loud",
        SHOP_SERVICE_SECRET="short",
        SHOP_DB_URL="postgresql://db",
        SHOP_CART_DB_URL="no url",
        SHOP_NONSENSE="1",
    )

    assert sorted(sentence.partition(":")[0] for sentence in found) == [
        "SHOP_CART_DB_URL",
        "SHOP_CART_TTL_S",
        "SHOP_DB_URL",
        "SHOP_GRPC_PORT",
        "SHOP_HTTP_PORT",
        "SHOP_LOG_LEVEL",
        "SHOP_NONSENSE",
        "SHOP_SERVICE_SECRET",
    ]
    assert not any("\n" in sentence for sentence in found)


def test_a_wrong_url_or_secret_is_not_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    found = problems(monkeypatch, SHOP_DB_URL="oracle://user:hunter2@db", SHOP_SERVICE_SECRET="hunter2")

    assert not any("hunter2" in sentence for sentence in found)


@pytest.mark.parametrize("scheme", ["mysql", "mariadb", "mysql+aiomysql"])
def test_a_servers_url_names_one_database_for_each_service(monkeypatch: pytest.MonkeyPatch, scheme: str) -> None:
    monkeypatch.setenv("SHOP_DB_URL", f"{scheme}://user:p%40ss@db:3307")

    settings = load(Cart)

    assert not settings.embedded
    assert database_url(settings, "cart") == URL.create(
        "mysql+aiomysql", "user", "p@ss", host="db", port=3307, database="shop_cart"
    )
    assert database_url(settings, "psp").database == "shop_psp"


@pytest.mark.parametrize("scheme", ["sqlite", "sqlite+aiosqlite"])
def test_a_services_own_url_goes_first(monkeypatch: pytest.MonkeyPatch, scheme: str, tmp_path: Path) -> None:
    monkeypatch.setenv("SHOP_DB_URL", "mysql://user@db")
    monkeypatch.setenv("SHOP_CART_DB_URL", f"{scheme}:///{tmp_path}/own.db")

    settings = load(Cart)

    assert database_url(settings, "cart") == URL.create("sqlite+aiosqlite", database=f"{tmp_path}/own.db")
    assert database_url(settings, "inventory").drivername == "mysql+aiomysql"


def test_services_are_dialled_where_they_are_said_to_be_or_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHOP_GRPC_PORT", "6000")
    monkeypatch.setenv("SHOP_CART_ADDR", "dns:///cart:50051")

    settings = load(Cart)

    assert service_address(settings, "cart") == "dns:///cart:50051"
    assert service_address(settings, "inventory") == "127.0.0.1:6000"


def test_replicas_without_a_common_name_are_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    replicas = "ipv4:127.0.0.1:6001,127.0.0.1:6002"
    monkeypatch.setenv("SHOP_CART_ADDR", replicas)

    assert service_address(load(Cart), "cart") == replicas


@pytest.mark.parametrize("address", ["127.0.0.1:6001,127.0.0.1:6002", "ipv4:", "ipv4:127.0.0.1:6001,", "ipv4:cart:1"])
def test_a_list_of_replicas_says_that_it_is_one(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    assert problems(monkeypatch, SHOP_CART_ADDR=address) == [
        "SHOP_CART_ADDR: must be host:port, dns:///host:port or ipv4:address:port,address:port"
    ]


def test_settings_do_not_change_and_do_not_show_passwords() -> None:
    settings = load(Cart)

    with pytest.raises(Exception, match="frozen"):
        settings.bind = "0.0.0.0"  # noqa: S104 - refused


def test_a_program_of_several_reads_all_and_names_each_problem_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHOP_SWEEP_EVERY_S", "2")
    cart, stock = load_all([Cart, Stock], services=["cart", "stock"])
    assert isinstance(cart, Cart)
    assert isinstance(stock, Stock)
    assert stock.sweep_every_s == 2

    monkeypatch.setenv("SHOP_GRPC_PORT", "-1")
    monkeypatch.setenv("SHOP_KART_ADDR", "127.0.0.1:1")
    with pytest.raises(ConfigError) as caught:
        load_all([Cart, Stock], services=["cart", "stock"])
    assert sorted(sentence.partition(":")[0] for sentence in caught.value.problems) == [
        "SHOP_GRPC_PORT",
        "SHOP_KART_ADDR",
    ]
