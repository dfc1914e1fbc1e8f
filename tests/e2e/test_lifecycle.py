"""Starting, stopping, being killed: nothing acknowledged is lost, and mistakes are named instead of shown as traces."""

import asyncio
import re
import signal
import socket
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from tests.e2e.running_shop import RunningShop, run_to_end
from tests.e2e.shopping import (
    Shopper,
    left_in_cart,
    new_customer,
    new_product,
    ok,
    operator,
    order_in_state,
    rest_client,
    stock_of,
    until_held,
)

PAID = "ORDER_STATE_PAID"
SERVICES = {
    "shop.cart.v1.CartService",
    "shop.checkout.v1.CheckoutService",
    "shop.checkout.v1.SagaService",
    "shop.identity.v1.IdentityService",
    "shop.inventory.v1.CatalogService",
    "shop.inventory.v1.InventoryService",
}


async def test_kill_9_in_the_middle_of_an_order_loses_nothing_and_the_same_key_tells_how_it_ended(
    shop: RunningShop,
) -> None:
    async with rest_client(shop.base_url) as client:
        keeper, customer = await operator(client), await new_customer(client)
        sku = await new_product(keeper, stock=5)
        key = f"key-{sku}"
        cart_id, kept = await customer.filled_cart(sku), await customer.filled_cart(sku, 2)
        ordering = asyncio.create_task(customer.order(cart_id, "tok_slow", key=key))
        await until_held(client, sku)

        shop.kill9()

        with pytest.raises(httpx.TransportError):
            await ordering
    shop.restart()
    async with rest_client(shop.base_url) as client:
        again = Shopper(client)
        again.headers = customer.headers
        order = await again.ordered(cart_id, "tok_slow", key=key)
        order = await order_in_state(again, order["orderId"], PAID)
        assert [listed["orderId"] for listed in (await again.get("/v1/orders"))["orders"]] == [order["orderId"]]
        assert await stock_of(client, sku) == (4, 0)
        assert await left_in_cart(again, cart_id, without=sku) == []
        assert (await again.get(f"/v1/carts/{kept}"))["items"][0]["quantity"] == 2


@pytest.mark.survives("clean-stop")
async def test_sigterm_lets_an_order_under_way_finish_or_go_on_after_the_restart(shop: RunningShop) -> None:
    async with rest_client(shop.base_url) as client:
        sku = await new_product(await operator(client), stock=5)
        cart_id, key = await Shopper(client).filled_cart(sku), f"key-{sku}"
        ordering = asyncio.create_task(Shopper(client).order(cart_id, "tok_slow", key=key))
        await until_held(client, sku)

        shop.send(signal.SIGTERM)
        answer = await ordering
        code = await asyncio.to_thread(shop.wait)

    assert code == 0
    assert "Traceback" not in shop.output
    assert ok(answer)["state"] == PAID
    shop.restart()
    async with rest_client(shop.base_url) as client:
        repeated = await Shopper(client).order(cart_id, "tok_slow", key=key)
        assert repeated.content == answer.content
        assert await stock_of(client, sku) == (4, 0)


async def test_all_services_are_healthy_and_reflected(channel: grpc.aio.Channel) -> None:
    # Both stubs are made for synchronous channels as far as their types know.
    health: Any = health_pb2_grpc.HealthStub(channel)
    reflection: Any = reflection_pb2_grpc.ServerReflectionStub(channel)  # type: ignore[arg-type]
    question = reflection_pb2.ServerReflectionRequest(list_services="")

    states = [await health.Check(health_pb2.HealthCheckRequest(service=name)) for name in ("", *SERVICES)]
    answers = [answer async for answer in reflection.ServerReflectionInfo(iter([question]))]

    assert {state.status for state in states} == {health_pb2.HealthCheckResponse.SERVING}
    assert {service.name for service in answers[0].list_services_response.service} >= SERVICES


async def test_the_shop_says_where_it_is_and_documents_itself(shop: RunningShop, rest: httpx.AsyncClient) -> None:
    for text in (shop.base_url, shop.grpc_address, "/docs", "operator@shop.test", "curl"):
        assert text in shop.output
    assert "Traceback" not in shop.output
    paths = ok(await rest.get("/openapi.json"))["paths"]
    assert "/v1/orders" in paths
    assert any(":cancel" in path for path in paths)
    assert not any(":merge" in path for path in paths)
    assert (await rest.get("/docs")).status_code == 200


def test_everything_in_one_process_rests_under_250_megabytes(shop: RunningShop) -> None:
    status = Path(f"/proc/{shop.pid}/status")
    if not status.exists():
        pytest.skip("no /proc here")
    found = re.search(r"VmRSS:\s+(\d+) kB", status.read_text())

    assert found is not None
    assert int(found[1]) < 250 * 1024


def test_taken_ports_are_both_named_at_once(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as http, socket.create_server(("127.0.0.1", 0)) as rpc:
        ports = {"SHOP_HTTP_PORT": str(http.getsockname()[1]), "SHOP_GRPC_PORT": str(rpc.getsockname()[1])}

        done = run_to_end({"SHOP_DATA_DIR": str(tmp_path / "data"), **ports}, "up")

    assert done.returncode == 2
    assert [line.split(":")[1].strip() for line in done.stderr.splitlines()] == ["SHOP_HTTP_PORT", "SHOP_GRPC_PORT"]
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("arguments", [("up",), ("serve", "cart_service"), ("serve", "gateway")])
def test_every_wrong_or_unknown_setting_is_named_at_once(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    wrong = {
        "SHOP_DATA_DIR": str(tmp_path),
        "SHOP_HTTP_PORT": "many",
        "SHOP_GRPC_PORT": "70000",
        "SHOP_DB_URL": "oracle://somewhere",
        "SHOP_REDIS_URL": "somewhere",
        "SHOP_CART_ADDR": "nowhere",
        "SHOP_CRT_ADDR": "127.0.0.1:1",
        "SHOP_SERVICE_SECRET": "short",
        "SHOP_CART_TTL_S": "-1",
        "SHOP_COLOUR": "blue",
    }

    done = run_to_end(wrong, *arguments)

    assert done.returncode == 2
    named = [line.removeprefix("shopmesh: ").split(":")[0] for line in done.stderr.splitlines()]
    assert sorted(named) == sorted(set(wrong) - {"SHOP_DATA_DIR"})
    assert done.stdout == ""


def test_a_data_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    done = run_to_end({"SHOP_DATA_DIR": str(tmp_path / "file"), "SHOP_HTTP_PORT": "0", "SHOP_GRPC_PORT": "0"}, "up")

    assert done.returncode == 2
    assert "file" in done.stderr
    assert "Traceback" not in done.stderr
