"""Writing new orders: one key, one order; one cart, one order under way; whatever happens to the COMMIT."""

import asyncio
import uuid

import pytest

from checkout_service.placing import CartOutdated, KeyTaken, NewOrder
from checkout_service.saga import Course, Outcome, Saga, SagaState
from checkout_service.saga_store import read_courses
from checkout_service.store import read_keys, read_orders
from checkout_service.tables import cart_claims, order_events, order_keys, orders
from mesh.db import Database
from mesh.errors import Failure, Kind
from tests.checkout_service.build import OWNER, new_order, place_order
from tests.checkout_service.records import Forgetful, nothing, place, placed, rows, step, written

TO_PAID = (Outcome.RESERVED, Outcome.AUTHORIZED, Outcome.COMMITTED, Outcome.CAPTURED, Outcome.SETTLED)
TO_DECLINED = (Outcome.RESERVED, Outcome.DECLINED, Outcome.RELEASED)


async def test_an_order_is_written_with_its_key_lines_event_and_saga(database: Database) -> None:
    wish = new_order(place_order(caller_id="ann", notes="grüße 🎁", promotion_codes=("A", "B")))

    course = await placed(database, wish)

    assert (course.order.order_id, course.saga.saga_id) == (wish.order_id, wish.order_id)
    assert course.saga.state is SagaState.RESERVING
    assert (course.saga.epoch, course.saga.owner) == (1, OWNER)
    found = await database.transact("read", lambda c: read_orders(c, [wish.order_id]), read_only=True)
    assert found == {wish.order_id: course.order}
    assert await rows(database, order_events) == [
        {
            "order_id": wish.order_id,
            "sequence": 1,
            "state": "RECEIVED",
            "reason": "",
            "actor": "ann",
            "create_time": course.order.create_time,
        }
    ]
    [key] = (await database.transact("read", lambda c: read_keys(c, ["customer:ann/key-1"]), read_only=True)).values()
    assert (key.order_id, key.fingerprint, key.answer) == (wish.order_id, wish.request.fingerprint, None)


async def test_a_key_stands_for_its_first_order_across_batches(database: Database) -> None:
    first = new_order()
    await placed(database, first)

    assert await place(database, new_order(first.request)) == [KeyTaken()]
    assert (await written(database)).orders == 1


async def test_a_key_stands_for_its_first_order_within_a_batch(database: Database) -> None:
    first = new_order()

    results = await place(database, first, new_order(first.request), new_order(), new_order(first.request))

    assert [type(result) for result in results] == [Course, KeyTaken, Course, KeyTaken]
    assert (await written(database)).orders == 2
    assert {row["order_id"] for row in await rows(database, order_keys, key_id=first.request.key)} == {first.order_id}


async def test_one_key_from_many_writers_at_once_makes_one_order(database: Database) -> None:
    request = place_order()

    results = await asyncio.gather(*(place(database, new_order(request), new_order()) for _ in range(20)))

    assert sorted(type(own).__name__ for own, _ in results) == ["Course"] + ["KeyTaken"] * 19
    assert (await written(database)).orders == 21


async def test_a_cart_has_one_order_under_way(database: Database) -> None:
    first = new_order()
    await placed(database, first)
    other = new_order(place_order(cart_id=first.request.cart_id, request_id="key-2"))

    [refusal] = await place(database, other)

    assert isinstance(refusal, Failure)
    assert (refusal.kind, refusal.reason) == (Kind.ABORTED, "CHECKOUT_IN_PROGRESS")
    assert refusal.metadata == {"order_id": first.order_id}


@pytest.mark.survives("two-keys-one-cart")
async def test_of_two_keys_on_one_cart_in_one_batch_the_first_wins(database: Database) -> None:
    first = new_order()
    second = new_order(place_order(cart_id=first.request.cart_id, request_id="key-2"))

    won, lost = await place(database, first, second)

    assert isinstance(won, Course)
    assert isinstance(lost, Failure)
    assert lost.metadata == {"order_id": first.order_id}


async def test_a_refusal_uses_up_no_key(database: Database) -> None:
    first = new_order()
    course = await placed(database, first)
    request = place_order(cart_id=first.request.cart_id, request_id="key-2")
    refused = await place(database, new_order(request), new_order(request))
    assert [type(one) for one in refused] == [Failure, Failure]
    assert await rows(database, order_keys, key_id=request.key) == []

    await step(database, course, *TO_DECLINED)

    assert isinstance((await place(database, new_order(request)))[0], Course)


async def test_after_a_declined_card_the_same_reading_of_the_cart_may_be_ordered(database: Database) -> None:
    first = new_order(version=3)
    await step(database, await placed(database, first), *TO_DECLINED)

    [again] = await place(database, second_try(first, version=3))

    assert isinstance(again, Course)


async def test_a_reading_from_before_the_cart_was_bought_is_outdated(database: Database) -> None:
    first = new_order(version=3)
    await step(database, await placed(database, first), *TO_PAID)

    assert await place(database, second_try(first, version=3)) == [CartOutdated()]
    assert await place(database, second_try(first, version=2)) == [CartOutdated()]
    assert isinstance((await place(database, second_try(first, version=4)))[0], Course)
    assert (await written(database)).keys == 2


@pytest.mark.survives("added-during-checkout")
async def test_a_reading_from_before_what_was_bought_had_left_the_cart_is_outdated(database: Database) -> None:
    first = new_order(version=3)
    # Something was added meanwhile, version 4; the settlement made version 5.
    await step(database, await placed(database, first), *TO_PAID, settled_version=5)

    assert await place(database, second_try(first, version=4)) == [CartOutdated()]
    assert isinstance((await place(database, second_try(first, version=5)))[0], Course)


async def test_a_batch_that_is_written_twice_is_written_once(database: Database) -> None:
    wishes = [new_order(), new_order(), new_order(place_order(cart_id=str(uuid.uuid4()), request_id="key-9"))]
    shared = new_order(wishes[0].request)
    refused = new_order(place_order(cart_id=wishes[1].request.cart_id, request_id="key-2"))
    batch = [*wishes, shared, refused]

    first = await place(database, *batch)
    counted = await written(database)
    again = await place(database, *batch)

    assert [type(result) for result in again] == [type(result) for result in first]
    assert [result.order.order_id for result in again if isinstance(result, Course)] == [w.order_id for w in wishes]
    assert await written(database) == counted


@pytest.mark.parametrize("knows", [True, False])
async def test_whoever_believes_that_nothing_stands_finds_out_what_does(database: Database, *, knows: bool) -> None:
    first, other = new_order(), new_order()
    await placed(database, first)
    claimed = [first.request.cart_id] if knows else []

    assert await place(database, new_order(first.request), claimed=claimed) == [KeyTaken()]
    [refusal, stands] = await place(database, second_try(first, version=4), other, claimed=claimed)

    assert isinstance(refusal, Failure)
    assert refusal.reason == "CHECKOUT_IN_PROGRESS"
    assert isinstance(stands, Course)
    assert (await written(database)).keys == 2


@pytest.mark.survives("commit-cut")
@pytest.mark.parametrize("loses", [1, 3])
async def test_new_orders_whose_commit_went_unanswered_are_written_once(database: Database, loses: int) -> None:
    wishes = [new_order(), new_order()]

    results = await place(Forgetful(database, loses=loses, meanwhile=nothing), *wishes)

    assert [result.order.order_id for result in results if isinstance(result, Course)] == [w.order_id for w in wishes]
    counted = await written(database)
    assert (counted.keys, counted.orders, counted.lines, counted.events, counted.sagas) == (2, 2, 2, 2, 2)


@pytest.mark.survives("commit-cut")
@pytest.mark.parametrize("loses", [1, 3])
async def test_a_commit_that_went_unanswered_changes_nothing(database: Database, loses: int) -> None:
    wishes = [new_order(), new_order()]
    forgetful = Forgetful(database, loses=loses, meanwhile=nothing)

    results = await place(forgetful, *wishes, new_order(wishes[0].request))

    assert [type(result) for result in results] == [Course, Course, KeyTaken]
    counted = await written(database)
    assert (counted.keys, counted.orders, counted.lines, counted.events, counted.sagas) == (2, 2, 2, 2, 2)


@pytest.mark.survives("commit-cut")
@pytest.mark.parametrize("outcomes", [TO_PAID, TO_DECLINED, TO_PAID[:2]], ids=["paid", "declined", "authorized"])
async def test_an_order_that_went_on_while_its_commit_was_unanswered_stands(
    database: Database, outcomes: tuple[Outcome, ...]
) -> None:
    wish = new_order()
    sagas: list[Saga] = []

    async def meanwhile() -> None:
        [course] = await recovered(database, wish)
        sagas.append((await step(database, course, *outcomes)).saga)

    [result] = await place(Forgetful(database, loses=1, meanwhile=meanwhile), wish)

    assert isinstance(result, Course)
    assert result.saga == sagas[0]
    [key] = await rows(database, order_keys)
    assert key["order_id"] == wish.order_id
    [claim] = await rows(database, cart_claims)
    assert claim["order_id"] == ("" if result.saga.rests else wish.order_id)
    [row] = await rows(database, orders)
    assert row["state"] == result.order.state


async def recovered(database: Database, wish: NewOrder) -> list[Course]:
    return await database.transact("read", lambda c: read_courses(c, [wish.order_id]), read_only=True)


def second_try(first: NewOrder, *, version: int) -> NewOrder:
    """Another key for the same cart, read at this version."""
    request = place_order(cart_id=first.request.cart_id, request_id=str(uuid.uuid4()))
    return new_order(request, version=version)
