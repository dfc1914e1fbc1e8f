"""What waits for a person is listed with what is owed; what a person settled otherwise is right."""

from dataclasses import replace
from datetime import timedelta

import pytest
from sqlalchemy import update

import checkout_service.tables as checkout
import inventory_service.tables as inventory
from tests.shopmesh.audit.plant import changed
from tests.shopmesh.audit.shop import CANCELLED, PARKED, REFUNDED, SOLD_OUT, UNDER_WAY, Course, Shop

_SAGA = checkout.sagas.c.saga_id
_KEPT = replace(REFUNDED, payment="CAPTURED", refunded=False)


def log(shop: Shop, saga_id: str, kind: str, detail: str) -> None:
    entry = {"entry_id": f"{kind}-1", "kind": kind, "actor": "operator", "reason": "by hand", "detail": detail}
    shop.add(checkout.saga_log, saga_id=saga_id, **entry)


async def test_a_parked_saga_breaks_no_promise_and_is_listed_with_what_is_owed(shop: Shop) -> None:
    shop.receive("TEA")
    shop.order("order-1", "TEA", PARKED)
    report = await shop.report()
    assert report.clean
    (notice,) = report.notices
    assert (notice.invariant, notice.subject, notice.fault.rule) == ("I7", "order-1", "with-the-operator")
    for words in ("REFUNDING", "REFUND_REFUSED", "open: money", "owed to the customer: 2773 EUR"):
        assert words in notice.fault.message


@pytest.mark.parametrize(
    ("stage", "course", "words"),
    [
        ("COMMITTING", replace(UNDER_WAY, payment="AUTHORIZED"), "open: goods, money"),
        ("CAPTURING", replace(UNDER_WAY, payment="AUTHORIZED", reservation="COMMITTED"), "due from the customer"),
        ("SETTLING", replace(PARKED, reservation="COMMITTED"), "open: the cart"),
        ("VOIDING", replace(UNDER_WAY, payment="AUTHORIZED"), "open: goods, money"),
        ("RELEASING", replace(UNDER_WAY, payment="CANCELLED"), "open: goods"),
        ("RETURNING", replace(PARKED, reservation="COMMITTED"), "open: goods, money; owed to the customer"),
    ],
)
async def test_only_what_is_open_is_excused(stage: str, course: Course, words: str, shop: Shop) -> None:
    held = 2 if course.reservation == "HELD" else 0
    shop.receive("TEA", on_hand=8 if course.reservation == "COMMITTED" else 10, held=held)
    shop.order("order-1", "TEA", replace(course, saga=stage, stuck="ATTEMPTS_EXHAUSTED"))
    report = await shop.report()
    assert report.findings == []
    (notice,) = report.notices
    assert words in notice.fault.message


async def test_stock_that_is_not_returned_while_the_refund_waits_is_found(shop: Shop) -> None:
    shop.receive("TEA", on_hand=8)
    shop.order("order-1", "TEA", replace(PARKED, reservation="COMMITTED"))
    report = await shop.report()
    assert [finding.fault.rule for finding in report.findings] == ["unpaid-holds-stock"]


async def test_money_that_was_repaid_another_way_may_stay_captured(shop: Shop) -> None:
    shop.receive("TEA")
    shop.order("order-1", "TEA", _KEPT)
    log(shop, "order-1", "RESOLVE", "repaid")
    assert (await shop.report()).clean


@pytest.mark.parametrize(("kind", "detail"), [("RESOLVE", "charged"), ("RETRY", "repaid")])
async def test_nothing_else_that_operators_say_excuses_it(kind: str, detail: str, shop: Shop) -> None:
    shop.receive("TEA")
    shop.order("order-1", "TEA", _KEPT)
    log(shop, "order-1", kind, detail)
    rules = {finding.fault.rule for finding in (await shop.report()).findings}
    assert rules == {"charge-of-unpaid-order", "refunded-kept-money"}


async def test_what_was_believed_not_charged_is_excused_until_the_provider_was_asked(shop: Shop) -> None:
    shop.receive("TEA")
    shop.order("order-1", "TEA", replace(CANCELLED, payment="AUTHORIZED"))
    log(shop, "order-1", "RESOLVE", "not_charged")
    await shop.flush()
    await shop.execute("checkout", changed(_SAGA, "order-1", check_time=shop.now + timedelta(minutes=1)))
    assert (await shop.report()).clean
    await shop.execute("checkout", changed(_SAGA, "order-1", check_time=None))
    assert [finding.fault.rule for finding in (await shop.report()).findings] == ["charge-of-unpaid-order"]


async def test_a_payment_that_was_found_and_undone_is_told_the_operator(shop: Shop) -> None:
    shop.receive("TEA")
    shop.order("order-1", "TEA", REFUNDED)
    log(shop, "order-1", "STRAY_PAYMENT", "pay-2 CANCELLED")
    report = await shop.report()
    assert report.clean
    assert [(notice.subject, notice.fault.rule) for notice in report.notices] == [("order-1", "stray-payment-undone")]


async def test_what_is_forgotten_in_time_is_no_loss(shop: Shop) -> None:
    shop.now -= timedelta(days=60)
    shop.receive("TEA")
    for course, order_id in ((REFUNDED, "order-refunded"), (CANCELLED, "order-cancelled")):
        shop.order(order_id, "TEA", course)
    await shop.flush()
    await shop.forget("order-refunded", "order-cancelled")
    assert (await shop.report()).findings == []


async def test_an_order_that_was_refused_long_ago_keeps_in_its_lines_what_the_reservation_saw(shop: Shop) -> None:
    shop.now -= timedelta(days=8)
    shop.receive("TEA")
    shop.order("order-1", "TEA", SOLD_OUT)
    await shop.flush()
    await shop.forget("order-1")
    assert (await shop.report()).findings == []


async def test_a_product_that_is_retired_may_be_refused_without_a_reservation(shop: Shop) -> None:
    shop.receive("TEA")
    shop.order("order-1", "TEA", SOLD_OUT)
    await shop.flush()
    await shop.forget("order-1")
    await shop.execute("inventory", update(inventory.products).values(retire_time=shop.now))
    assert (await shop.report()).findings == []
