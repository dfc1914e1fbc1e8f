"""The database fails at any statement: what is worth repeating is repeated whole, and nothing is done twice."""

import asyncio
import itertools
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy.engine import URL

from cart_service.catalogue import Catalogue
from cart_service.domain import Settle, View
from cart_service.service import CartService
from mesh.cache import MemoryCache
from mesh.caller import GUEST
from mesh.clock import SYSTEM_CLOCK
from mesh.db import Database, open_database
from mesh.errors import Failure, Kind
from tests.cart_service.shelf import Shelf
from tests.support.faults import Faults, mysql_error, refused_data, sqlite_error

# Deadlock, lock wait, record changed, node not ready, connection lost.
TRANSIENT = (1213, 1205, 1020, 1047, 2013)
CART_IDS = [f"00000000-0000-4000-8000-{number:012d}" for number in range(90)]

# What is asked for of a cart that holds five apples, and what it holds then.
USES: dict[str, tuple[Callable[[CartService, str], Awaitable[Any]], dict[str, int]]] = {
    "get": (lambda carts, cart_id: carts.get_cart(GUEST, cart_id), {"apple": 5}),
    "add": (lambda carts, cart_id: carts.add_item(GUEST, cart_id, "apple", quantity=2), {"apple": 7}),
    "set": (lambda carts, cart_id: carts.set_item_quantity(GUEST, cart_id, "apple", quantity=2), {"apple": 2}),
    "remove": (lambda carts, cart_id: carts.remove_item(GUEST, cart_id, "apple"), {}),
    "clear": (lambda carts, cart_id: carts.clear_cart(GUEST, cart_id), {}),
    "settle": (lambda carts, cart_id: carts.batch_settle_carts([Settle(cart_id, cart_id, {"apple": 2})]), {"apple": 3}),
    "clean up": (lambda carts, _: carts.delete_expired(ttl=timedelta(days=1), at_most=10), {"apple": 5}),
}


@pytest.fixture
async def database(database_url: URL) -> AsyncIterator[Database]:
    database = await open_database(database_url)
    yield database
    await database.close()


@pytest.fixture
async def carts(database: Database, shelf: Shelf) -> AsyncIterator[CartService]:
    """Many carts of five apples."""
    service = CartService(database, Catalogue(shelf, MemoryCache()), clock=SYSTEM_CLOCK)
    await asyncio.gather(*(service.add_item(GUEST, cart_id, "apple", quantity=5) for cart_id in CART_IDS))
    yield service
    await service.close()


@pytest.fixture
async def faults(carts: CartService, database: Database) -> Faults:
    faults = Faults()
    faults.attach(database)
    return faults


@pytest.mark.survives("errors-at-each-statement")
@pytest.mark.parametrize("database_url", ["mariadb"], indirect=True)
@pytest.mark.parametrize("name", USES)
@pytest.mark.parametrize("executes", [False, True], ids=["before", "after"])
async def test_whichever_statement_meets_a_passing_error_the_request_is_done_once(
    carts: CartService, faults: Faults, name: str, *, executes: bool
) -> None:
    use, afterwards = USES[name]
    fresh, used = iter(CART_IDS), []
    for error in TRANSIENT:
        for statement in itertools.count():
            used.append(next(fresh))
            faults.at(statement, mysql_error(error), executes=executes)
            await use(carts, used[-1])
            if not faults.raised:
                break

    assert len(used) >= 2 * len(TRANSIENT)
    found = await carts.batch_get_carts([View(cart_id, "") for cart_id in used])
    assert [{sku: line.quantity for sku, line in cart.lines.items()} for cart in found] == [afterwards] * len(used)


@pytest.mark.survives("outage-multiplies-nothing")
async def test_an_outage_fails_all_who_wait_without_multiplying_transactions(
    carts: CartService, faults: Faults, database: Database
) -> None:
    faults.always(sqlite_error(sqlite3.SQLITE_BUSY) if database.dialect == "sqlite" else mysql_error(1213))

    calls = [carts.clear_cart(GUEST, cart_id) for cart_id in CART_IDS]
    answers = await asyncio.gather(*calls, return_exceptions=True)

    assert [each.kind for each in answers if isinstance(each, Failure)] == [Kind.UNAVAILABLE] * len(CART_IDS)
    # The first alone and all others together, each tried as often as one transaction is.
    assert faults.transactions <= 2 * 4
    faults.over()
    assert (await carts.clear_cart(GUEST, CART_IDS[0])).cart.version == 2


@pytest.mark.survives("poison-alone")
async def test_a_command_whose_data_is_refused_fails_alone_at_once_and_for_good(
    carts: CartService, faults: Faults, database: Database
) -> None:
    poisoned = CART_IDS[40]
    faults.always(
        refused_data(database.dialect),
        lambda statement, parameters: statement.startswith("INSERT INTO carts") and poisoned in str(parameters),
    )

    calls = [carts.add_item(GUEST, cart_id, "pear", quantity=1) for cart_id in CART_IDS]
    answers = await asyncio.gather(*calls, return_exceptions=True)
    transactions = faults.transactions
    with pytest.raises(Failure, match="DATA_REFUSED"):
        await carts.add_item(GUEST, poisoned, "pear", quantity=1)

    failed = {CART_IDS[n]: str(each) for n, each in enumerate(answers) if isinstance(each, BaseException)}
    assert failed.keys() == {poisoned}
    assert "DATA_REFUSED" in failed[poisoned]
    # Halves of halves, none of them tried twice.
    assert transactions <= 2 * 8 + 1
    faults.over()
    found = await carts.batch_get_carts([View(cart_id, "") for cart_id in CART_IDS])
    assert [cart.cart_id for cart in found if "pear" not in cart.lines] == [poisoned]
