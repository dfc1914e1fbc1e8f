"""The database fails at any statement: what is worth repeating is repeated whole, and nothing is done twice."""

import asyncio
import itertools
import sqlite3
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest

from inventory_service.domain.catalog import Change, Draft
from inventory_service.domain.reservation import Extend
from mesh.errors import Failure, Kind
from tests.inventory_service.build import MUG, Replica, adjust, assert_balanced, commit, release, reserve
from tests.support.faults import Faults, mysql_error, refused_data, sqlite_error

# Deadlock, lock wait, record changed, node not ready, connection lost.
TRANSIENT = (1213, 1205, 1020, 1047, 2013)
# Read-only server, disk full, table full; a database file that cannot grow or be written.
AWAY = (1290, 1021, 1114)
SQLITE_AWAY = (sqlite3.SQLITE_FULL, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_IOERR)

Use = Callable[[Replica, str], Awaitable[Any]]

# Each under a key of its own; `held-KEY` is a hold of one mug that it may move.
USES: dict[str, Use] = {
    "reserve": lambda replica, key: replica.app.reservations.reserve(reserve(key, ("mug", 1), ("cup", 1))),
    "commit": lambda replica, key: replica.app.reservations.commit_reservation(commit(f"held-{key}")),
    "release": lambda replica, key: replica.app.reservations.release_reservation(release(f"held-{key}")),
    "extend": lambda replica, key: replica.app.reservations.extend_reservation(
        Extend(reservation_id=f"held-{key}", ttl_s=9000)
    ),
    "bar": lambda replica, key: replica.app.reservations.release_reservation(release(key)),
    "expire": lambda replica, _: replica.app.reservations.expire(),
    "forget": lambda replica, _: replica.app.reservations.forget(),
    "adjust": lambda replica, key: replica.app.stock.adjust_stock(adjust("mug", 1, request_id=key)),
    "create": lambda replica, key: replica.app.catalog.create_product(Draft(sku=f"new-{key}", facts=MUG)),
    "update": lambda replica, _: replica.app.catalog.update_product(
        Change(sku="mug", etag="", facts=replace(MUG, name="New"), fields=("name",))
    ),
    "delete": lambda replica, key: replica.app.catalog.delete_product(f"old-{key}", etag=""),
}
KEYS = [f"k{number}" for number in range(90)]


@pytest.fixture
async def faults(replica: Replica) -> Faults:
    faults = Faults()
    faults.attach(replica.database)
    return faults


@pytest.fixture
async def shop(replica: Replica) -> Replica:
    await replica.put("mug", 1000)
    await replica.put("cup", 1000)
    await replica.app.reservations.batch([reserve(f"held-{key}", ("mug", 1)) for key in KEYS])
    return replica


async def prepare(name: str, shop: Replica, key: str) -> None:
    """What a use needs to have something to do."""
    if name == "delete":
        await shop.put(f"old-{key}")
    if name == "expire":
        await shop.end_of_time_for(f"held-{key}")


@pytest.mark.survives("errors-at-each-statement")
@pytest.mark.parametrize("database_url", ["mariadb"], indirect=True)
@pytest.mark.parametrize("name", USES)
@pytest.mark.parametrize("executes", [False, True], ids=["before", "after"])
async def test_whichever_statement_meets_a_passing_error_the_request_is_done_once(
    shop: Replica, faults: Faults, name: str, *, executes: bool
) -> None:
    keys = iter(KEYS)
    answers = []
    for error in TRANSIENT:
        for statement in itertools.count():
            key = next(keys)
            await prepare(name, shop, key)
            faults.at(statement, mysql_error(error), executes=executes)
            answers.append(await USES[name](shop, key))
            if not faults.raised:
                break

    assert len(answers) >= 2 * len(TRANSIENT)
    changes = {"reserve": (0, 1), "commit": (-1, -1), "release": (0, -1), "expire": (0, -1), "adjust": (1, 0)}
    on_hand, held = changes.get(name, (0, 0))
    assert await shop.counters("mug") == (1000 + on_hand * len(answers), len(KEYS) + held * len(answers))
    await assert_balanced(shop.database)


@pytest.mark.survives("disk-full")
@pytest.mark.parametrize("name", ["reserve", "adjust", "create"])
async def test_a_database_that_cannot_be_written_is_unavailable_at_once_and_used_again_afterwards(
    shop: Replica, faults: Faults, name: str
) -> None:
    is_sqlite = shop.database.dialect == "sqlite"
    errors = [sqlite_error(code) for code in SQLITE_AWAY] if is_sqlite else [mysql_error(number) for number in AWAY]
    for error, key in zip(errors, KEYS, strict=False):
        faults.always(error, lambda statement, _: statement.startswith("INSERT"))
        with pytest.raises(Failure) as caught:
            await USES[name](shop, key)
        assert (caught.value.kind, caught.value.reason) == (Kind.UNAVAILABLE, "DATABASE_UNAVAILABLE")
        assert faults.transactions == 1

        faults.over()
        await USES[name](shop, key)
    await assert_balanced(shop.database)


@pytest.mark.survives("outage-multiplies-nothing")
async def test_an_outage_fails_all_who_wait_without_multiplying_transactions(shop: Replica, faults: Faults) -> None:
    is_sqlite = shop.database.dialect == "sqlite"
    faults.always(sqlite_error(sqlite3.SQLITE_BUSY) if is_sqlite else mysql_error(1213))

    calls = [shop.app.reservations.reserve(reserve(key, ("mug", 1))) for key in KEYS]
    answers = await asyncio.gather(*calls, return_exceptions=True)

    assert {answer.kind for answer in answers if isinstance(answer, Failure)} == {Kind.UNAVAILABLE}
    assert len(answers) == len([answer for answer in answers if isinstance(answer, Failure)])
    # One batch, tried as often as one transaction is; not one transaction for each of its requests.
    assert faults.transactions <= 2 * 4


@pytest.mark.survives("poison-alone")
async def test_a_request_whose_data_is_refused_fails_alone_at_once_and_for_good(shop: Replica, faults: Faults) -> None:
    faults.always(refused_data(shop.database.dialect), lambda _, parameters: "poison" in str(parameters))

    calls = [
        shop.app.reservations.reserve(reserve(key, ("mug", 1))) for key in ("first", *KEYS[:31], "poison", *KEYS[31:])
    ]
    answers = await asyncio.gather(*calls, return_exceptions=True)
    transactions = faults.transactions
    with pytest.raises(Failure) as again:
        await shop.app.reservations.reserve(reserve("poison", ("mug", 1)))

    poisoned = [answer for answer in answers if isinstance(answer, BaseException)]
    assert [(each.kind, each.reason) for each in poisoned if isinstance(each, Failure)] == [
        (Kind.INTERNAL, "DATA_REFUSED")
    ]
    assert answers.index(poisoned[0]) == 32
    assert again.value.reason == "DATA_REFUSED"
    # Halves of halves, none of them tried twice.
    assert transactions <= 2 * 8 + 1
    faults.over()
    assert await shop.counters("mug") == (1000, 2 * len(KEYS) + 1)
    await assert_balanced(shop.database)
