"""The five processes by themselves: each can go away and come back, and callers are told so in the meantime."""

import asyncio
import contextlib
from collections.abc import Awaitable, Iterator
from pathlib import Path

import httpx
import pytest

from tests.e2e.running_shop import Program, wait_until_ready
from tests.e2e.shopping import (
    RETRY_INFO,
    Json,
    Shopper,
    detail,
    error_of,
    new_product,
    ok,
    operator,
    order_in_state,
    rest_client,
    stock_of,
    until,
    until_held,
)
from tests.support.servers import free_port

PARTS = ("identity", "inventory", "cart", "checkout")


class Mesh:
    """Four services and a gateway, each a process, with one data folder."""

    def __init__(self, folder: Path) -> None:
        ports = {part: free_port() for part in PARTS}
        http_port = free_port()
        self.base_url = f"http://127.0.0.1:{http_port}"
        shared = {
            "SHOP_DATA_DIR": str(folder / "data"),
            "SHOP_HTTP_PORT": str(http_port),
            **{f"SHOP_{part.upper()}_ADDR": f"127.0.0.1:{port}" for part, port in ports.items()},
        }
        self.gateway = Program(folder, shared, "serve", "gateway")
        self.services = {
            part: Program(folder, {**shared, "SHOP_GRPC_PORT": str(port)}, "serve", f"{part}_service")
            for part, port in ports.items()
        }

    @property
    def programs(self) -> list[Program]:
        """All processes."""
        return [*self.services.values(), self.gateway]

    async def bring_back(self, part: str) -> None:
        """Start a service that was killed; return when the gateway is ready again."""
        self.services[part].launch()
        await asyncio.to_thread(wait_until_ready, self.base_url, *self.programs)


@pytest.fixture
def mesh(tmp_path: Path) -> Iterator[Mesh]:
    mesh = Mesh(tmp_path)
    with contextlib.ExitStack() as stack:
        for program in mesh.programs:
            program.launch()
            stack.callback(program.remove)
        wait_until_ready(mesh.base_url, *mesh.programs)
        yield mesh


@pytest.mark.survives("inventory-away")
@pytest.mark.timeout(240)
async def test_a_service_may_go_away_and_come_back_and_all_stop_when_told(mesh: Mesh) -> None:
    # One test, because five processes take a while to start.
    await callers_are_told_that_a_service_is_away_and_served_when_it_is_back(mesh)
    await an_order_whose_inventory_goes_away_on_the_way_ends_when_it_is_back(mesh)

    assert [program.terminate() for program in mesh.programs] == [0] * 5
    for program in mesh.programs:
        assert "Traceback" not in program.output


async def callers_are_told_that_a_service_is_away_and_served_when_it_is_back(mesh: Mesh) -> None:
    async with rest_client(mesh.base_url) as client:
        guest, keeper = Shopper(client), await operator(client)
        sku = await new_product(keeper, stock=9)
        cart_id = await guest.filled_cart(sku)

        mesh.services["inventory"].kill9()
        product = await guest.send("GET", f"/v1/products/{sku}")
        order = await guest.order(cart_id, key="while-away")
        ready = await client.get("/readyz")
        live = await client.get("/livez")

        for answer in (product, order, ready):
            assert error_of(answer)[:2] == (503, "UNAVAILABLE")
            assert int(answer.headers["retry-after"]) >= 1
            assert detail(answer, RETRY_INFO)
        assert live.status_code == 200

        await mesh.bring_back("inventory")

        again = await until(lambda: served(guest.order(cart_id, key="while-away")))
        assert again["state"] == "ORDER_STATE_PAID"
        assert await stock_of(client, sku) == (8, 0)


async def an_order_whose_inventory_goes_away_on_the_way_ends_when_it_is_back(mesh: Mesh) -> None:
    async with rest_client(mesh.base_url) as client:
        guest, keeper = Shopper(client), await operator(client)
        sku = await new_product(keeper, stock=9)
        ordering = asyncio.create_task(guest.ordered(await guest.filled_cart(sku), "tok_slow"))
        await until_held(client, sku)

        mesh.services["inventory"].kill9()
        await mesh.bring_back("inventory")

        order = await ordering
        # A step without an answer is tried again after pauses that grow, to half a minute at most.
        await order_in_state(guest, order["orderId"], "ORDER_STATE_PAID", within_s=60)
        assert await stock_of(client, sku) == (8, 0)


async def served(sending: Awaitable[httpx.Response]) -> Json | None:
    """The answer, or None while somebody needed for it cannot be reached: a channel finds its way back within 2 s."""
    answer = await sending
    return None if answer.status_code == httpx.codes.SERVICE_UNAVAILABLE else ok(answer)
