"""A caller may give up at any await of any use case: what it asked for happened whole or not at all."""

import asyncio
import itertools
from collections.abc import Callable, Coroutine
from dataclasses import replace
from typing import Any

import pytest

from inventory_service.domain.catalog import Change, Draft
from inventory_service.domain.reservation import Extend
from tests.inventory_service.build import MUG, Replica, adjust, assert_balanced, commit, release, reserve
from tests.support.cancelling import Baseline, at_every_point

Call = Coroutine[Any, Any, object]

READS: dict[str, Callable[[Replica], Call]] = {
    "get_product": lambda replica: replica.app.catalog.get_product("mug"),
    "batch_get_products": lambda replica: replica.app.catalog.batch_get_products(["mug", "cup"]),
    "list_products": lambda replica: replica.app.catalog.list_products(
        page_size_asked=0, page_token="", category="", in_stock=True, q="", order_by=""
    ),
    "get_stock": lambda replica: replica.app.stock.get_stock("mug"),
    "list_stock_movements": lambda replica: replica.app.stock.list_stock_movements(
        "mug", page_size_asked=0, page_token=""
    ),
    "get_reservation": lambda replica: replica.app.reservations.get_reservation("held"),
}
# Each under a key of its own; done twice, they have had one effect.
WRITES: dict[str, Callable[[Replica, str], Call]] = {
    "reserve": lambda replica, key: replica.app.reservations.reserve(reserve(key, ("mug", 1), ("cup", 2))),
    "release": lambda replica, key: replica.app.reservations.release_reservation(release(key)),
    "batch": lambda replica, key: replica.app.reservations.batch([reserve(key, ("mug", 1)), commit(key)]),
    "extend_reservation": lambda replica, _: replica.app.reservations.extend_reservation(
        Extend(reservation_id="held", ttl_s=3600)
    ),
    "adjust_stock": lambda replica, key: replica.app.stock.adjust_stock(adjust("mug", 1, request_id=key)),
    "update_product": lambda replica, _: replica.app.catalog.update_product(
        Change(sku="mug", etag="", facts=replace(MUG, name="New"), fields=("name",))
    ),
    "delete_product": lambda replica, _: replica.app.catalog.delete_product("old", etag=""),
}


@pytest.fixture
async def shop(replica: Replica) -> Replica:
    for sku in ("mug", "cup", "old"):
        await replica.put(sku, 1000)
    await replica.app.reservations.reserve(reserve("held", ("mug", 1)))
    return replica


@pytest.mark.parametrize("name", READS)
async def test_a_reader_who_gives_up_leaves_nothing_behind(shop: Replica, name: str) -> None:
    baseline = Baseline()

    points = await at_every_point(lambda: READS[name](shop))

    await baseline.restored()
    assert points >= 1


@pytest.mark.survives("cancelled-at-every-await")
@pytest.mark.parametrize("name", WRITES)
async def test_a_writer_who_gives_up_did_it_all_or_nothing_and_may_do_it_again(shop: Replica, name: str) -> None:
    baseline = Baseline()
    numbers = itertools.count()

    points = await at_every_point(lambda: WRITES[name](shop, f"k{next(numbers)}"))
    await baseline.restored()
    await assert_balanced(shop.database)
    again = await asyncio.gather(*(WRITES[name](shop, f"k{number}") for number in range(points + 1)))

    assert points >= 1
    assert len(again) == next(numbers)
    await assert_balanced(shop.database)
    on_hand, held = await shop.counters("mug")
    change = {"reserve": (0, 1), "batch": (-1, 0), "adjust_stock": (1, 0)}.get(name, (0, 0))
    assert (on_hand - 1000, held - 1) == (change[0] * (points + 1), change[1] * (points + 1))


async def test_a_product_whose_creator_gave_up_is_there_with_its_stock_or_not_at_all(shop: Replica) -> None:
    baseline = Baseline()
    numbers = itertools.count()

    await at_every_point(lambda: shop.app.catalog.create_product(Draft(sku=f"new-{next(numbers)}", facts=MUG)))
    await baseline.restored()

    for number in range(next(numbers)):
        products, missing = await shop.app.catalog.batch_get_products([f"new-{number}"])
        stocks = await shop.app.stock.batch_get_stock([f"new-{number}"])
        assert len(products) == len(stocks) == 1 - len(missing)


@pytest.mark.survives("cancelled-at-every-await")
async def test_neighbours_of_those_who_give_up_are_all_served(shop: Replica) -> None:
    baseline = Baseline()
    service = shop.app.reservations

    async def give_up(number: int) -> None:
        for turns in range(30):
            quitter = asyncio.ensure_future(service.reserve(reserve(f"quitter-{number}-{turns}", ("mug", 1))))
            for _ in range(turns):
                await asyncio.sleep(0)
            quitter.cancel()

    async def buy(number: int) -> object:
        await service.reserve(reserve(f"r{number}", ("mug", 1)))
        return (await service.commit_reservation(commit(f"r{number}"))).state

    _, sold = await asyncio.gather(asyncio.gather(*map(give_up, range(5))), asyncio.gather(*map(buy, range(60))))

    assert set(sold) == {"COMMITTED"}
    await baseline.restored()
    await assert_balanced(shop.database)
