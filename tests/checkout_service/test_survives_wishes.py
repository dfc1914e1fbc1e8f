"""Orders are called off in each state of their saga, through any replica, and when the hold is gone already."""

import asyncio
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import update

from checkout_service import tables
from checkout_service.domain import OrderState
from checkout_service.log_store import LogEntry, LogKind
from checkout_service.payments.tables import payments
from checkout_service.saga import BEFORE_COMMIT, UNDOING, Course, Outcome, SagaState, Wish
from checkout_service.saga_store import read_courses
from checkout_service.servicer import encode_order
from checkout_service.wishes import Desk, undo_order
from inventory_service.tables import reservations
from mesh.db import Connection, Database, now
from mesh.errors import Failure
from mesh.failpoint import Failpoints
from shop.checkout.v1 import checkout_pb2 as pb
from shop.checkout.v1 import saga_pb2
from tests.checkout_service.audit import assert_settled
from tests.checkout_service.build import OWNER, PATIENCE, new_order
from tests.checkout_service.records import Forgetful, nothing, placed, rows, step
from tests.checkout_service.replica import running, two_replicas
from tests.checkout_service.shop import Shop, running_shop
from tests.checkout_service.shopper import (
    Shopper,
    customer,
    end_of,
    new_product,
    operator,
    stock,
    under_way,
    webhook,
)

_S, _O = SagaState, Outcome
_COMMITTED = (_O.RESERVED, _O.AUTHORIZED, _O.COMMITTED)
# What brings a new saga into each state.
WAYS: Mapping[SagaState, tuple[Outcome, ...]] = {
    _S.RESERVING: (),
    _S.AUTHORIZING: (_O.RESERVED,),
    _S.FINDING_AUTHORIZATION: (_O.RESERVED, _O.UNKNOWN),
    _S.AWAITING_PAYMENT: (_O.RESERVED, _O.PENDING),
    _S.COMMITTING: (_O.RESERVED, _O.AUTHORIZED),
    _S.CAPTURING: _COMMITTED,
    _S.FINDING_CAPTURE: (*_COMMITTED, _O.UNKNOWN),
    _S.SETTLING: (*_COMMITTED, _O.CAPTURED),
    _S.DONE: (*_COMMITTED, _O.CAPTURED, _O.SETTLED),
    _S.VOIDING: (_O.RESERVED, _O.GAVE_UP),
    _S.RELEASING: (_O.RESERVED, _O.DECLINED),
    _S.RETURNING: (_O.RESERVED, _O.GAVE_UP, _O.CAPTURED),
    _S.REFUNDING: (_O.RESERVED, _O.GAVE_UP, _O.CAPTURED, _O.RELEASED),
}
# How each state's command ends when all is well; who waits for a payment is called off.
GOES_WELL = {
    _S.RESERVING: _O.RESERVED,
    _S.AUTHORIZING: _O.AUTHORIZED,
    _S.FINDING_AUTHORIZATION: _O.AUTHORIZED,
    _S.AWAITING_PAYMENT: _O.CALLED_OFF,
    _S.COMMITTING: _O.COMMITTED,
    _S.CAPTURING: _O.CAPTURED,
    _S.FINDING_CAPTURE: _O.CAPTURED,
    _S.SETTLING: _O.SETTLED,
    _S.VOIDING: _O.VOIDED,
    _S.RELEASING: _O.RELEASED,
    _S.RETURNING: _O.RELEASED,
    _S.REFUNDING: _O.REFUNDED,
}


@pytest.mark.survives("cancel-at-every-step", "commit-cut")
@pytest.mark.parametrize("state", WAYS)
async def test_a_cancellation_counts_once_in_each_state_although_its_commit_goes_unanswered(
    database: Database, state: SagaState
) -> None:
    course = await step(database, await placed(database, new_order()), *WAYS[state])
    desk = Desk(
        database=Forgetful(database, loses=2, meanwhile=nothing), owner=OWNER, encode=encode_order, patience=PATIENCE
    )

    for number in range(3):
        await undo_order(desk, Wish.CANCEL, cancellation(course, f"{number}"))
    ended = await to_its_end(database, course.order.order_id)

    expected = _end_of_cancelled(state)
    assert (ended.order.state, ended.order.reason) == expected
    assert len(await rows(database, tables.saga_log, saga_id=course.saga.saga_id)) == 1
    events = await rows(database, tables.order_events, order_id=course.order.order_id)
    assert [event["sequence"] for event in events] == list(range(1, len(events) + 1))
    assert [event["state"] for event in events].count(expected[0]) == 1


def _end_of_cancelled(state: SagaState) -> tuple[OrderState, str]:
    """How an order ends that is cancelled in this state of its saga."""
    if state in UNDOING:
        # It was on its way there already.
        failed = OrderState.PAYMENT_FAILED
        return (failed, "CARD_DECLINED") if state is _S.RELEASING else (failed, "PAYMENT_TIMEOUT")
    return (OrderState.CANCELLED if state in BEFORE_COMMIT else OrderState.REFUNDED), "CANCELLED"


async def test_an_order_that_ended_unpaid_is_not_cancelled(database: Database) -> None:
    course = await step(database, await placed(database, new_order()), _O.OUT_OF_STOCK)
    desk = Desk(database=database, owner=OWNER, encode=encode_order, patience=PATIENCE)

    with pytest.raises(Failure, match="ORDER_ENDED"):
        await undo_order(desk, Wish.CANCEL, cancellation(course, "late"))

    assert await read(database, course.order.order_id) == course


def cancellation(course: Course, entry_id: str) -> LogEntry:
    return LogEntry(
        saga_id=course.saga.saga_id, entry_id=entry_id, kind=LogKind.CANCEL, actor="ann", reason="no more", detail=""
    )


async def to_its_end(database: Database, order_id: str) -> Course:
    """Everything goes well from here on."""
    while not (course := await read(database, order_id)).saga.rests:
        await step(database, course, GOES_WELL[course.saga.state])
    return course


async def read(database: Database, order_id: str) -> Course:
    [course] = await database.transact("read", lambda connection: read_courses(connection, [order_id]), read_only=True)
    return course


@pytest.mark.survives("cancel-at-every-step")
@pytest.mark.parametrize(
    ("failpoint", "state", "end"),
    [
        ("call.BatchReserve", "RESERVING", "CANCELLED"),
        ("transact.payment_book", "AUTHORIZING", "CANCELLED"),
        ("call.BatchCommit", "COMMITTING", "REFUNDED"),
        ("transact.payment_book", "CAPTURING", "REFUNDED"),
        ("call.BatchSettleCarts", "SETTLING", "REFUNDED"),
    ],
)
async def test_a_running_order_is_cancelled_while_a_step_of_it_is_on_its_way(
    tmp_path: Path, failpoint: str, state: str, end: str
) -> None:
    async with running_shop(Shop(tmp_path, {}), without=("checkout",)) as shop:
        slow = Failpoints(f"{failpoint}=delay:3@{2 if state == 'CAPTURING' else 1}")
        async with running(shop, failpoints=slow):
            sku, who = await new_product(shop, 1), customer(shop)
            cart_id = await who.fill(sku)
            placing = asyncio.create_task(who.place(cart_id))
            order_id = await under_way(shop, cart_id, state)

            cancelled = await who.call("CancelOrder", pb.CancelOrderRequest(order_id=order_id, reason="no more"))

            assert end_of(cancelled) == (end, "CANCELLED")
            # Whoever placed it is told how it stood when it was first decided.
            assert end_of(await placing) == (("CANCELLED", "CANCELLED") if end == "CANCELLED" else ("PAID", ""))
            assert await stock(shop, sku) == (1, 0)
            await assert_settled(shop)


@pytest.mark.survives("abort-on-another-replica")
async def test_an_operator_aborts_through_a_replica_that_does_not_own_the_saga(tmp_path: Path) -> None:
    async with running_shop(Shop(tmp_path, {}), without=("checkout",)) as shop, two_replicas(shop) as (_, other):
        sku, who = await new_product(shop, 1), customer(shop)
        order = await who.place(await who.fill(sku), "tok_pending")
        [before] = await rows(shop.databases["checkout"], tables.sagas)

        shop.channels["checkout"] = other
        await operator(shop).call("AbortSaga", saga_pb2.AbortSagaRequest(saga_id=order.order_id, reason="stolen card"))

        assert end_of(await who.order_in(order.order_id, "CANCELLED")) == ("CANCELLED", "ABORTED_BY_OPERATOR")
        [after] = await rows(shop.databases["checkout"], tables.sagas)
        assert (after["epoch"], after["state"]) == (before["epoch"], "UNDONE")
        assert await stock(shop, sku) == (1, 0)
        await assert_settled(shop)


@pytest.mark.survives("hold-expires-before-commit")
@pytest.mark.asyncio(loop_scope="session")
async def test_a_hold_that_is_gone_when_the_payment_comes_costs_nobody_anything(shop: Shop) -> None:
    guest, sku = Shopper(shop), await new_product(shop, 1)
    first, second = await guest.fill(sku), await guest.fill(sku)
    order = await guest.place(first, "tok_pending")
    await end_hold(shop, order.order_id)
    # Somebody else gets the unit meanwhile.
    assert end_of(await guest.place(second)) == ("PAID", "")

    await webhook(shop, order.order_id, "succeeded", payment_id=order.payment_id)

    assert end_of(await guest.order_in(order.order_id, "REJECTED")) == ("REJECTED", "RESERVATION_EXPIRED")
    [entry] = await rows(shop.databases["psp"], payments, payment_key=order.order_id)
    assert (entry["state"], entry["captured_minor"]) == ("CANCELLED", 0)
    assert await stock(shop, sku) == (0, 0)


async def end_hold(shop: Shop, order_id: str) -> None:
    """Let the hold's time be over a second ago, by the database's clock."""

    async def body(connection: Connection) -> None:
        past = await now(connection) - timedelta(seconds=1)
        ended = update(reservations).where(reservations.c.reservation_id == order_id).values(expire_time=past)
        await connection.execute(ended)

    await shop.databases["inventory"].transact("end hold", body)


async def test_a_record_on_the_way_is_made_once_however_long_it_takes(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    # Longer than a stride may take until it is recorded on the way.
    slow = Failpoints("transact.saga_steps=delay:1.5@1")
    async with running_shop(Shop(tmp_path, {}), without=("checkout",)) as shop, running(shop, failpoints=slow):
        sku, who = await new_product(shop, 1), customer(shop)

        order = await who.place(await who.fill(sku))

        assert end_of(order) == ("PAID", "")
        assert [record.message for record in caplog.records if record.name == "checkout_service.engine"] == []
        await assert_settled(shop)
