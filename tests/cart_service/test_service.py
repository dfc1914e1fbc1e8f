import asyncio
import uuid
from datetime import timedelta

import pytest

from cart_service.domain import MAX_LINES, Settle, View
from cart_service.prices import Money, PricedCart
from cart_service.service import CartService
from mesh.caller import GUEST, Caller, Tier
from mesh.errors import Failure, Kind
from tests.cart_service.shelf import Shelf

ANN = Caller(Tier.CUSTOMER, "ann")
BOB = Caller(Tier.CUSTOMER, "bob")
OPERATOR = Caller(Tier.OPERATOR, "olga")
CHECKOUT = Caller(Tier.SERVICE, "checkout")


def contents(priced: PricedCart) -> dict[str, int]:
    return {sku: line.quantity for sku, line in priced.cart.lines.items()}


def reason(failure: Failure) -> tuple[Kind, str]:
    return failure.kind, failure.reason


async def test_an_absent_cart_reads_as_empty(service: CartService, cart_id: str) -> None:
    priced = await service.get_cart(GUEST, cart_id)

    assert (priced.cart.version, contents(priced), priced.subtotal) == (0, {}, None)
    assert priced.cart.update_time is None


async def test_a_write_answers_what_a_read_then_answers(service: CartService, cart_id: str) -> None:
    await service.add_item(GUEST, cart_id, "pear", quantity=2)
    written = await service.add_item(GUEST, cart_id, "apple", quantity=3)

    read = await service.get_cart(GUEST, cart_id)

    assert read == written
    assert list(contents(read).items()) == [("pear", 2), ("apple", 3)]
    assert read.cart.version == 2
    assert read.subtotal == Money("EUR", 2 * 75 + 3 * 50)


async def test_every_kind_of_write_reaches_the_database(service: CartService, cart_id: str) -> None:
    await service.add_item(GUEST, cart_id, "apple", quantity=5)
    await service.add_item(GUEST, cart_id, "apple", quantity=1)
    await service.set_item_quantity(GUEST, cart_id, "pear", quantity=4)
    assert contents(await service.get_cart(GUEST, cart_id)) == {"apple": 6, "pear": 4}

    await service.set_item_quantity(GUEST, cart_id, "pear", quantity=3)
    await service.remove_item(GUEST, cart_id, "apple")
    assert contents(await service.get_cart(GUEST, cart_id)) == {"pear": 3}

    await service.clear_cart(GUEST, cart_id)
    cleared = await service.get_cart(GUEST, cart_id)
    assert (contents(cleared), cleared.cart.version) == ({}, 6)


async def test_taking_from_an_absent_cart_makes_none(service: CartService, cart_id: str) -> None:
    await service.remove_item(ANN, cart_id, "apple")
    await service.clear_cart(ANN, cart_id)
    await service.batch_settle_carts([Settle(cart_id, "o1", {"apple": 1})])

    # Anybody may still begin it.
    assert (await service.add_item(BOB, cart_id, "apple", quantity=1)).cart.version == 1


async def test_a_refused_first_addition_makes_no_cart(service: CartService, cart_id: str, shelf: Shelf) -> None:
    shelf.put("rare", 1)

    with pytest.raises(Failure, match="OUT_OF_STOCK"):
        await service.add_item(ANN, cart_id, "rare", quantity=2)

    assert (await service.add_item(BOB, cart_id, "rare", quantity=1)).cart.version == 1


async def test_the_first_customer_to_write_owns_the_cart(service: CartService, cart_id: str) -> None:
    await service.add_item(GUEST, cart_id, "apple", quantity=1)
    await service.get_cart(BOB, cart_id)
    await service.add_item(ANN, cart_id, "apple", quantity=1)

    for stranger in (BOB, GUEST):
        with pytest.raises(Failure, match="NOT_FOUND CART_NOT_FOUND"):
            await service.get_cart(stranger, cart_id)
        with pytest.raises(Failure, match="NOT_FOUND CART_NOT_FOUND"):
            await service.add_item(stranger, cart_id, "apple", quantity=1)
    assert contents(await service.get_cart(ANN, cart_id)) == {"apple": 2}


async def test_operators_and_services_read_any_cart_and_write_none(service: CartService, cart_id: str) -> None:
    await service.add_item(ANN, cart_id, "apple", quantity=1)

    for caller in (OPERATOR, CHECKOUT):
        assert contents(await service.get_cart(caller, cart_id)) == {"apple": 1}
        with pytest.raises(Failure, match="NOT_FOUND CART_NOT_FOUND"):
            await service.clear_cart(caller, cart_id)


async def test_what_is_unknown_or_retired_is_not_found(service: CartService, cart_id: str, shelf: Shelf) -> None:
    await service.add_item(GUEST, cart_id, "apple", quantity=1)
    shelf.retire("apple")

    for sku in ("apple", "ghost"):
        with pytest.raises(Failure) as caught:
            await service.add_item(GUEST, cart_id, sku, quantity=1)
        assert reason(caught.value) == (Kind.NOT_FOUND, "PRODUCT_NOT_FOUND")
        assert caught.value.metadata == {"sku": sku}


async def test_the_whole_line_is_compared_with_the_stock(service: CartService, cart_id: str, shelf: Shelf) -> None:
    shelf.put("rare", 3)
    await service.add_item(GUEST, cart_id, "rare", quantity=2)

    with pytest.raises(Failure) as caught:
        await service.add_item(GUEST, cart_id, "rare", quantity=2)

    assert reason(caught.value) == (Kind.FAILED_PRECONDITION, "OUT_OF_STOCK")
    assert caught.value.metadata == {"sku": "rare", "requested": "4", "available": "3"}
    assert contents(await service.get_cart(GUEST, cart_id)) == {"rare": 2}


async def test_new_stock_can_be_added_at_once(service: CartService, cart_id: str, shelf: Shelf) -> None:
    shelf.put("rare", 0)
    with pytest.raises(Failure, match="OUT_OF_STOCK"):
        await service.add_item(GUEST, cart_id, "rare", quantity=1)

    shelf.put("rare", 1)

    assert contents(await service.add_item(GUEST, cart_id, "rare", quantity=1)) == {"rare": 1}


async def test_a_cart_takes_no_more_than_its_most_of_skus(service: CartService, cart_id: str, shelf: Shelf) -> None:
    skus = [f"sku-{n}" for n in range(MAX_LINES + 1)]
    for sku in skus:
        shelf.put(sku, 1)
    await asyncio.gather(*(service.add_item(GUEST, cart_id, sku, quantity=1) for sku in skus[:-1]))

    with pytest.raises(Failure, match="FAILED_PRECONDITION CART_FULL"):
        await service.set_item_quantity(GUEST, cart_id, skus[-1], quantity=1)


async def test_a_request_id_adds_once(service: CartService, cart_id: str) -> None:
    for _ in range(2):
        cart = await service.add_item(GUEST, cart_id, "apple", quantity=2, request_id="r1")
    assert contents(cart) == {"apple": 2}

    with pytest.raises(Failure, match="ALREADY_EXISTS IDEMPOTENCY_KEY_REUSED"):
        await service.add_item(GUEST, cart_id, "apple", quantity=3, request_id="r1")


async def test_a_request_id_belongs_to_its_cart(service: CartService, cart_id: str) -> None:
    await service.add_item(GUEST, cart_id, "apple", quantity=2, request_id="r1")

    other = await service.add_item(GUEST, str(uuid.uuid4()), "pear", quantity=1, request_id="r1")

    assert contents(other) == {"pear": 1}


async def test_without_inventory_a_write_fails_and_a_read_does_without_prices(
    service: CartService, cart_id: str, shelf: Shelf
) -> None:
    shelf.away = True
    with pytest.raises(Failure) as caught:
        await service.add_item(GUEST, cart_id, "apple", quantity=1)
    assert caught.value.kind is Kind.UNAVAILABLE
    shelf.away = False
    await service.add_item(GUEST, cart_id, "apple", quantity=1)
    shelf.away = True

    shelf.retire("apple")
    assert (await service.get_cart(GUEST, cart_id)).subtotal == Money("EUR", 50), "the price is remembered"
    assert contents(await service.remove_item(GUEST, cart_id, "apple")) == {}


async def test_settling_takes_out_once_per_order(service: CartService, cart_id: str) -> None:
    await service.add_item(ANN, cart_id, "apple", quantity=5)
    await service.add_item(ANN, cart_id, "pear", quantity=1)
    settlement = Settle(cart_id, "o1", {"apple": 2, "pear": 1})

    await service.batch_settle_carts([settlement, settlement])
    await service.batch_settle_carts([settlement])

    settled = await service.get_cart(ANN, cart_id)
    assert (contents(settled), settled.cart.version) == ({"apple": 3}, 3)


async def test_many_carts_are_settled_in_one_call(service: CartService) -> None:
    cart_ids = [str(uuid.uuid4()) for _ in range(300)]
    await asyncio.gather(*(service.add_item(GUEST, cart_id, "apple", quantity=2) for cart_id in cart_ids))

    await service.batch_settle_carts([Settle(cart_id, cart_id, {"apple": 1}) for cart_id in cart_ids])

    carts = await service.batch_get_carts([View(cart_id, "") for cart_id in cart_ids])
    assert [cart.cart_id for cart in carts] == cart_ids
    assert {line.quantity for cart in carts for line in cart.lines.values()} == {1}


async def test_views_show_each_caller_what_is_theirs(service: CartService, cart_id: str) -> None:
    absent = str(uuid.uuid4())
    await service.add_item(ANN, cart_id, "apple", quantity=5)

    hers, his, nobodys = await service.batch_get_carts([View(cart_id, "ann"), View(cart_id, "bob"), View(absent, "")])

    assert (hers.cart_id, hers.version, hers.lines["apple"].quantity) == (cart_id, 1, 5)
    assert (his.cart_id, his.version, his.lines) == (cart_id, 0, {})
    assert (nobodys.cart_id, nobodys.version, nobodys.lines) == (absent, 0, {})


@pytest.mark.survives("bad-quantities")
@pytest.mark.parametrize("quantity", [0, -1, 10_001, 2**31 - 1])
async def test_every_bad_field_of_an_addition_is_named(service: CartService, quantity: int) -> None:
    with pytest.raises(Failure) as caught:
        await service.add_item(GUEST, "C1", "a b", quantity=quantity, request_id="é")

    assert caught.value.kind is Kind.INVALID_ARGUMENT
    assert [violation.field for violation in caught.value.fields] == ["cart_id", "sku", "quantity", "request_id"]


@pytest.mark.parametrize("bad", ["", "not-a-uuid", "3F0C1A52-5A0E-4C1B-9B67-0E4F6A2D9C11"])
async def test_a_cart_id_is_a_lower_case_uuid_everywhere(service: CartService, bad: str) -> None:
    calls = [
        service.get_cart(GUEST, bad),
        service.add_item(GUEST, bad, "apple", quantity=1),
        service.set_item_quantity(GUEST, bad, "apple", quantity=1),
        service.remove_item(GUEST, bad, "apple"),
        service.clear_cart(GUEST, bad),
    ]
    for call in calls:
        with pytest.raises(Failure) as caught:
            await call
        assert [violation.field for violation in caught.value.fields] == ["cart_id"]


async def test_every_bad_field_of_a_batch_is_named(service: CartService, cart_id: str) -> None:
    with pytest.raises(Failure) as caught:
        await service.batch_get_carts([View(cart_id, "ann"), View("c1", "a b")])
    assert [violation.field for violation in caught.value.fields] == ["views[1].cart_id", "views[1].customer_id"]

    with pytest.raises(Failure) as caught:
        await service.batch_settle_carts([Settle(cart_id, "o1", {}), Settle("c1", "", {"apple": 1, "": 0})])
    assert [violation.field for violation in caught.value.fields] == [
        "settlements[0].lines",
        "settlements[1].cart_id",
        "settlements[1].order_id",
        "settlements[1].lines[1].sku",
        "settlements[1].lines[1].quantity",
    ]

    with pytest.raises(Failure) as caught:
        await service.batch_get_carts([View(cart_id, "")] * 1001)
    assert [violation.field for violation in caught.value.fields] == ["views"]


async def test_the_most_that_one_line_holds(service: CartService, cart_id: str, shelf: Shelf) -> None:
    shelf.put("bolt", 1_000_000)
    await service.add_item(GUEST, cart_id, "bolt", quantity=10_000)

    with pytest.raises(Failure) as caught:
        await service.add_item(GUEST, cart_id, "bolt", quantity=1)

    assert caught.value.kind is Kind.INVALID_ARGUMENT
    assert [violation.field for violation in caught.value.fields] == ["quantity"]


async def test_carts_that_nobody_touched_for_long_go_in_bounded_steps(service: CartService) -> None:
    cart_ids = [str(uuid.uuid4()) for _ in range(5)]
    for cart_id in cart_ids:
        await service.add_item(GUEST, cart_id, "apple", quantity=2)

    assert await service.delete_expired(ttl=timedelta(hours=1), at_most=2) == 0
    deleted = [await service.delete_expired(ttl=timedelta(0), at_most=2) for _ in range(4)]

    assert deleted == [2, 2, 1, 0]
    carts = await service.batch_get_carts([View(cart_id, "") for cart_id in cart_ids])
    assert {cart.version for cart in carts} == {0}
