"""Cancelling and refunding orders: at every step, by whom it may be, once however often it is asked for."""

import asyncio
import uuid

import pytest

from checkout_service.tables import sagas
from mesh.errors import Kind
from shop.checkout.v1 import checkout_pb2 as pb
from tests.checkout_service.records import rows
from tests.checkout_service.shop import Shop, until
from tests.checkout_service.shopper import (
    Shopper,
    customer,
    end_of,
    new_product,
    operator,
    place_order,
    refused,
    stock,
    under_way,
    webhook,
)

pytestmark = pytest.mark.asyncio(loop_scope="session")

PAID_THEN_REFUNDED = ("REFUNDED", "CANCELLED")


async def cancel(who: Shopper, order_id: str, **more: str) -> pb.Order:
    order: pb.Order = await who.call("CancelOrder", pb.CancelOrderRequest(order_id=order_id, **more))
    return order


async def refund(who: Shopper, order_id: str, **more: str) -> pb.Order:
    order: pb.Order = await who.call("RefundOrder", pb.RefundOrderRequest(order_id=order_id, **more))
    return order


async def test_a_pending_order_is_cancelled_and_its_stock_is_free_again(shop: Shop) -> None:
    sku, who = await new_product(shop, 5), customer(shop)
    order = await who.place(await who.fill(sku, 2), "tok_pending")

    cancelled = await cancel(who, order.order_id, reason="changed my mind")

    assert end_of(cancelled) == ("CANCELLED", "CANCELLED")
    assert await stock(shop, sku) == (5, 0)


async def test_a_paid_order_is_refunded_and_its_stock_comes_back(shop: Shop) -> None:
    sku, who = await new_product(shop, 5), customer(shop)
    order = await who.place(await who.fill(sku, 2))
    assert await stock(shop, sku) == (3, 0)

    cancelled = await cancel(who, order.order_id)

    assert end_of(cancelled) == PAID_THEN_REFUNDED
    assert await stock(shop, sku) == (5, 0)
    assert cancelled.invoice_number == order.invoice_number


async def test_cancelling_again_and_again_is_cancelling_once(shop: Shop) -> None:
    sku, who = await new_product(shop, 5), customer(shop)
    order = await who.place(await who.fill(sku))
    key = str(uuid.uuid4())

    answers = await asyncio.gather(*(cancel(who, order.order_id, request_id=key) for _ in range(20)))
    late = await cancel(who, order.order_id)

    assert {end_of(answer) for answer in [*answers, late]} == {PAID_THEN_REFUNDED}
    assert await stock(shop, sku) == (5, 0)


@pytest.mark.survives("keys-outlive-sagas")
async def test_the_key_of_an_order_that_was_refunded_still_answers_what_it_answered(shop: Shop) -> None:
    sku, who = await new_product(shop, 5), customer(shop)
    request = place_order(await who.fill(sku))
    paid = await who.send(request)
    await cancel(who, paid.order_id)

    again = await who.send(request)

    assert again.SerializeToString(deterministic=True) == paid.SerializeToString(deterministic=True)


async def test_the_cart_of_a_cancelled_order_can_be_ordered_again(shop: Shop) -> None:
    sku, who = await new_product(shop, 5), customer(shop)
    cart_id = await who.fill(sku, 2)
    order = await who.place(cart_id, "tok_pending")
    await cancel(who, order.order_id)

    assert end_of(await who.place(cart_id)) == ("PAID", "")
    assert await stock(shop, sku) == (3, 0)


async def test_an_order_whose_payment_is_being_asked_for_is_cancelled(shop: Shop) -> None:
    sku, who = await new_product(shop, 1), customer(shop)
    cart_id = await who.fill(sku)
    placing = asyncio.create_task(who.place(cart_id, "tok_slow"))
    order_id = await under_way(shop, cart_id, "AUTHORIZING")

    cancelled = await cancel(who, order_id)

    assert end_of(cancelled) == end_of(await placing) == ("CANCELLED", "CANCELLED")
    assert await stock(shop, sku) == (1, 0)


@pytest.mark.survives("cancel-and-commit")
@pytest.mark.parametrize("round_", range(3))
async def test_a_cancellation_and_the_stock_commit_at_the_same_instant_agree_on_one_end(
    shop: Shop, round_: int
) -> None:
    sku = await new_product(shop, 12)
    people = [customer(shop) for _ in range(12)]

    async def order_and_cancel(who: Shopper, number: int) -> str:
        cart_id = await who.fill(sku)
        placing = asyncio.create_task(who.place(cart_id))
        # Each cancels a little later than the one before: some before, some in, some after the commit.
        states = ["RESERVING", "AUTHORIZING", "COMMITTING", "CAPTURING", "SETTLING", "DONE"]
        order_id = await under_way(shop, cart_id, *states[min(number // 3 + round_, 5) :], *states[-2:])
        ended = await cancel(who, order_id)
        await placing
        return end_of(ended)[0]

    async def order_and_cancel_or_too_late(who: Shopper, number: int) -> str:
        try:
            return await asyncio.wait_for(order_and_cancel(who, number), 30)
        except AssertionError:
            # It was over before anybody saw it under way.
            return "PAID"

    ends = await asyncio.gather(*(order_and_cancel_or_too_late(who, n) for n, who in enumerate(people)))

    assert set(ends) <= {"CANCELLED", "REFUNDED", "PAID"}
    sold = ends.count("PAID")
    assert await stock(shop, sku) == (12 - sold, 0)


@pytest.mark.survives("paid-after-cancel")
async def test_paid_by_webhook_after_the_cancellation_stays_cancelled(shop: Shop) -> None:
    sku, who = await new_product(shop, 1), customer(shop)
    order = await who.place(await who.fill(sku), "tok_pending")
    await cancel(who, order.order_id)

    await webhook(shop, order.order_id, "succeeded", payment_id=order.payment_id)

    assert end_of(await who.order(order.order_id)) == ("CANCELLED", "CANCELLED")
    assert await stock(shop, sku) == (1, 0)


async def test_an_order_that_ended_unpaid_has_nothing_to_cancel(shop: Shop) -> None:
    who = customer(shop)
    order = await who.place(await who.fill(await new_product(shop, 1)), "tok_decline")

    failure = await refused(cancel(who, order.order_id))

    assert (failure.kind, failure.reason) == (Kind.FAILED_PRECONDITION, "ORDER_ENDED")


async def test_nobody_cancels_a_strangers_order(shop: Shop) -> None:
    who = customer(shop)
    order = await who.place(await who.fill(await new_product(shop, 1)))

    failure = await refused(cancel(customer(shop), order.order_id))

    assert (failure.kind, failure.reason) == (Kind.NOT_FOUND, "ORDER_NOT_FOUND")
    assert end_of(await who.order(order.order_id)) == ("PAID", "")


async def test_a_guest_cancels_by_the_orders_id(shop: Shop) -> None:
    guest = Shopper(shop)
    order = await guest.place(await guest.fill(await new_product(shop, 1)))

    assert end_of(await cancel(guest, order.order_id)) == PAID_THEN_REFUNDED


async def test_only_staff_refunds_and_only_what_was_paid(shop: Shop) -> None:
    who, staff = customer(shop), operator(shop)
    paid = await who.place(await who.fill(await new_product(shop, 1)))
    pending = await who.place(await who.fill(await new_product(shop, 1)), "tok_pending")

    assert (await refused(refund(who, paid.order_id))).kind is Kind.PERMISSION_DENIED
    assert (await refused(refund(staff, pending.order_id))).reason == "ORDER_NOT_PAID"
    assert end_of(await refund(staff, paid.order_id, reason="broken")) == ("REFUNDED", "REFUNDED_BY_OPERATOR")
    await cancel(who, pending.order_id)


async def test_what_is_wrong_with_the_request_is_named(shop: Shop) -> None:
    failure = await refused(cancel(customer(shop), "no such id", reason="x" * 501, request_id="two words"))

    assert {violation.field for violation in failure.fields} == {"order_id", "reason", "request_id"}


async def test_a_refund_goes_on_after_the_process_that_began_it_stopped(shop: Shop) -> None:
    sku, who = await new_product(shop, 3), customer(shop)
    order = await who.place(await who.fill(sku))
    await shop.stop("inventory")
    asked = asyncio.create_task(cancel(who, order.order_id))
    # The wish is durable before anything is given back.
    await under_undoing(shop, order.order_id)
    await shop.stop("checkout")
    await asyncio.gather(asked, return_exceptions=True)
    await shop.start("inventory")
    await shop.start("checkout")

    assert end_of(await who.order_in(order.order_id, "REFUNDED")) == PAID_THEN_REFUNDED
    assert await stock(shop, sku) == (3, 0)


async def under_undoing(shop: Shop, order_id: str) -> None:
    """Wait until the stock is being taken back."""

    async def look() -> bool:
        [saga] = await rows(shop.databases["checkout"], sagas, saga_id=order_id)
        return bool(saga["state"] == "RETURNING")

    await until(look)
