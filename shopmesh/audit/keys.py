"""I6: keys and answers, from the side of the keys: each leads to the one order that bears it."""

import asyncio
from collections.abc import AsyncIterator, Collection, Iterator, Sequence
from functools import cache, lru_cache, partial

from google.protobuf.message import DecodeError
from sqlalchemy import func, or_

from checkout_service.tables import answers, order_keys, orders
from mesh.db import Database
from shop.checkout.v1.checkout_pb2 import Order
from shop.checkout.v1.checkout_pb2 import OrderState as WireState
from shopmesh.audit.books import Books, pages
from shopmesh.audit.dossier import AnyRow, Cabinet
from shopmesh.audit.findings import Fault, Finding, Invariant
from shopmesh.audit.spans import Balance, Span, ahead, spans
from shopmesh.audit.texts import IncompleteError, Sheet, TextSelect, joined, read_lines, rows_as_text, sheet

_STATE_PREFIX = "ORDER_STATE_"


class KeyCheck:
    """Examines keys: that each leads to an order which bears it, and that each answer stands under a key."""

    covers = ()

    def __init__(self, books: Books) -> None:
        self._database = books.checkout

    async def judge(self, subjects: Sequence[str]) -> list[Finding]:
        """What is wrong with these keys."""
        cabinet = Cabinet()
        await cabinet.fill(self._database, (order_keys, answers), subjects)
        led_to = [row.order_id for key in subjects for row in cabinet.all(order_keys, key)]
        await cabinet.fill(self._database, (orders,), led_to)
        return [Finding(Invariant.KEYS, key, fault) for key in subjects for fault in _faults(key, cabinet)]


async def read_keys(database: Database, balance: Balance, *, set_aside: Collection[str]) -> list[str]:
    """Read all keys and answers in the order of the keys, and take them from the balance.

    Answers the keys that need a closer look: those of orders `set_aside`, and those that have no like among orders.
    """
    suspects: list[str] = []
    async for span, sheets in ahead(spans(database, order_keys.c.key_id), partial(_read, database)):
        if sheets is not None:
            # In a thread, so that the database works meanwhile.
            suspects += await asyncio.to_thread(_take, *sheets, balance, set_aside)
        else:
            for table in (order_keys, answers):
                async for page in pages(database, table.c.key_id, span.has(table.c.key_id)):
                    suspects += page
    return suspects


async def keys_of_orders_in(database: Database, those: Sequence[Span]) -> AsyncIterator[list[str]]:
    """All keys that lead to orders in these spans."""
    condition = or_(*(span.has(order_keys.c.order_id) for span in those))
    async for page in pages(database, order_keys.c.key_id, condition):
        yield page


@lru_cache(maxsize=100)
def state_name(state: WireState.ValueType) -> str:
    """The state as it is stored, of the contract's. Raises ValueError for none."""
    return WireState.Name(state).removeprefix(_STATE_PREFIX)


async def _read(database: Database, span: Span) -> tuple[Sheet, Sheet] | None:
    """Keys and answers; None for what cannot be read as text."""
    try:
        keys, stored = await read_lines(database, _statements(is_last=span.is_last), span)
        return sheet(keys), sheet(stored)
    except IncompleteError:
        return None


@cache
def _statements(*, is_last: bool) -> tuple[TextSelect, TextSelect]:
    key, stored = order_keys.c, answers.c
    answer = joined(stored.key_id, "\t", stored.order_id, "\t", func.hex(stored.answer))
    return (
        rows_as_text(joined(key.key_id, "\t", key.order_id), key.key_id, is_last=is_last),
        rows_as_text(answer, stored.key_id, is_last=is_last),
    )


def _take(keys: Sheet, stored: Sheet, balance: Balance, set_aside: Collection[str]) -> list[str]:
    suspects = list(stored.keys() - keys.keys())
    for key_id, order_id in keys.items():
        if order_id in set_aside:
            suspects.append(key_id)
            continue
        told = _told(order_id, stored.get(key_id, "\t"))
        balance.subtract(order_id, f"{order_id}\t{key_id}\t{told}")
    return suspects


def _told(order_id: str, stored: str) -> str:
    """What an answer says: state and amounts, with a tab between; nothing for one that is not there or not good."""
    answered_id, _, encoded = stored.partition("\t")
    try:
        order = Order.FromString(bytes.fromhex(encoded))
        state = state_name(order.state)
    except (DecodeError, ValueError):
        return ""
    if not answered_id == order.order_id == order_id:
        return ""
    goods = f"{order.subtotal.minor_units} {order.discount.minor_units}"
    extras = f"{order.shipping.minor_units} {order.tax.minor_units}"
    return f"{state}\t{order.total.currency_code} {goods} {extras} {order.total.minor_units}"


def _faults(key_id: str, cabinet: Cabinet) -> Iterator[Fault]:
    key: AnyRow | None = cabinet.one(order_keys, key_id)
    if key is None:
        if cabinet.one(answers, key_id) is not None:
            yield Fault("answer-without-key", "an answer is stored under no key")
        return
    order = cabinet.one(orders, key.order_id)
    if order is None:
        yield Fault("key-without-order", f"the key leads to the order {key.order_id}, which does not exist")
    elif order.key_id != key_id:
        yield Fault("second-key", f"the key leads to the order {key.order_id} of the key {order.key_id}")
