"""The invariants that tie orders, stock, the provider's book and the stored answers together, over a whole shop.

Databases are joined by id in memory, as an auditor would who trusts none of them alone.
"""

from collections import Counter, defaultdict
from itertools import pairwise
from typing import Any

from checkout_service import tables
from checkout_service.domain import EDGES, OrderState
from checkout_service.payments.tables import payments
from inventory_service.tables import movements, reservation_lines, reservations
from inventory_service.tables import stock as shelves
from shop.checkout.v1.checkout_pb2 import Order
from tests.checkout_service.records import rows
from tests.checkout_service.shop import Shop, until

Rows = list[dict[str, Any]]
_SOLD = {"PAID", "IN_TRANSIT", "COMPLETED"}
_INVOICED = _SOLD | {"REFUNDED"}


async def assert_settled(shop: Shop, *, within_s: float = 20.0) -> None:
    """Wait until every saga rests, then check everything."""

    async def rest() -> bool:
        return not [saga for saga in await rows(shop.databases["checkout"], tables.sagas) if saga["owner"]]

    await until(rest, within_s=within_s)
    await assert_consistent(shop)


async def assert_consistent(shop: Shop) -> None:
    """What must hold of orders whose saga rests, and of stock at any time."""
    checkout = shop.databases["checkout"]
    orders = {row["order_id"]: row for row in await rows(checkout, tables.orders)}
    resting = {row["saga_id"] for row in await rows(checkout, tables.sagas) if not row["owner"]}
    ended = {order_id: orders[order_id] for order_id in resting}
    _check_events(orders, await rows(checkout, tables.order_events))
    _check_answers(ended, await rows(checkout, tables.answers), await rows(checkout, tables.order_keys))
    invoiced = {row["order_id"] for row in await rows(checkout, tables.invoices)}
    assert invoiced == {order_id for order_id, order in orders.items() if order["state"] in _INVOICED}
    claimed = {row["order_id"] for row in await rows(checkout, tables.cart_claims)} - {""}
    assert not claimed & resting
    _check_money(orders, ended, await rows(shop.databases["psp"], payments))
    await _check_stock(shop, orders, ended)


def _check_events(orders: dict[str, dict[str, Any]], events: Rows) -> None:
    by_order: dict[str, list[str]] = defaultdict(list)
    for event in events:
        by_order[event["order_id"]].append(event["state"])
        assert event["sequence"] == len(by_order[event["order_id"]])
    assert by_order.keys() == orders.keys()
    for order_id, states in by_order.items():
        assert states[0] == OrderState.RECEIVED
        assert states[-1] == orders[order_id]["state"]
        assert len(states) == orders[order_id]["sequence"]
        for state, following in pairwise(states):
            assert OrderState(following) in EDGES[OrderState(state)]


def _check_answers(ended: dict[str, dict[str, Any]], answers: Rows, keys: Rows) -> None:
    by_order = {row["order_id"]: row for row in answers}
    assert ended.keys() <= by_order.keys()
    for order_id, order in ended.items():
        answer = Order.FromString(by_order[order_id]["answer"])
        assert (answer.order_id, answer.total.minor_units) == (order_id, order["total_minor"])
        assert by_order[order_id]["key_id"] == order["key_id"]
    assert Counter(row["order_id"] for row in keys).keys() >= ended.keys()
    assert len({row["order_id"] for row in keys}) == len(keys)


def _check_money(orders: dict[str, dict[str, Any]], ended: dict[str, dict[str, Any]], book: Rows) -> None:
    entries = {row["payment_key"]: row for row in book}
    assert entries.keys() <= orders.keys()
    for order_id, order in ended.items():
        entry = entries.get(order_id, {"state": "", "captured_minor": 0, "refunded_minor": 0, "currency_code": ""})
        if order["state"] in _SOLD:
            assert (entry["state"], entry["captured_minor"]) == ("CAPTURED", order["total_minor"])
            assert entry["currency_code"] == order["currency_code"]
        else:
            assert entry["state"] in ("", "DECLINED", "CANCELLED", "REFUNDED")
            assert entry["captured_minor"] == entry["refunded_minor"]
            assert (entry["state"] == "REFUNDED") <= (order["state"] == "REFUNDED")


async def _check_stock(shop: Shop, orders: dict[str, dict[str, Any]], ended: dict[str, dict[str, Any]]) -> None:
    inventory = shop.databases["inventory"]
    held_by = {row["reservation_id"]: row["state"] for row in await rows(inventory, reservations)}
    assert held_by.keys() <= orders.keys()
    for order_id, order in ended.items():
        assert (held_by.get(order_id) == "COMMITTED") == (order["state"] in _SOLD)
        assert held_by.get(order_id) != "HELD"
    ledger: Counter[str] = Counter()
    for movement in await rows(inventory, movements):
        ledger[movement["sku"]] += movement["delta"]
    held: Counter[str] = Counter()
    for line in await rows(inventory, reservation_lines):
        held[line["sku"]] += line["quantity"] if held_by[line["reservation_id"]] == "HELD" else 0
    for shelf in await rows(inventory, shelves):
        assert (shelf["on_hand"], shelf["held"]) == (ledger[shelf["sku"]], held[shelf["sku"]])
        assert 0 <= shelf["held"] <= shelf["on_hand"]
