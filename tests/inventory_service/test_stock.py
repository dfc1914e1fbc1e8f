"""Adjusting and reading stock over both databases."""

import asyncio
from typing import Any

import pytest

from inventory_service.domain.stock import Adjust
from mesh.errors import Failure, Kind
from tests.inventory_service.build import Replica, adjust, assert_balanced, reserve
from tests.inventory_service.conftest import MakeReplica


async def refusal(call: Any) -> Failure:
    with pytest.raises(Failure) as caught:
        await call
    return caught.value


async def test_an_adjustment_is_made_once_per_key(make_replica: MakeReplica, replica: Replica) -> None:
    other = await make_replica()
    await replica.put("mug")
    request = adjust("mug", 5, request_id="k")

    results = await asyncio.gather(
        *((replica, other)[number % 2].app.stock.adjust_stock(request) for number in range(20))
    )

    assert {(stock.on_hand, stock.available) for stock in results} == {(5, 5)}
    await assert_balanced(replica.database)


async def test_a_key_used_for_something_else_is_refused(replica: Replica) -> None:
    await replica.put("mug")
    await replica.put("cup")
    await replica.app.stock.adjust_stock(adjust("mug", 5, request_id="k"))

    for request in (adjust("mug", 6, request_id="k"), adjust("cup", 5, request_id="k")):
        failure = await refusal(replica.app.stock.adjust_stock(request))
        assert (failure.kind, failure.reason) == (Kind.ALREADY_EXISTS, "IDEMPOTENCY_KEY_REUSED")
    assert await replica.counters("mug") == (5, 0)
    assert await replica.counters("cup") == (0, 0)


@pytest.mark.survives("count-below-held")
async def test_what_orders_hold_cannot_be_taken_away(replica: Replica) -> None:
    await replica.put("mug", 5)
    await replica.app.reservations.reserve(reserve("r1", ("mug", 3)))
    request = adjust("mug", -3, request_id="k")

    failure = await refusal(replica.app.stock.adjust_stock(request))

    assert (failure.kind, failure.reason) == (Kind.FAILED_PRECONDITION, "STOCK_HELD")
    assert failure.metadata == {"sku": "mug", "on_hand": "5", "held": "3"}
    # The refusal used up no key.
    await replica.app.stock.adjust_stock(adjust("mug", 1))
    assert (await replica.app.stock.adjust_stock(request)).on_hand == 3
    await assert_balanced(replica.database)


async def test_adjustments_that_arrive_together_are_judged_in_order(replica: Replica) -> None:
    await replica.put("mug")
    await replica.put("cup", 1)
    take, bring, unknown = adjust("mug", -5, request_id="take"), adjust("mug", 6), adjust("nothing", 1)

    results = await asyncio.gather(
        *map(replica.app.stock.adjust_stock, (take, bring, take, unknown, take, adjust("cup", -1))),
        return_exceptions=True,
    )

    assert [getattr(result, "reason", "done") for result in results] == [
        "STOCK_HELD",
        "done",
        "done",
        "PRODUCT_NOT_FOUND",
        "done",
        "done",
    ]
    assert await replica.counters("mug") == (1, 0)
    await assert_balanced(replica.database)


async def test_stock_is_read_in_the_order_asked_and_unknown_skus_are_left_out(replica: Replica) -> None:
    await replica.put("mug", 2)
    await replica.put("cup", 1)

    found = await replica.app.stock.batch_get_stock(["mug", "nothing", "cup", "mug"])

    assert [(stock.sku, stock.available) for stock in found] == [("mug", 2), ("cup", 1), ("mug", 2)]
    assert (await refusal(replica.app.stock.get_stock("nothing"))).reason == "PRODUCT_NOT_FOUND"
    assert (await refusal(replica.app.stock.batch_get_stock([]))).fields[0].field == "skus"


async def test_the_ledger_is_paged_newest_first(replica: Replica) -> None:
    await replica.put("mug")
    await replica.put("cup", 7)
    for number in range(1, 6):
        await replica.app.stock.adjust_stock(adjust("mug", number, reason=f"delivery {number}"))
    service, seen, token = replica.app.stock, [], ""

    while True:
        page = await service.list_stock_movements("mug", page_size_asked=2, page_token=token)
        seen += [movement.reason for movement in page.items]
        token = page.next_page_token
        if not token:
            break

    assert seen == [f"delivery {number}" for number in (5, 4, 3, 2, 1)]
    first = await service.list_stock_movements("mug", page_size_asked=2, page_token="")
    for sku, token in (("cup", first.next_page_token), ("mug", "nonsense"), ("mug", first.next_page_token[:-3])):
        failure = await refusal(service.list_stock_movements(sku, page_size_asked=2, page_token=token))
        assert [field.field for field in failure.fields] == ["page_token"]
    failure = await refusal(service.list_stock_movements("nothing", page_size_asked=0, page_token=""))
    assert failure.reason == "PRODUCT_NOT_FOUND"


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"sku": "", "delta": 0, "reason": "", "request_id": ""}, ["sku", "delta", "reason", "request_id"]),
        ({"delta": 1_000_000_001}, ["delta"]),
        ({"delta": -1_000_000_001, "reason": "x" * 201}, ["delta", "reason"]),
    ],
)
def test_an_unlawful_adjustment_names_every_field(fields: dict[str, Any], named: list[str]) -> None:
    lawful: dict[str, Any] = {"sku": "mug", "delta": 1, "reason": "received", "request_id": "k", "actor": "operator-1"}

    with pytest.raises(Failure) as caught:
        Adjust(**(lawful | fields))

    assert [field.field for field in caught.value.fields] == named
