"""How orders end by the way their payment goes: every test token, webhooks, and time running out."""

import asyncio
from datetime import datetime
from pathlib import Path

import pytest

from checkout_service import tables
from checkout_service.domain import PaymentEvent, PaymentEventKind
from checkout_service.inbox_store import add_events
from checkout_service.payments.tables import payments
from mesh.db import now
from tests.checkout_service.audit import assert_settled
from tests.checkout_service.records import rows
from tests.checkout_service.shop import Shop, running_shop, until
from tests.checkout_service.shopper import (
    Shopper,
    end_of,
    new_product,
    place_order,
    state_of,
    stock,
    under_way,
    webhook,
)

pytestmark = pytest.mark.asyncio(loop_scope="session")

# token -> how the order ends, and what the provider's book says.
ENDS = {
    "tok_ok": (("PAID", ""), "CAPTURED"),
    "tok_decline": (("PAYMENT_FAILED", "CARD_DECLINED"), "DECLINED"),
    "tok_timeout": (("PAYMENT_FAILED", "PAYMENT_TIMEOUT"), "CANCELLED"),
    "tok_timeout_charged": (("PAID", ""), "CAPTURED"),
    "tok_slow": (("PAID", ""), "CAPTURED"),
    "tok_webhook_twice": (("PAID", ""), "CAPTURED"),
    "tok_capture_decline": (("PAYMENT_FAILED", "CAPTURE_DECLINED"), "CANCELLED"),
    "tok_of_another_shop": (("PAYMENT_FAILED", "CARD_DECLINED"), "DECLINED"),
}


async def pending(shop: Shop) -> tuple[str, str, str]:
    """An order whose payment is pending: its id, its payment's, its product's."""
    guest, sku = Shopper(shop), await new_product(shop, 3)
    order = await guest.place(await guest.fill(sku), "tok_pending")
    assert state_of(order) == "PAYMENT_PENDING"
    assert await stock(shop, sku) == (3, 1)
    return order.order_id, order.payment_id, sku


async def book_of(shop: Shop, order_id: str) -> list[tuple[str, int]]:
    """State and captured amount of the order's payment."""
    entries = await rows(shop.databases["psp"], payments, payment_key=order_id)
    return [(entry["state"], entry["captured_minor"]) for entry in entries]


@pytest.mark.survives("payment-lost-but-made", "payment-lost-not-made", "capture-refused")
async def test_every_token_ends_as_it_is_said_to(shop: Shop) -> None:
    guest, sku = Shopper(shop), await new_product(shop, 20)
    carts = {token: await guest.fill(sku) for token in ENDS}

    orders = dict(zip(ENDS, await asyncio.gather(*(guest.place(carts[t], t) for t in ENDS)), strict=True))

    assert {token: end_of(order) for token, order in orders.items()} == {token: end for token, (end, _) in ENDS.items()}
    for token, order in orders.items():
        captured = order.total.minor_units if state_of(order) == "PAID" else 0
        assert await book_of(shop, order.order_id) == [(ENDS[token][1], captured)]
    assert await stock(shop, sku) == (16, 0)


async def test_an_event_that_comes_twice_by_webhook_is_kept_once(shop: Shop) -> None:
    guest = Shopper(shop)
    order = await guest.place(await guest.fill(await new_product(shop, 1)), "tok_webhook_twice")

    async def arrived() -> bool:
        return bool(await rows(shop.databases["checkout"], tables.inbox, order_id=order.order_id))

    await until(arrived)

    assert end_of(order) == ("PAID", "")
    assert len(await rows(shop.databases["checkout"], tables.inbox, order_id=order.order_id)) == 1


@pytest.mark.parametrize(
    ("kind", "end", "book", "left"),
    [
        ("succeeded", ("PAID", ""), "CAPTURED", (2, 0)),
        ("failed", ("PAYMENT_FAILED", "CARD_DECLINED"), "CANCELLED", (3, 0)),
        ("cancelled", ("PAYMENT_FAILED", "PAYMENT_CANCELLED"), "CANCELLED", (3, 0)),
    ],
)
async def test_a_pending_payment_ends_by_webhook(
    shop: Shop, kind: str, end: tuple[str, str], book: str, left: tuple[int, int]
) -> None:
    order_id, payment_id, sku = await pending(shop)

    await webhook(shop, order_id, kind, payment_id=payment_id)
    order = await Shopper(shop).order_in(order_id, "PAID", "PAYMENT_FAILED")

    assert end_of(order) == end
    assert await book_of(shop, order_id) == [(book, order.total.minor_units if book == "CAPTURED" else 0)]
    assert await stock(shop, sku) == left


async def test_events_of_another_payment_or_kind_move_nothing(shop: Shop) -> None:
    order_id, payment_id, _ = await pending(shop)

    await webhook(shop, order_id, "succeeded", payment_id="pay_of_another")
    await webhook(shop, order_id, "updated", payment_id=payment_id)
    await webhook(shop, "ghost", "succeeded", payment_id=payment_id)
    await webhook(shop, order_id, "failed", payment_id=payment_id)

    # The event about this payment decides, although another came first.
    assert end_of(await Shopper(shop).order_in(order_id, "PAID", "PAYMENT_FAILED"))[1] == "CARD_DECLINED"


@pytest.mark.survives("webhook-before-answer")
async def test_an_event_that_comes_before_the_payment_is_recorded_as_pending_counts(shop: Shop) -> None:
    guest, sku = Shopper(shop), await new_product(shop, 3)
    cart_id = await guest.fill(sku)
    placing = asyncio.create_task(guest.send(place_order(cart_id, "tok_pending")))
    order_id = await under_way(shop, cart_id, "RESERVING", "AUTHORIZING", "AWAITING_PAYMENT")

    await webhook(shop, order_id, "succeeded")

    assert state_of(await placing) in {"PAYMENT_PENDING", "PAID"}
    assert end_of(await guest.order_in(order_id, "PAID", "PAYMENT_FAILED")) == ("PAID", "")


@pytest.mark.survives("webhook-repeated")
async def test_an_event_that_comes_five_times_counts_once(shop: Shop) -> None:
    order_id, payment_id, sku = await pending(shop)

    same = webhook(shop, order_id, "succeeded", payment_id=payment_id, event_id=f"evt-{order_id}")
    others = [webhook(shop, order_id, "succeeded", payment_id=payment_id, event_id=f"evt-{order_id}") for _ in range(4)]
    await asyncio.gather(same, *others)
    order = await Shopper(shop).order_in(order_id, "PAID")

    assert len(await rows(shop.databases["checkout"], tables.inbox, order_id=order_id)) == 1
    assert await book_of(shop, order_id) == [("CAPTURED", order.total.minor_units)]
    assert await stock(shop, sku) == (2, 0)


@pytest.mark.survives("webhook-reordered")
async def test_a_late_success_does_not_revive_a_failed_order(shop: Shop) -> None:
    order_id, payment_id, sku = await pending(shop)
    await webhook(shop, order_id, "failed", payment_id=payment_id)
    failed = await Shopper(shop).order_in(order_id, "PAYMENT_FAILED")

    await webhook(shop, order_id, "succeeded", payment_id=payment_id)
    # Whoever would take the event has had the time to: a later one has gone all its way.
    other_id, other_payment, _ = await pending(shop)
    await webhook(shop, other_id, "succeeded", payment_id=other_payment)
    await Shopper(shop).order_in(other_id, "PAID")

    assert await Shopper(shop).order(order_id) == failed
    assert await book_of(shop, order_id) == [("CANCELLED", 0)]
    assert await stock(shop, sku) == (3, 0)


async def test_a_repeated_request_answers_that_its_payment_is_pending_and_then_its_end(shop: Shop) -> None:
    guest = Shopper(shop)
    request = place_order(await guest.fill(await new_product(shop, 1)), "tok_pending")
    first = await guest.send(request)

    assert await guest.send(request) == first
    await webhook(shop, first.order_id, "succeeded", payment_id=first.payment_id)
    await guest.order_in(first.order_id, "PAID")

    assert end_of(await guest.send(request)) == ("PAID", "")


async def test_a_payment_that_stays_pending_fails_by_itself(tmp_path: Path) -> None:
    async with running_shop(Shop(tmp_path, {}, payment_timeout_s=4)) as shop:
        order_id, payment_id, sku = await pending(shop)

        order = await Shopper(shop).order_in(order_id, "PAYMENT_FAILED")

        assert order.reason == "PAYMENT_TIMEOUT"
        assert await stock(shop, sku) == (3, 0)
        assert await book_of(shop, order_id) == [("CANCELLED", 0)]
        await webhook(shop, order_id, "succeeded", payment_id=payment_id)
        await assert_settled(shop)


async def test_a_success_that_arrived_in_time_counts_however_late_it_is_read(tmp_path: Path) -> None:
    async with running_shop(Shop(tmp_path, {}, payment_timeout_s=4)) as shop:
        order_id, payment_id, _ = await pending(shop)
        await shop.stop("checkout")
        await put_event(shop, order_id, payment_id)
        [saga] = await rows(shop.databases["checkout"], tables.sagas, saga_id=order_id)

        async def over() -> bool:
            return bool((await database_time(shop)) > saga["deadline"])

        await until(over)
        await shop.start("checkout")

        assert end_of(await Shopper(shop).order_in(order_id, "PAID", "PAYMENT_FAILED")) == ("PAID", "")
        await assert_settled(shop)


async def put_event(shop: Shop, order_id: str, payment_id: str) -> None:
    """Another replica took the webhook, while the saga's owner was down."""
    event = PaymentEvent(f"evt-{order_id}", PaymentEventKind.SUCCEEDED, order_id, payment_id)
    await shop.databases["checkout"].transact("event", lambda connection: add_events(connection, [event]))


async def database_time(shop: Shop) -> datetime:
    return await shop.databases["checkout"].transact("now", now, read_only=True)
