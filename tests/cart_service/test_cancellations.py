"""A caller may give up at any await of any use case: what it asked for happened whole or not at all."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from cart_service.domain import Settle, View
from cart_service.service import CartService
from mesh.caller import GUEST
from tests.cart_service.shelf import Shelf
from tests.support.cancelling import Baseline, at_every_point

# What somebody asks for, under a key of his own, and what he has then of apples and pears.
USES: dict[str, tuple[Callable[[CartService, str, str], Coroutine[Any, Any, object]], dict[str, int]]] = {
    "get_cart": (lambda service, cart_id, _: service.get_cart(GUEST, cart_id), {"apple": 1}),
    "batch_get_carts": (lambda service, cart_id, _: service.batch_get_carts([View(cart_id, "")]), {"apple": 1}),
    "add_item": (
        lambda service, cart_id, key: service.add_item(GUEST, cart_id, "pear", quantity=2, request_id=key),
        {"apple": 1, "pear": 2},
    ),
    "set_item_quantity": (
        lambda service, cart_id, _: service.set_item_quantity(GUEST, cart_id, "apple", quantity=7),
        {"apple": 7},
    ),
    "remove_item": (lambda service, cart_id, _: service.remove_item(GUEST, cart_id, "apple"), {}),
    "clear_cart": (lambda service, cart_id, _: service.clear_cart(GUEST, cart_id), {}),
    "batch_settle_carts": (
        lambda service, cart_id, key: service.batch_settle_carts([Settle(cart_id, key, {"apple": 1})]),
        {},
    ),
}


@pytest.mark.survives("cancelled-at-every-await")
@pytest.mark.parametrize("name", USES)
async def test_a_caller_who_gives_up_may_ask_again(service: CartService, name: str, shelf: Shelf) -> None:
    use, afterwards = USES[name]
    shelf.put("pear", 9)
    cart_ids = [f"00000000-0000-4000-8000-{number:012d}" for number in range(40)]
    await asyncio.gather(*(service.add_item(GUEST, cart_id, "apple", quantity=1) for cart_id in cart_ids))
    baseline = Baseline()
    fresh = iter(cart_ids)

    points = await at_every_point(lambda: use(service, cart_id := next(fresh), cart_id))
    await baseline.restored()
    given_up = cart_ids[: points + 1]
    half_way = {cart_id: await contents(service, cart_id) for cart_id in given_up}
    for cart_id in given_up:
        await use(service, cart_id, cart_id)

    assert points >= 1
    assert all(items in ({"apple": 1}, afterwards) for items in half_way.values())
    assert {cart_id: await contents(service, cart_id) for cart_id in given_up} == dict.fromkeys(given_up, afterwards)
    await baseline.restored()


async def contents(service: CartService, cart_id: str) -> dict[str, int]:
    lines = (await service.get_cart(GUEST, cart_id)).cart.lines
    return {line.sku: line.quantity for line in lines.values()}
