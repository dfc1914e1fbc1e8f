"""What an operator sees of sagas and may do to them, and what is refused because an invariant would break."""

import asyncio
from typing import Any

import pytest

from checkout_service import tables
from checkout_service.payments.tables import payments
from mesh.db import Connection
from mesh.errors import Kind
from shop.checkout.v1 import checkout_pb2 as pb
from shop.checkout.v1 import saga_pb2
from tests.checkout_service.records import rows
from tests.checkout_service.shop import Shop, until
from tests.checkout_service.shopper import (
    Shopper,
    customer,
    end_of,
    new_product,
    operator,
    refused,
    stock,
    under_way,
    webhook,
)

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def saga_of(shop: Shop, order_id: str) -> saga_pb2.Saga:
    """The saga with its timeline, as an operator sees it."""
    saga: saga_pb2.Saga = await operator(shop).call("GetSaga", saga_pb2.GetSagaRequest(saga_id=order_id))
    return saga


async def retry(shop: Shop, order_id: str, reason: str = "try again") -> saga_pb2.Saga:
    request = saga_pb2.RetrySagaRequest(saga_id=order_id, reason=reason)
    saga: saga_pb2.Saga = await operator(shop).call("RetrySaga", request)
    return saga


async def abort(shop: Shop, order_id: str, reason: str = "fraud") -> saga_pb2.Saga:
    request = saga_pb2.AbortSagaRequest(saga_id=order_id, reason=reason)
    saga: saga_pb2.Saga = await operator(shop).call("AbortSaga", request)
    return saga


async def resolve(shop: Shop, order_id: str, resolution: str, reason: str = "asked the bank") -> saga_pb2.Saga:
    request = saga_pb2.ResolveSagaRequest(saga_id=order_id, reason=reason, resolution=resolution)
    saga: saga_pb2.Saga = await operator(shop).call("ResolveSaga", request)
    return saga


async def refund_refused(shop: Shop) -> tuple[Shopper, str, str]:
    """An order that was paid and cancelled, whose refund the provider refuses for ever: who, SKU, order."""
    sku, who = await new_product(shop, 3), customer(shop)
    order = await who.place(await who.fill(sku, 2), "tok_refund_decline")
    assert end_of(order) == ("PAID", "")
    asked = pb.CancelOrderRequest(order_id=order.order_id, reason="not needed any more")
    await who.call("CancelOrder", asked)

    async def parked() -> bool:
        return (await saga_of(shop, order.order_id)).owner == "operator"

    await until(parked)
    return who, sku, order.order_id


async def repay_in_book(shop: Shop, order_id: str) -> None:
    """The bank gives the money back after all."""

    async def body(connection: Connection) -> None:
        statement = payments.update().where(payments.c.payment_key == order_id)
        await connection.execute(statement.values(state="REFUNDED", refunded_minor=payments.c.captured_minor))

    await shop.databases["psp"].transact("repay", body)


async def accept_refunds(shop: Shop, order_id: str) -> None:
    """The provider refuses no longer."""

    async def body(connection: Connection) -> None:
        await connection.execute(payments.update().where(payments.c.payment_key == order_id).values(behaviour=""))

    await shop.databases["psp"].transact("accept", body)


async def checked(shop: Shop, order_id: str) -> bool:
    """Whether no check of the order's payment is due any more."""
    [saga] = await rows(shop.databases["checkout"], tables.sagas, saga_id=order_id)
    return saga["check_time"] is None


@pytest.mark.survives("refund-refused")
async def test_a_refund_refused_for_ever_waits_for_the_operator_and_shows_what_is_owed(shop: Shop) -> None:
    who, sku, order_id = await refund_refused(shop)

    saga = await saga_of(shop, order_id)

    assert (saga.state, saga.stuck_reason, saga.wish) == ("REFUNDING", "REFUND_REFUSED", "CANCELLED")
    order = await who.order(order_id)
    assert (saga.owed.currency_code, saga.owed.minor_units) == ("EUR", order.total.minor_units)
    assert end_of(order) == ("PAID", "")
    # The stock came back, once.
    assert await stock(shop, sku) == (3, 0)
    stuck = await operator(shop).call("ListSagas", saga_pb2.ListSagasRequest(stuck=True, page_size=100))
    assert order_id in [listed.saga_id for listed in stuck.sagas]
    await accept_refunds(shop, order_id)
    await retry(shop, order_id)
    assert end_of(await who.order_in(order_id, "REFUNDED")) == ("REFUNDED", "CANCELLED")
    assert await stock(shop, sku) == (3, 0)


async def test_who_cancels_is_answered_at_once_when_only_a_person_can_help(shop: Shop) -> None:
    who = customer(shop)
    order = await who.place(await who.fill(await new_product(shop, 1)), "tok_refund_decline")
    asked = pb.CancelOrderRequest(order_id=order.order_id, reason="not needed any more")

    for _ in range(2):
        # Who waits for an end that does not come is answered after eight seconds.
        async with asyncio.timeout(4):
            answered = await who.call("CancelOrder", asked, timeout=9.0)
        assert end_of(answered) == ("PAID", "")
    assert (await saga_of(shop, order.order_id)).owner == "operator"
    await accept_refunds(shop, order.order_id)
    await retry(shop, order.order_id)
    await who.order_in(order.order_id, "REFUNDED")


async def test_the_timeline_tells_what_happened_and_who_asked_for_it(shop: Shop) -> None:
    who, _, order_id = await refund_refused(shop)
    parked = (await saga_of(shop, order_id)).timeline[-1]
    assert (parked.what, parked.actor, parked.text) == ("PARKED", "operator", "REFUND_REFUSED")
    await accept_refunds(shop, order_id)
    await retry(shop, order_id, "the bank has mended it")
    await who.order_in(order_id, "REFUNDED")

    timeline = [(entry.what, entry.actor, entry.text) for entry in (await saga_of(shop, order_id)).timeline]

    assert [what for what, _, _ in timeline] == [
        "RECEIVED",
        "RESERVED",
        "AUTHORIZED",
        "PAID",
        "CANCEL",
        "RETRY",
        "REFUNDED",
    ]
    assert timeline[4][2] == "not needed any more"
    assert timeline[5][1:] == ("operator-1", "the bank has mended it")


async def test_money_that_was_given_back_past_the_provider_ends_the_saga(shop: Shop) -> None:
    who, sku, order_id = await refund_refused(shop)

    contradicted = await refused(resolve(shop, order_id, "not_charged"))
    await resolve(shop, order_id, "repaid", "bank transfer 4711")

    assert contradicted.reason == "RESOLUTION_CONTRADICTED"
    assert end_of(await who.order(order_id)) == ("REFUNDED", "CANCELLED")
    [entry] = await rows(shop.databases["checkout"], tables.saga_log, saga_id=order_id, kind="RESOLVE")
    assert (entry["actor"], entry["reason"], entry["detail"]) == ("operator-1", "bank transfer 4711", "repaid")
    assert await stock(shop, sku) == (3, 0)
    # The provider would pay by now, and is asked once more whether there is a payment: it is not paid back again.
    await accept_refunds(shop, order_id)
    await webhook(shop, order_id, "succeeded")
    await until(lambda: checked(shop, order_id))
    [payment] = await rows(shop.databases["psp"], payments, payment_key=order_id)
    assert (payment["state"], payment["refunded_minor"]) == ("CAPTURED", 0)
    assert await rows(shop.databases["checkout"], tables.saga_log, saga_id=order_id, kind="STRAY_PAYMENT") == []
    # So that the shop adds up for the tests that follow.
    await repay_in_book(shop, order_id)


async def test_a_resolution_that_says_nothing_about_the_step_is_refused(shop: Shop) -> None:
    who, _, order_id = await refund_refused(shop)

    assert (await refused(resolve(shop, order_id, "charged"))).reason == "RESOLUTION_DOES_NOT_APPLY"

    await accept_refunds(shop, order_id)
    await retry(shop, order_id)
    await who.order_in(order_id, "REFUNDED")


async def test_an_abort_before_the_stock_commit_ends_cancelled(shop: Shop) -> None:
    sku, who = await new_product(shop, 1), customer(shop)
    order = await who.place(await who.fill(sku), "tok_pending")

    await abort(shop, order.order_id, "stolen card")

    assert end_of(await who.order_in(order.order_id, "CANCELLED")) == ("CANCELLED", "ABORTED_BY_OPERATOR")
    assert await stock(shop, sku) == (1, 0)


async def test_an_abort_after_the_stock_commit_is_refused(shop: Shop) -> None:
    who = customer(shop)
    order = await who.place(await who.fill(await new_product(shop, 1)))

    failure = await refused(abort(shop, order.order_id))

    assert (failure.kind, failure.reason) == (Kind.FAILED_PRECONDITION, "SAGA_PAST_COMMIT")
    assert end_of(await who.order(order.order_id)) == ("PAID", "")


async def test_a_saga_at_rest_can_be_neither_retried_nor_resolved(shop: Shop) -> None:
    who = customer(shop)
    order = await who.place(await who.fill(await new_product(shop, 1)))

    assert (await refused(retry(shop, order.order_id))).reason == "SAGA_ENDED"
    assert (await refused(resolve(shop, order.order_id, "charged"))).reason == "SAGA_NOT_STUCK"


async def test_a_retry_of_a_saga_that_goes_its_way_changes_only_its_epoch(shop: Shop) -> None:
    sku, who = await new_product(shop, 1), customer(shop)
    order = await who.place(await who.fill(sku), "tok_pending")
    before = await saga_of(shop, order.order_id)

    after = await retry(shop, order.order_id)

    assert (after.state, after.epoch) == (before.state, before.epoch + 1)
    await webhook(shop, order.order_id, "succeeded", payment_id=order.payment_id)
    assert end_of(await who.order_in(order.order_id, "PAID")) == ("PAID", "")


async def test_what_an_operator_asks_for_needs_a_saga_and_a_reason(shop: Shop) -> None:
    no_reason = await refused(retry(shop, "not-there", reason=""))
    no_saga = await refused(retry(shop, "not-there"))
    nonsense = await refused(resolve(shop, "not-there", "maybe"))

    assert [violation.field for violation in no_reason.fields] == ["reason"]
    assert (no_saga.kind, no_saga.reason) == (Kind.NOT_FOUND, "SAGA_NOT_FOUND")
    assert [violation.field for violation in nonsense.fields] == ["resolution"]


async def test_customers_may_not_touch_sagas(shop: Shop) -> None:
    who = customer(shop)
    calls: list[tuple[str, Any]] = [
        ("RetrySaga", saga_pb2.RetrySagaRequest(saga_id="s", reason="r")),
        ("AbortSaga", saga_pb2.AbortSagaRequest(saga_id="s", reason="r")),
        ("ResolveSaga", saga_pb2.ResolveSagaRequest(saga_id="s", reason="r", resolution="charged")),
    ]

    assert {(await refused(who.call(*call))).kind for call in calls} == {Kind.PERMISSION_DENIED}


@pytest.mark.survives("one-slow-saga")
async def test_one_stuck_saga_slows_no_other(shop: Shop) -> None:
    sku, who = await new_product(shop, 2), customer(shop)
    stuck = await who.fill(sku)
    placing = asyncio.create_task(who.place(stuck, "tok_slow"))
    order_id = await under_way(shop, stuck, "AUTHORIZING")

    order = await who.place(await who.fill(sku))

    assert end_of(order) == ("PAID", "")
    assert (await saga_of(shop, order_id)).state == "AUTHORIZING"
    assert end_of(await placing) == ("PAID", "")
