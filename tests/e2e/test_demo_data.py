"""The demo catalogue in a running shop, and migrations that wait for their server."""

import asyncio
import uuid
from pathlib import Path

import httpx
import pytest

from shopmesh.catalogue import demo_products
from tests.e2e.running_shop import Program, RunningShop, run_to_end
from tests.e2e.shopping import Shopper, ok, stock_of
from tests.support.servers import MariaDb


async def test_the_whole_catalogue_is_on_sale(rest: httpx.AsyncClient) -> None:
    skus = [product.sku for product in demo_products()]

    found = ok(await rest.get("/v1/products:batchGet", params={"skus": skus}))

    assert found["missingSkus"] == []
    assert [product["sku"] for product in found["products"]] == skus
    assert {product["price"]["currencyCode"] for product in found["products"]} == {"EUR"}


async def test_seeding_again_adds_nothing_not_even_what_was_sold_out(shop: RunningShop, keeper: Shopper) -> None:
    sku = "soap-oat-bar"
    on_hand, _ = await stock_of(keeper.client, sku)
    await adjust(keeper, sku, -on_hand)

    done = await asyncio.to_thread(run_to_end, shop.environment, "seed")

    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("seeded: ")
    assert await stock_of(keeper.client, sku) == (0, 0)
    await adjust(keeper, sku, on_hand)


@pytest.mark.timeout(180)
def test_migrate_waits_for_a_server_that_comes_up_later(tmp_path: Path) -> None:
    server = MariaDb(tmp_path / "server")
    migrate = Program(tmp_path / "migrate", {"SHOP_DB_URL": server.url}, "migrate")
    migrate.launch()
    try:
        with server:
            assert migrate.wait() == 0
    finally:
        migrate.remove()
    assert "migrated" in migrate.output
    assert "Traceback" not in migrate.output


async def adjust(keeper: Shopper, sku: str, delta: int) -> None:
    """Change the stock by counting."""
    body = {"delta": str(delta), "reason": "count", "requestId": str(uuid.uuid4())}
    ok(await keeper.send("POST", f"/v1/stock/{sku}:adjust", body))
