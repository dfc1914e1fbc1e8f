"""The README's first order works as printed, twice, and nothing of it is lost when the process is killed."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.running_shop import RunningShop
from tests.e2e.shopping import Json, Shopper, operator, rest_client, stock_of

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}")


@pytest.mark.skipif(shutil.which("curl") is None, reason="the README's order is made with curl")
async def test_the_first_order_works_twice_and_survives_kill_9(shop: RunningShop) -> None:
    ordered = {order for _ in range(2) for order in (*run("curl", shop), *run("python", shop))}
    assert len(ordered) == 4
    before = await seen(shop, ordered)

    shop.kill9()
    shop.restart()

    assert await seen(shop, ordered) == before
    assert len(run("curl", shop)) == 1


def run(name: str, shop: RunningShop) -> set[str]:
    """Run the README's block of this name against the shop; answer the ids of the orders in its output."""
    script = block(name).replace("127.0.0.1:8080", f"127.0.0.1:{shop.http_port}")
    script = script.replace("127.0.0.1:50051", shop.grpc_address).replace(".venv/bin/python", sys.executable)
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert "ORDER_STATE_PAID" in done.stdout
    return set(UUID.findall(done.stdout))


def block(name: str) -> str:
    """The README's shell block behind the comment of this name."""
    found = re.search(rf"<!-- tested: {name} -->\n```sh\n(.*?)```", README, re.DOTALL)
    assert found is not None
    return found[1]


async def seen(shop: RunningShop, ordered: set[str]) -> Json:
    """All that the README's customer could see of the orders, and the stock behind them."""
    async with rest_client(shop.base_url) as client:
        guest, keeper = Shopper(client), await operator(client)
        orders = {order_id: await guest.get(f"/v1/orders/{order_id}") for order_id in sorted(ordered)}
        return {
            "orders": orders,
            "invoices": {order_id: await guest.get(f"/v1/orders/{order_id}/invoice") for order_id in orders},
            "carts": [(await guest.get(f"/v1/carts/{order['cartId']}"))["items"] for order in orders.values()],
            "stock": [await stock_of(client, sku) for sku in ("coffee-yirgacheffe-1kg", "tea-darjeeling-100g")],
            "listed": sorted(order["orderId"] for order in (await keeper.get("/v1/orders"))["orders"]),
        }
