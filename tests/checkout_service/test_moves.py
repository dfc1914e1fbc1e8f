"""Durable steps: by compare-and-set, once, along legal edges, with everything that belongs to them or nothing."""

import asyncio
from dataclasses import astuple
from datetime import timedelta
from typing import Any

import pytest

from checkout_service.domain import OrderState
from checkout_service.lease_store import take_over
from checkout_service.placing import NewOrder
from checkout_service.saga import Course, Outcome, SagaState, Wish
from checkout_service.saga_store import Move, read_courses
from checkout_service.servicer import encode_order
from checkout_service.store import delete_free_claims
from checkout_service.tables import answers, cart_claims, invoices, order_events, order_lines, orders, outbox, sagas
from mesh.db import NOT_AS_THEY_SHOULD_BE, Database
from mesh.errors import Failure, Kind, PoisonError
from tests.checkout_service.build import new_order, place_order
from tests.checkout_service.records import (
    Written,
    move,
    move_believed,
    place,
    placed,
    rows,
    step,
    stepped,
    written,
)

UP_TO_CAPTURE = (Outcome.RESERVED, Outcome.AUTHORIZED, Outcome.COMMITTED)


async def standing(database: Database, course: Course) -> Course:
    ids = [course.saga.saga_id]
    [found] = await database.transact("read", lambda connection: read_courses(connection, ids), read_only=True)
    return found


async def test_a_step_is_read_back_as_it_was_written(database: Database) -> None:
    course = await placed(database, new_order())

    course = await step(database, course, Outcome.RESERVED, held_for=timedelta(minutes=20))
    course = await step(database, course, Outcome.UNKNOWN, error="no answer")
    assert await standing(database, course) == course
    course = await step(database, course, Outcome.AUTHORIZED, payment_id="pay_1")

    assert await standing(database, course) == course
    assert (course.order.state, course.order.payment_id) == (OrderState.AUTHORIZED, "pay_1")


@pytest.mark.parametrize(
    "believed", [{"epoch": 2}, {"owner": "coordinator-2"}, {"state": SagaState.CAPTURING}, {"saga_id": "ghost"}]
)
async def test_who_believes_something_else_changes_nothing(database: Database, believed: dict[str, Any]) -> None:
    course = await step(database, await placed(database, new_order()), Outcome.RESERVED, Outcome.AUTHORIZED)
    after = await stepped(database, course, Outcome.COMMITTED)
    before = course._replace(saga=course.saga._replace(**believed))

    [failure] = await move(database, Move(before, after._replace(saga=after.saga._replace(**believed))))

    assert isinstance(failure, Failure)
    assert (failure.kind, failure.reason) == (Kind.ABORTED, "OWNERSHIP_LOST")
    assert await standing(database, course) == course


async def test_moves_of_sagas_that_stand_as_believed_leave_what_others_would(database: Database) -> None:
    looked_at = await step(database, await placed(database, new_order()), *UP_TO_CAPTURE)
    await move(database, Move(looked_at, await stepped(database, looked_at, Outcome.CAPTURED)))
    counted = await written(database)
    courses = [await step(database, await placed(database, new_order()), *UP_TO_CAPTURE) for _ in range(2)]
    moves = [Move(course, await stepped(database, course, Outcome.CAPTURED)) for course in courses]

    await move_believed(database, *moves)

    assert [await standing(database, course) for course in courses] == [move.after for move in moves]
    assert await written(database) == Written(*[3 * count for count in astuple(counted)])


@pytest.mark.parametrize(
    "believed",
    [
        {"epoch": 2},
        {"owner": "coordinator-2"},
        {"state": SagaState.CAPTURING},
        {"saga_id": "ghost"},
        {"wish": Wish.CANCEL},
    ],
)
async def test_one_that_does_not_stand_as_believed_stops_all(database: Database, believed: dict[str, Any]) -> None:
    course, good = [await placed(database, new_order()) for _ in range(2)]
    counted = await written(database)
    after = await stepped(database, course, Outcome.RESERVED)
    before = course._replace(saga=course.saga._replace(**believed))
    wrong = Move(before, after._replace(saga=after.saga._replace(**believed)))

    with pytest.raises(PoisonError, match=NOT_AS_THEY_SHOULD_BE):
        await move_believed(database, Move(good, await stepped(database, good, Outcome.RESERVED)), wrong)

    assert await written(database) == counted
    assert [await standing(database, each) for each in (course, good)] == [course, good]


async def test_in_a_batch_each_move_is_judged_alone(database: Database) -> None:
    ours, taken, other = [await placed(database, new_order()) for _ in range(3)]
    stale = taken._replace(saga=taken.saga._replace(epoch=7))
    moves = [Move(course, await stepped(database, course, Outcome.RESERVED)) for course in (ours, stale, other)]

    results = await move(database, *moves)

    assert [type(result).__name__ for result in results] == ["NoneType", "Failure", "NoneType"]
    states = [(await standing(database, course)).saga.state for course in (ours, taken, other)]
    assert states == ["AUTHORIZING", "RESERVING", "AUTHORIZING"]


async def test_a_move_made_again_is_passed_over(database: Database) -> None:
    course = await step(database, await placed(database, new_order()), *UP_TO_CAPTURE)
    paying = Move(course, await stepped(database, course, Outcome.CAPTURED))
    assert await move(database, paying) == [None]
    counted = await written(database)

    assert await move(database, paying, paying) == [None, None]

    assert await written(database) == counted
    assert await standing(database, course) == paying.after


async def test_a_move_to_the_same_state_at_another_time_is_another_move(database: Database) -> None:
    # Whoever made it has told another time of payment than ours; ours must not be taken for what stands.
    course = await step(database, await placed(database, new_order()), *UP_TO_CAPTURE)
    first, second = [Move(course, await stepped(database, course, Outcome.CAPTURED)) for _ in range(2)]
    assert first.after.order.update_time != second.after.order.update_time
    await move(database, first)

    [failure] = await move(database, second)

    assert isinstance(failure, Failure)
    assert failure.reason == "OWNERSHIP_LOST"
    assert await standing(database, course) == first.after


async def test_an_edge_that_is_not_legal_is_poison_and_leaves_nothing(database: Database) -> None:
    course = await placed(database, new_order())
    good = await placed(database, new_order())
    counted = await written(database)
    paid = course.order._replace(state=OrderState.PAID, sequence=2, invoice_number="INV-1")
    leap = Move(course, course._replace(saga=course.saga._replace(state=SagaState.SETTLING), order=paid))

    with pytest.raises(PoisonError, match=NOT_AS_THEY_SHOULD_BE):
        await move(database, leap, Move(good, await stepped(database, good, Outcome.RESERVED)))

    assert await written(database) == counted
    assert await standing(database, course) == course
    assert await standing(database, good) == good


async def test_being_paid_writes_invoice_answer_event_and_outbox_once(database: Database) -> None:
    course = await step(database, await placed(database, new_order()), *UP_TO_CAPTURE)
    paid = await step(database, course, Outcome.CAPTURED, payment_id="pay_1")

    order_id, order = paid.order.order_id, paid.order
    [invoice] = await rows(database, invoices)
    assert (invoice["invoice_number"], invoice["create_time"]) == (order.invoice_number, order.update_time)
    assert (invoice["subtotal_minor"], invoice["tax_minor"], invoice["total_minor"]) == (2000, 473, 2963)
    assert await rows(database, answers) == [{"key_id": order.key, "order_id": order_id, "answer": encode_order(order)}]
    assert [(row["order_id"], row["sequence"], row["state"]) for row in await rows(database, outbox)] == [
        (order_id, 4, "PAID")
    ]
    events = [(row["sequence"], row["state"]) for row in await rows(database, order_events)]
    assert events == [(1, "RECEIVED"), (2, "RESERVED"), (3, "AUTHORIZED"), (4, "PAID")]


async def test_the_answer_is_what_the_order_reads_as(database: Database) -> None:
    wish = new_order(place_order(notes="grüße", promotion_codes=("A",)))
    paid = await step(database, await placed(database, wish), *UP_TO_CAPTURE, Outcome.CAPTURED, payment_id="pay_1")
    stored = (await rows(database, answers))[0]["answer"]

    assert encode_order((await standing(database, paid)).order) == stored


async def test_the_answer_of_a_declined_order_is_what_the_order_reads_as(database: Database) -> None:
    course = await placed(database, new_order())
    declined = await step(
        database, await step(database, course, Outcome.RESERVED), Outcome.DECLINED, payment_id="pay_1"
    )

    ended = await step(database, declined, Outcome.RELEASED)

    [answer] = await rows(database, answers)
    [read] = await database.transact("read", lambda c: read_courses(c, [ended.saga.saga_id]), read_only=True)
    assert answer["answer"] == encode_order(read.order)
    assert read.order.payment_id == "pay_1"


async def test_an_unpaid_end_writes_its_answer_and_what_was_seen_but_no_invoice(database: Database) -> None:
    course = await placed(database, new_order())
    refused = await step(database, course, Outcome.OUT_OF_STOCK, available={"mug": 1})

    assert (refused.saga.state, refused.order.state) == (SagaState.UNDONE, OrderState.REJECTED)
    assert [row["available"] for row in await rows(database, order_lines)] == [1]
    assert [row["answer"] for row in await rows(database, answers)] == [encode_order(refused.order)]
    assert [(row["sequence"], row["reason"]) for row in await rows(database, order_events)] == [
        (1, ""),
        (2, "OUT_OF_STOCK"),
    ]
    assert [row["state"] for row in await rows(database, outbox)] == ["REJECTED"]
    assert await rows(database, invoices) == []


async def test_steps_without_a_change_of_the_order_write_no_event(database: Database) -> None:
    course = await step(
        database,
        await placed(database, new_order()),
        Outcome.RESERVED,
        Outcome.UNKNOWN,
        Outcome.UNKNOWN,
        Outcome.NOT_FOUND,
    )

    assert len(await rows(database, order_events)) == 2
    assert course.order.sequence == 2


async def test_the_claim_ends_with_the_order_and_remembers_what_was_bought(database: Database) -> None:
    bought, declined, under_way = [await placed(database, new_order(version=7)) for _ in range(3)]
    await step(database, bought, *UP_TO_CAPTURE, Outcome.CAPTURED, Outcome.SETTLED)
    await step(database, declined, Outcome.RESERVED, Outcome.DECLINED, Outcome.RELEASED)

    claims = {row["cart_id"]: (row["order_id"], row["ordered_version"]) for row in await rows(database, cart_claims)}

    assert claims == {
        bought.order.cart_id: ("", 7),
        declined.order.cart_id: ("", 0),
        under_way.order.cart_id: (under_way.order.order_id, 0),
    }


async def test_a_claim_is_remembered_from_its_end_and_not_from_its_beginning(database: Database) -> None:
    wish = new_order()
    paid = await step(database, await placed(database, wish), *UP_TO_CAPTURE, Outcome.CAPTURED)
    # A reading of the cart from before it was settled may be on its way for a while from here on.
    await step(database, paid, Outcome.SETTLED)
    ended = (await rows(database, sagas))[0]["update_time"]

    async def forget(older_than: Any) -> int:
        return await database.transact(
            "tidy", lambda connection: delete_free_claims(connection, older_than=older_than, limit=10)
        )

    assert await forget(ended) == 0
    assert await forget(ended + timedelta(seconds=1)) == 1


async def test_a_claim_with_an_order_under_way_is_never_forgotten(database: Database) -> None:
    course = await placed(database, new_order())
    later = course.order.create_time + timedelta(days=1)

    assert await database.transact("tidy", lambda c: delete_free_claims(c, older_than=later, limit=10)) == 0


async def test_many_sagas_take_many_kinds_of_steps_in_one_transaction(database: Database) -> None:
    courses = [await placed(database, wish) for wish in _wishes(12)]
    outcomes = [Outcome.RESERVED, Outcome.OUT_OF_STOCK, Outcome.UNKNOWN, Outcome.HOLD_LOST] * 3
    facts: dict[Outcome, dict[str, Any]] = {
        Outcome.OUT_OF_STOCK: {"available": {"mug": 0}},
        Outcome.UNKNOWN: {"error": "away"},
    }

    moves = [
        Move(course, await stepped(database, course, outcome, **facts.get(outcome, {})))
        for course, outcome in zip(courses, outcomes, strict=True)
    ]

    assert await move(database, *moves) == [None] * 12
    assert [await standing(database, course) for course in courses] == [one.after for one in moves]


async def test_steps_of_two_batches_at_once_do_not_mix(database: Database) -> None:
    courses = [course for course in await place(database, *_wishes(40)) if isinstance(course, Course)]
    moves = [Move(course, await stepped(database, course, Outcome.RESERVED)) for course in courses]

    # Each batch locks in the order of the ids, whatever order it came in.
    one, other = await asyncio.gather(move(database, *moves[::2], *moves[1::2]), move(database, *reversed(moves)))

    assert one == other == [None] * 40
    assert {row["state"] for row in await rows(database, orders)} == {"RESERVED"}
    assert len(await rows(database, order_events)) == 80


@pytest.mark.survives("zombie-resumes")
async def test_a_coordinator_that_was_replaced_changes_nothing(database: Database) -> None:
    course = await step(database, await placed(database, new_order()), Outcome.RESERVED)
    await database.transact("take over", lambda connection: take_over(connection, "coordinator-2", 10))
    taken = await standing(database, course)

    [failure] = await move(database, Move(course, await stepped(database, course, Outcome.AUTHORIZED)))

    assert isinstance(failure, Failure)
    assert await standing(database, course) == taken
    assert await move(database, Move(taken, await stepped(database, taken, Outcome.AUTHORIZED))) == [None]


def _wishes(number: int) -> list[NewOrder]:
    return [new_order() for _ in range(number)]
