"""Two checkout processes over one MariaDB: what one leaves behind, the other brings to its end."""

import asyncio
import time
from collections import Counter
from pathlib import Path

from checkout_service import tables
from tests.checkout_service.audit import assert_settled
from tests.checkout_service.process import CheckoutProcess, channel_to
from tests.checkout_service.records import rows
from tests.checkout_service.shop import Shop, database_names, running_shop, until
from tests.checkout_service.shopper import Shopper, end_of, new_product, place_order, stock
from tests.support.servers import free_port

ORDERS = 50


async def test_a_killed_process_loses_no_order(mariadb_url: str, tmp_path: Path) -> None:
    urls = {name: url for name, url in database_names(mariadb_url).items() if name in ("checkout", "psp")}
    async with running_shop(Shop(tmp_path, urls), without=("checkout",)) as shop:
        first = CheckoutProcess(shop, tmp_path / "first", shop.ports["checkout"])
        second = CheckoutProcess(shop, tmp_path / "second", free_port())
        try:
            async with channel_to(second) as other:
                await asyncio.gather(first.up(shop.channels["checkout"]), second.up(other))
                sku = await new_product(shop, 100)
                guest = Shopper(shop)
                carts = await asyncio.gather(*(guest.fill(sku) for _ in range(ORDERS)))
                requests = [place_order(cart_id, "tok_slow") for cart_id in carts]
                calls = [asyncio.create_task(guest.send(request)) for request in requests]
                await until(lambda: all_in(shop, "AUTHORIZING"))
                [dead] = {saga["owner"] for saga in await rows(shop.databases["checkout"], tables.sagas)}

                first.kill()
                killed = time.monotonic()
                await until(lambda: nobody_is(shop, dead))
                taken_over_s = time.monotonic() - killed
                await asyncio.gather(*calls, return_exceptions=True)
                shop.channels["checkout"] = other
                orders = await asyncio.gather(*map(guest.send, requests))

                assert Counter(map(end_of, orders)) == {("PAID", ""): ORDERS}
                # Two seconds of lease, and one until the next look.
                assert taken_over_s < 6
                assert await stock(shop, sku) == (100 - ORDERS, 0)
                await assert_settled(shop)
                assert {saga["epoch"] for saga in await rows(shop.databases["checkout"], tables.sagas)} == {2}
        finally:
            first.remove()
            second.remove()


async def all_in(shop: Shop, state: str) -> bool:
    sagas = await rows(shop.databases["checkout"], tables.sagas)
    return len(sagas) == ORDERS and {saga["state"] for saga in sagas} == {state}


async def nobody_is(shop: Shop, owner: str) -> bool:
    return not await rows(shop.databases["checkout"], tables.sagas, owner=owner)
