"""Orders paid at a provider that loses, doubles, delays and refuses: each ends once, with its money and its stock.

The provider's book, not ours, tells what was charged.
"""

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from google.api.httpbody_pb2 import HttpBody

from checkout_service import tables
from checkout_service.webhooks import sign
from inventory_service.tables import reservations
from mesh.clock import SYSTEM_CLOCK
from mesh.program import Program, open_kit
from shop.checkout.v1 import checkout_pb2 as pb
from shop.checkout.v1 import checkout_pb2_grpc, saga_pb2
from tests.checkout_service.records import rows
from tests.checkout_service.shop import _KINDS, SERVICE_CONFIG, WEBHOOK_SECRET, Shop, running_shop, until
from tests.checkout_service.shopper import (
    Shopper,
    customer,
    end_of,
    new_product,
    operator,
    place_order,
    state_of,
    stock,
    under_way,
)
from tests.support.psp import API_KEY, FOR_EVER, HostilePsp, hostile_psp
from tests.support.psp_book import Book
from tests.support.psp_calls import Runs, Trick
from tests.support.psp_process import PspProcess
from tests.support.psp_wire import Silence

_SOLD = ("PAID", "IN_TRANSIT", "COMPLETED")


@pytest.fixture
async def psp(tmp_path: Path) -> AsyncIterator[HostilePsp]:
    async with hostile_psp(tmp_path) as psp:
        yield psp


@pytest.fixture
async def shop(tmp_path: Path, psp: HostilePsp) -> AsyncIterator[Shop]:
    """A shop of the test's own, whose orders are paid at the hostile provider and which gets that one's webhooks."""
    async with running_shop(paid_at(psp.url, tmp_path)) as shop:
        psp.send_webhooks(partial(take_webhook, shop))
        yield shop
        await assert_square(shop, psp.book)


def paid_at(url: str, folder: Path, **checkout: Any) -> Shop:
    """A shop whose provider is there."""
    return Shop(folder, {}, payment_url=url, payment_api_key=API_KEY, **checkout)


async def take_webhook(shop: Shop, body: bytes) -> None:
    """Bring a webhook to the shop, signed."""
    metadata = (("shop-signature", sign(body, WEBHOOK_SECRET, at=int(time.time()))),)
    stub: Any = checkout_pb2_grpc.CheckoutServiceStub(shop.channels["checkout"])
    await stub.ReceivePaymentEvent(HttpBody(data=body), metadata=metadata)


async def assert_square(shop: Shop, book: Book) -> None:
    """Once every saga rests or waits for a person: what sold was paid, once; nothing else cost anything."""

    async def rest() -> bool:
        return {saga["owner"] for saga in await rows(shop.databases["checkout"], tables.sagas)} <= {"", "operator"}

    await until(rest)
    parked = {saga["saga_id"] for saga in await rows(shop.databases["checkout"], tables.sagas, owner="operator")}
    for order in await rows(shop.databases["checkout"], tables.orders):
        captured, refunded = book.money(order["order_id"])
        if order["order_id"] not in parked:
            assert captured - refunded == (order["total_minor"] if order["state"] in _SOLD else 0)
            left = {intent.status for intent in book.of_order(order["order_id"])}
            assert left <= {"succeeded", "canceled"}


async def strays(shop: Shop, order_id: str) -> list[str]:
    """The payments beside the order's own that the operator finds in the saga's log."""
    entries = await rows(shop.databases["checkout"], tables.saga_log, saga_id=order_id, kind="STRAY_PAYMENT")
    return [entry["detail"] for entry in entries]


async def buy(shop: Shop, token: str) -> tuple[pb.Order, str]:
    """A guest orders one of three pieces: the answer, and the SKU."""
    guest, sku = Shopper(shop), await new_product(shop, 3)
    return await guest.place(await guest.fill(sku), token), sku


@pytest.mark.survives("payment-lost-but-made")
async def test_a_payment_that_timed_out_but_succeeded_is_found_and_not_made_again(shop: Shop, psp: HostilePsp) -> None:
    order, sku = await buy(shop, "tok_timeout_charged")

    assert end_of(order) == ("PAID", "")
    assert psp.asked("confirm", order.order_id) == 1
    assert await stock(shop, sku) == (2, 0)


@pytest.mark.survives("payment-lost-not-made")
async def test_a_payment_that_timed_out_and_failed_ends_unpaid_even_if_it_comes_late(
    shop: Shop, psp: HostilePsp
) -> None:
    psp.play(Trick(on="confirm", runs=Runs.LATER, answer=Silence.CUT, times=FOR_EVER))
    order, sku = await buy(shop, "tok_ok")
    assert end_of(order) == ("PAYMENT_FAILED", "PAYMENT_TIMEOUT")

    psp.release()

    assert [move for move in psp.book.movements if move.order_id == order.order_id] == []
    assert await stock(shop, sku) == (3, 0)


@pytest.mark.survives("payment-lost-not-made")
async def test_a_decline_that_comes_after_the_time_out_is_a_decline(shop: Shop, psp: HostilePsp) -> None:
    psp.play(Trick(on="confirm", answer=Silence.CUT, times=FOR_EVER))

    order, sku = await buy(shop, "tok_decline")

    assert end_of(order) == ("PAYMENT_FAILED", "CARD_DECLINED")
    assert await stock(shop, sku) == (3, 0)


@pytest.mark.survives("look-up-down")
async def test_a_charge_is_found_although_the_look_up_was_down_for_ten_minutes(tmp_path: Path, psp: HostilePsp) -> None:
    shop = ShopWithClock(tmp_path, {}, payment_url=psp.url, payment_api_key=API_KEY)
    async with running_shop(shop):
        psp.play(Trick(on="read", runs=Runs.NOT, answer=503, times=FOR_EVER))
        guest, sku = Shopper(shop), await new_product(shop, 3)
        cart_id = await guest.fill(sku)
        request = place_order(cart_id, "tok_timeout_charged")
        placing = asyncio.create_task(guest.send(request, timeout_s=60))
        order_id = await under_way(shop, cart_id, "FINDING_AUTHORIZATION")
        held_until = await expiry(shop, order_id)

        shop.pass_time(timedelta(minutes=10))

        async def is_extended() -> bool:
            return await expiry(shop, order_id) > held_until

        await until(is_extended)
        assert await stock(shop, sku) == (3, 1)
        psp.be_good()
        await asyncio.wait([placing])
        order = await guest.order_in(order_id, "PAID")

        assert psp.asked("confirm", order_id) == 1
        assert psp.book.money(order_id) == (order.total.minor_units, 0)
        assert await stock(shop, sku) == (2, 0)
        await assert_square(shop, psp.book)


@pytest.mark.survives("second-payment")
async def test_a_second_authorization_is_voided_and_the_operator_told(shop: Shop, psp: HostilePsp) -> None:
    psp.play(Trick(on="confirm", runs=Runs.TWICE))
    order, sku = await buy(shop, "tok_ok")
    assert end_of(order) == ("PAID", "")
    [ours, stray] = psp.book.of_order(order.order_id)

    await psp.tell(stray)

    await until(partial(strays, shop, order.order_id))
    assert await strays(shop, order.order_id) == [f"{stray.intent_id} CANCELLED"]
    assert (ours.status, stray.status) == ("succeeded", "canceled")
    assert end_of(await Shopper(shop).order(order.order_id)) == ("PAID", "")
    assert await stock(shop, sku) == (2, 0)


@pytest.mark.survives("second-payment")
async def test_a_second_charge_is_refunded_and_the_operator_told(shop: Shop, psp: HostilePsp) -> None:
    psp.play(Trick(on="capture", runs=Runs.TWICE))
    order, _ = await buy(shop, "tok_ok")
    total = order.total.minor_units
    assert psp.book.money(order.order_id) == (2 * total, 0)
    [_, stray] = psp.book.of_order(order.order_id)

    await psp.tell(stray, times=3)

    await until(partial(strays, shop, order.order_id))
    assert await strays(shop, order.order_id) == [f"{stray.intent_id} REFUNDED"]
    assert psp.book.money(order.order_id) == (2 * total, total)


@pytest.mark.survives("refund-refused")
async def test_a_refund_refused_for_ever_shows_what_is_owed_and_the_stock_comes_back_once(
    shop: Shop, psp: HostilePsp
) -> None:
    sku, who = await new_product(shop, 3), customer(shop)
    order = await who.place(await who.fill(sku), "tok_refund_decline")
    asked = pb.CancelOrderRequest(order_id=order.order_id, reason="not needed any more")
    await who.call("CancelOrder", asked)

    async def parked() -> Any:
        saga = await operator(shop).call("GetSaga", saga_pb2.GetSagaRequest(saga_id=order.order_id))
        return saga if saga.owner == "operator" else None

    saga = await until(parked)

    assert (saga.state, saga.stuck_reason) == ("REFUNDING", "REFUND_REFUSED")
    assert saga.owed.minor_units == order.total.minor_units
    assert psp.book.money(order.order_id) == (order.total.minor_units, 0)
    assert await stock(shop, sku) == (3, 0)


async def test_a_cancelled_order_gets_its_money_back_once_although_the_answers_are_lost(
    shop: Shop, psp: HostilePsp
) -> None:
    sku, who = await new_product(shop, 3), customer(shop)
    order = await who.place(await who.fill(sku), "tok_ok")
    psp.play(Trick(on="refund", answer=Silence.CUT, times=3))

    await who.call("CancelOrder", pb.CancelOrderRequest(order_id=order.order_id))

    assert end_of(await who.order_in(order.order_id, "REFUNDED"))[0] == "REFUNDED"
    assert psp.book.money(order.order_id) == (order.total.minor_units, order.total.minor_units)
    assert await stock(shop, sku) == (3, 0)


@pytest.mark.survives("webhook-before-answer")
async def test_a_webhook_before_the_answer_changes_nothing(shop: Shop, psp: HostilePsp) -> None:
    psp.play(Trick(on="confirm", webhooks=3, webhooks_first=True))

    order, sku = await buy(shop, "tok_ok")

    assert end_of(order) == ("PAID", "")
    assert psp.book.money(order.order_id) == (order.total.minor_units, 0)
    assert await stock(shop, sku) == (2, 0)


async def test_a_pending_payment_is_captured_when_the_webhook_tells(shop: Shop, psp: HostilePsp) -> None:
    order, sku = await buy(shop, "tok_pending")
    assert state_of(order) == "PAYMENT_PENDING"

    await psp.tell(psp.book.pay(order.payment_id), times=2)

    await Shopper(shop).order_in(order.order_id, "PAID")
    assert await stock(shop, sku) == (2, 0)


@pytest.mark.survives("lying-webhook")
async def test_a_webhook_that_lies_captures_nothing(shop: Shop, psp: HostilePsp) -> None:
    order, sku = await buy(shop, "tok_pending")
    [intent] = psp.book.of_order(order.order_id)

    await psp.tell(intent)
    await until(partial(asked_to_capture, psp, order.order_id))
    assert psp.book.money(order.order_id) == (0, 0)
    psp.book.pay(order.payment_id)

    await Shopper(shop).order_in(order.order_id, "PAID")
    assert await stock(shop, sku) == (2, 0)


@pytest.mark.survives("paid-after-cancel")
async def test_an_order_that_is_paid_after_its_cancel_stays_cancelled_and_the_money_goes_back(
    shop: Shop, psp: HostilePsp
) -> None:
    sku, who = await new_product(shop, 3), customer(shop)
    order = await who.place(await who.fill(sku), "tok_pending")
    await who.call("CancelOrder", pb.CancelOrderRequest(order_id=order.order_id))
    assert state_of(await who.order_in(order.order_id, "CANCELLED")) == "CANCELLED"
    # The provider takes the money all the same, with a payment of its own making.
    late = psp.book.twin(order.payment_id)
    psp.book.confirm(late.intent_id, "tok_ok")
    psp.book.capture(late.intent_id, late.amount)

    await psp.tell(late)

    await until(partial(strays, shop, order.order_id))
    assert await strays(shop, order.order_id) == [f"{late.intent_id} REFUNDED"]
    assert state_of(await who.order(order.order_id)) == "CANCELLED"
    assert await stock(shop, sku) == (3, 0)


@pytest.mark.survives("capture-refused")
async def test_a_capture_refused_after_the_stock_commit_returns_the_stock(shop: Shop, psp: HostilePsp) -> None:
    order, sku = await buy(shop, "tok_capture_decline")

    assert end_of(order) == ("PAYMENT_FAILED", "CAPTURE_DECLINED")
    assert [intent.status for intent in psp.book.of_order(order.order_id)] == ["canceled"]
    assert await stock(shop, sku) == (3, 0)


@pytest.mark.survives("wrong-amount")
async def test_a_wrong_amount_is_never_taken_for_a_payment(shop: Shop, psp: HostilePsp) -> None:
    psp.play(Trick(on="create", amount=1))

    order, sku = await buy(shop, "tok_ok")

    assert end_of(order) == ("PAYMENT_FAILED", "PAYMENT_TIMEOUT")
    assert psp.book.money(order.order_id) == (0, 0)
    assert await stock(shop, sku) == (3, 0)


@pytest.mark.survives("provider-killed")
async def test_no_order_is_lost_or_paid_twice_although_the_provider_is_killed_under_way(tmp_path: Path) -> None:
    with PspProcess(tmp_path / "psp") as psp:
        async with running_shop(paid_at(psp.url, tmp_path)) as shop:
            guest, sku = Shopper(shop), await new_product(shop, 40)
            early = [guest.place(await guest.fill(sku)) for _ in range(20)]
            late = [guest.place(await guest.fill(sku)) for _ in range(10)]
            placing = [asyncio.create_task(order) for order in early]
            await until(partial(money_moved, psp))

            await asyncio.to_thread(psp.kill)
            await asyncio.to_thread(psp.start)
            paid = await asyncio.gather(*late)

            assert {end_of(order) for order in paid} == {("PAID", "")}
            ended = [await guest.order_in(order.order_id, "PAID", "PAYMENT_FAILED") for order in await _all(placing)]
            # Some may have been given up while nobody answered; none of those may have cost anything.
            assert {end_of(order) for order in ended} <= {("PAID", ""), ("PAYMENT_FAILED", "PAYMENT_TIMEOUT")}
            paid += [order for order in ended if state_of(order) == "PAID"]
            await assert_square(shop, psp.book())
            assert await stock(shop, sku) == (40 - len(paid), 0)


async def _all(orders: list["asyncio.Task[pb.Order]"]) -> list[pb.Order]:
    return await asyncio.gather(*orders)


async def money_moved(psp: PspProcess) -> int:
    return len(psp.book().movements)


async def asked_to_capture(psp: HostilePsp, order_id: str) -> int:
    return psp.asked("capture", order_id)


async def expiry(shop: Shop, order_id: str) -> datetime:
    [row] = await rows(shop.databases["inventory"], reservations, reservation_id=order_id)
    expires: datetime = row["expire_time"]
    return expires


class ShopWithClock(Shop):
    """A shop whose clocks, those of its databases included, jump ahead when told."""

    def __init__(self, *given: Any, **told: Any) -> None:
        super().__init__(*given, **told)
        self._passed = timedelta()

    def pass_time(self, by: timedelta) -> None:
        """It is so much later."""
        self._passed += by

    async def start(self, name: str) -> None:
        """As Shop.start, by these clocks."""
        settings = self.settings(name)
        clock = replace(
            SYSTEM_CLOCK,
            now=lambda: datetime.now(UTC) + self._passed,
            monotonic=lambda: time.monotonic() + self._passed.total_seconds(),
        )
        self._programs[name] = Program(settings, open_kit(settings, SERVICE_CONFIG, clock=clock))
        await self._programs[name].start([partial(_KINDS[name][1].build, settings)])
        await asyncio.wait_for(self.channels[name].channel_ready(), 10)
