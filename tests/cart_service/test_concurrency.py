import asyncio
import random

import pytest

from cart_service.domain import Settle
from cart_service.service import CartService
from mesh.caller import GUEST
from mesh.errors import Failure
from tests.cart_service.conftest import MakeService
from tests.cart_service.shelf import Shelf


async def test_a_hundred_additions_at_once_all_count(service: CartService, cart_id: str) -> None:
    answers = await asyncio.gather(*(service.add_item(GUEST, cart_id, "apple", quantity=n % 3 + 1) for n in range(100)))

    cart = (await service.get_cart(GUEST, cart_id)).cart
    assert cart.lines["apple"].quantity == sum(n % 3 + 1 for n in range(100))
    assert cart.version == 100
    assert sorted(answer.cart.version for answer in answers) == list(range(1, 101))


async def test_replicas_count_together_and_read_each_others_writes(make_service: MakeService, cart_id: str) -> None:
    replicas = [await make_service() for _ in range(2)]

    async def write_then_read_elsewhere(n: int) -> None:
        written = await replicas[n % 2].add_item(GUEST, cart_id, "apple", quantity=1)
        read = await replicas[(n + 1) % 2].get_cart(GUEST, cart_id)
        assert read.cart.version >= written.cart.version

    await asyncio.gather(*(write_then_read_elsewhere(n) for n in range(100)))

    cart = (await replicas[0].get_cart(GUEST, cart_id)).cart
    assert (cart.lines["apple"].quantity, cart.version) == (100, 100)


async def test_replicas_that_write_the_same_carts_in_any_order_do_not_fail(make_service: MakeService) -> None:
    replicas = [await make_service() for _ in range(2)]
    cart_ids = [f"00000000-0000-4000-8000-{n:012d}" for n in range(20)]
    chance = random.Random(1)  # noqa: S311 - a repeatable shuffle
    writes = [(replica, cart_id) for replica in replicas for cart_id in cart_ids * 3]
    chance.shuffle(writes)

    await asyncio.gather(*(replica.add_item(GUEST, cart_id, "apple", quantity=1) for replica, cart_id in writes))

    carts = [(await replicas[0].get_cart(GUEST, cart_id)).cart for cart_id in cart_ids]
    assert {(cart.version, cart.lines["apple"].quantity) for cart in carts} == {(6, 6)}


async def test_a_request_id_sent_fifty_times_at_once_adds_once(make_service: MakeService, cart_id: str) -> None:
    replicas = [await make_service() for _ in range(2)]

    answers = await asyncio.gather(
        *(replicas[n % 2].add_item(GUEST, cart_id, "apple", quantity=2, request_id="r1") for n in range(50))
    )

    assert {(answer.cart.version, answer.cart.lines["apple"].quantity) for answer in answers} == {(1, 2)}


@pytest.mark.survives("cart-away")
async def test_an_order_settled_many_times_at_once_is_subtracted_once(make_service: MakeService, cart_id: str) -> None:
    replicas = [await make_service() for _ in range(2)]
    await replicas[0].add_item(GUEST, cart_id, "apple", quantity=10)
    settlement = Settle(cart_id, "o1", {"apple": 3})

    await asyncio.gather(*(replicas[n % 2].batch_settle_carts([settlement]) for n in range(20)))

    assert (await replicas[0].get_cart(GUEST, cart_id)).cart.lines["apple"].quantity == 7


async def test_an_unknown_cart_settled_by_two_replicas_at_once_is_noted(
    make_service: MakeService, cart_id: str
) -> None:
    replicas = [await make_service() for _ in range(2)]
    settlement = Settle(cart_id, "o1", {"apple": 3})

    await asyncio.gather(*(replicas[n % 2].batch_settle_carts([settlement]) for n in range(20)))

    added = await replicas[0].add_item(GUEST, cart_id, "apple", quantity=5)
    await replicas[1].batch_settle_carts([settlement])
    assert (await replicas[0].get_cart(GUEST, cart_id)).cart == added.cart


@pytest.mark.survives("added-during-checkout")
async def test_what_is_added_while_an_order_is_settled_stays(make_service: MakeService, cart_id: str) -> None:
    replicas = [await make_service() for _ in range(2)]
    await replicas[0].add_item(GUEST, cart_id, "apple", quantity=50)

    await asyncio.gather(
        *(replicas[n % 2].add_item(GUEST, cart_id, "apple", quantity=1) for n in range(30)),
        *(replicas[n % 2].batch_settle_carts([Settle(cart_id, f"o{n}", {"apple": 1})]) for n in range(50)),
    )

    assert (await replicas[0].get_cart(GUEST, cart_id)).cart.lines["apple"].quantity == 30


async def test_one_bad_command_harms_no_neighbour_in_its_batch(
    service: CartService, cart_id: str, shelf: Shelf
) -> None:
    shelf.put("rare", 1)
    skus = ["apple", "rare", "rare", "ghost", "pear"]

    answers = await asyncio.gather(
        *(service.add_item(GUEST, cart_id, sku, quantity=1) for sku in skus), return_exceptions=True
    )

    failed = [answer.reason for answer in answers if isinstance(answer, Failure)]
    assert failed == ["OUT_OF_STOCK", "PRODUCT_NOT_FOUND"]
    assert set((await service.get_cart(GUEST, cart_id)).cart.lines) == {"apple", "rare", "pear"}


async def test_a_caller_who_gives_up_harms_no_neighbour(service: CartService, cart_id: str) -> None:
    calls = [asyncio.ensure_future(service.add_item(GUEST, cart_id, "apple", quantity=1)) for _ in range(20)]
    await asyncio.sleep(0)
    for call in calls[::2]:
        call.cancel()

    answers = await asyncio.gather(*calls, return_exceptions=True)

    assert sum(isinstance(answer, asyncio.CancelledError) for answer in answers) == 10
    quantity = (await service.get_cart(GUEST, cart_id)).cart.lines["apple"].quantity
    assert 10 <= quantity <= 20
    with pytest.raises(asyncio.CancelledError):
        calls[0].result()
