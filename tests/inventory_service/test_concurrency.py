"""Many at once, through one replica and through two: nothing is sold twice and nobody meets a deadlock."""

import asyncio
import random
from collections.abc import Sequence
from functools import partial
from typing import Any

import pytest
from sqlalchemy import text

from inventory_service.domain.reservation import Failed, Request, Reservation, State
from inventory_service.store import Connection
from mesh.errors import Failure
from tests.inventory_service.build import Replica, adjust, assert_balanced, commit, release, reserve
from tests.inventory_service.conftest import MakeReplica
from tests.support.faults import Faults


def reasons(results: list[Any]) -> dict[str, int]:
    """How often each state and each failure's reason came out."""
    found: dict[str, int] = {}
    for result in results:
        assert isinstance(result, Reservation | Failure | Failed), repr(result)
        if isinstance(result, Failed):
            name = result.failure.reason
        else:
            name = result.reason if isinstance(result, Failure) else str(result.state)
        found[name] = found.get(name, 0) + 1
    return found


@pytest.mark.survives("last-unit")
async def test_of_200_for_one_unit_exactly_one_wins(make_replica: MakeReplica, replica: Replica) -> None:
    replicas = [replica, await make_replica()]
    await replica.put("mug", 1)

    results = await asyncio.gather(
        *(replicas[n % 2].app.reservations.reserve(reserve(f"r{n}", ("mug", 1))) for n in range(200)),
        return_exceptions=True,
    )

    assert reasons(results) == {"HELD": 1, "OUT_OF_STOCK": 199}
    await assert_balanced(replica.database)


@pytest.mark.parametrize("seed", range(3))
async def test_of_2000_for_100_units_exactly_100_win(make_replica: MakeReplica, replica: Replica, seed: int) -> None:
    replicas = [replica, await make_replica()]
    await replica.put("mug", 100)
    chance = random.Random(seed)  # noqa: S311 - an order that can be repeated

    async def buy(number: int) -> str:
        service = replicas[chance.randrange(2)].app.reservations
        try:
            await service.reserve(reserve(f"r{number}", ("mug", 1)))
            if chance.random() < 0.2:
                await service.release_reservation(release(f"r{number}"))
                return "gave back"
            await service.commit_reservation(commit(f"r{number}"))
        except Failure as failure:
            return failure.reason
        return "bought"

    numbers = list(range(2000))
    chance.shuffle(numbers)
    results = await asyncio.gather(*map(buy, numbers))
    # What was given back late is there for whoever asks next.
    bought = results.count("bought")
    late = [await buy(number) for number in range(2000, 2000 + 3 * (100 - bought))] if bought < 100 else []

    assert set(results) <= {"bought", "gave back", "OUT_OF_STOCK"}
    assert bought + late.count("bought") == 100
    assert await replica.counters("mug") == (0, 0)
    await assert_balanced(replica.database)


@pytest.mark.survives("crossed-carts")
async def test_carts_in_opposite_order_meet_no_deadlock(make_replica: MakeReplica, replica: Replica) -> None:
    replicas = [replica, await make_replica()]
    await replica.put("a", 1000)
    await replica.put("b", 1000)

    async def shop(number: int) -> list[Any]:
        service = replicas[number % 2].app.reservations
        lines = [("a", 1), ("b", 1)] if number % 4 < 2 else [("b", 1), ("a", 1)]
        first = await service.reserve(reserve(f"r{number}", *lines))
        last = commit(f"r{number}") if number % 3 else release(f"r{number}")
        return [first, *(await service.batch([last]))]

    results = await asyncio.gather(*(shop(number) for number in range(64)))

    assert reasons([outcome for pair in results for outcome in pair]) == {"HELD": 64, "COMMITTED": 42, "RELEASED": 22}
    assert await replica.counters("a") == await replica.counters("b") == (1000 - 42, 0)
    await assert_balanced(replica.database)


async def test_one_request_100_times_at_once_holds_once(make_replica: MakeReplica, replica: Replica) -> None:
    replicas = [replica, await make_replica()]
    await replica.put("mug", 100)

    results = await asyncio.gather(
        *(replicas[n % 2].app.reservations.reserve(reserve("r1", ("mug", 2))) for n in range(100))
    )

    assert len(set(results)) == 1
    assert await replica.counters("mug") == (100, 2)


async def test_reserve_against_its_own_release_leaves_nothing_held(make_replica: MakeReplica, replica: Replica) -> None:
    other = await make_replica()
    await replica.put("mug", 100)

    await asyncio.gather(
        *(replica.app.reservations.reserve(reserve(f"r{n}", ("mug", 1))) for n in range(50)),
        *(other.app.reservations.release_reservation(release(f"r{n}")) for n in range(50)),
        return_exceptions=True,
    )

    assert await replica.counters("mug") == (100, 0)
    states = {(await replica.app.reservations.get_reservation(f"r{n}")).state for n in range(50)}
    assert states == {State.RELEASED}


async def see_it_wait(connection: Connection, *, waited_for: asyncio.Event) -> None:
    """Set the event when somebody waits for a row's lock."""
    # Not from information_schema: joining its tables over and over crashes MariaDB 10.11.
    waiting = text("SHOW GLOBAL STATUS LIKE 'Innodb_row_lock_current_waits'")
    while int((await connection.execute(waiting)).one()[1]) == 0:  # noqa: ASYNC110 - what the server does is no event of ours
        await asyncio.sleep(0.01)
    waited_for.set()


async def outcome_while(replica: Replica, other: Replica, changes: Sequence[str], request: Request) -> str:
    """What the request comes to when another transaction has made the changes and commits as soon as it waits."""
    changed, waited_for = asyncio.Event(), asyncio.Event()

    async def change(connection: Connection) -> None:
        for statement in changes:
            await connection.execute(text(statement))
        changed.set()
        await waited_for.wait()

    async with asyncio.timeout(10), asyncio.TaskGroup() as tasks:
        tasks.create_task(other.database.transact("change", change))
        await changed.wait()
        outcomes = tasks.create_task(replica.app.reservations.batch([request]))
        tasks.create_task(other.database.transact("watch", partial(see_it_wait, waited_for=waited_for)))
    [outcome] = reasons(outcomes.result())
    return outcome


RELEASE_R1 = (
    "UPDATE reservations SET state = 'RELEASED' WHERE reservation_id = 'r1'",
    "UPDATE stock SET held = held - 1",
)


@pytest.mark.parametrize("database_url", ["mariadb"], indirect=True)
@pytest.mark.parametrize(
    ("changes", "request_", "outcome"),
    [
        (RELEASE_R1, commit("r1"), "RESERVATION_RELEASED"),
        (["UPDATE stock SET on_hand = held"], reserve("r3", ("mug", 1)), "OUT_OF_STOCK"),
    ],
)
async def test_what_is_decided_on_is_locked_first(
    make_replica: MakeReplica, replica: Replica, changes: Sequence[str], request_: Request, outcome: str
) -> None:
    await replica.put("mug", 10)
    await replica.app.reservations.batch([reserve("r1", ("mug", 1)), reserve("r2", ("mug", 5))])

    # Had it not locked what it read, it would sell what was given back, or be stopped by a CHECK alone.
    assert await outcome_while(replica, await make_replica(), changes, request_) == outcome


@pytest.mark.parametrize("database_url", ["mariadb"], indirect=True)
async def test_rows_are_locked_by_their_primary_key_however_small_the_table(replica: Replica) -> None:
    names = [f"r{number}" for number in range(100)]
    for number in range(100):
        await replica.put(f"mug-{number}", 10)
    locking: list[str] = []

    def note(statement: str, _: object) -> bool:
        if statement.startswith("UPDATE") or statement.endswith("FOR UPDATE"):
            locking.append(statement)
        return False

    Faults(chosen=note).attach(replica.database)
    await replica.app.reservations.batch([reserve(name, (f"mug-{name[1:]}", 1)) for name in names])
    await replica.app.reservations.batch([commit(name) for name in names[:50]])
    await replica.end_of_time_for(*names[50:])
    await replica.app.reservations.expire()

    async def explain(connection: Connection) -> list[tuple[str, str, str]]:
        plans = [await connection.exec_driver_sql(f"EXPLAIN {statement}") for statement in ours]
        return [(plan.table, plan.type, plan.key) for [plan, *_] in (each.all() for each in plans)]

    # The test's own statement, which ends the time of holds, is not the service's.
    ours = [each for each in locking if "FORCE INDEX" in each or "SET expire_time" not in each]
    plans = await replica.database.transact("explain", explain, read_only=True)
    assert set(plans) == {("reservations", "range", "PRIMARY"), ("stock", "range", "PRIMARY")}


@pytest.mark.survives("count-below-held")
async def test_an_operator_counts_stock_while_it_is_sold(make_replica: MakeReplica, replica: Replica) -> None:
    other = await make_replica()
    await replica.put("mug", 50)

    async def correct(number: int) -> str:
        try:
            await other.app.stock.adjust_stock(adjust("mug", -5 if number % 2 else 3, request_id=f"count-{number}"))
        except Failure as failure:
            return failure.reason
        return "done"

    async def buy(number: int) -> Any:
        service = (replica, other)[number % 2].app.reservations
        await service.reserve(reserve(f"r{number}", ("mug", 1)))
        return await service.commit_reservation(commit(f"r{number}"))

    results = await asyncio.gather(
        *(buy(number) for number in range(80)), *(correct(number) for number in range(40)), return_exceptions=True
    )

    assert {result for result in results if isinstance(result, str)} <= {"done", "STOCK_HELD"}
    assert reasons(results[:80]).keys() <= {"COMMITTED", "OUT_OF_STOCK"}
    await assert_balanced(replica.database)


@pytest.mark.survives("holds-expire-together")
async def test_10_000_holds_that_expire_together_are_all_given_back(replica: Replica) -> None:
    await replica.put("mug", 10_000)
    names = [f"r{number}" for number in range(10_000)]
    for start in range(0, len(names), 2_000):
        part = names[start : start + 2_000]
        await replica.app.reservations.batch([reserve(name, ("mug", 1)) for name in part])
        await replica.end_of_time_for(*part)
    assert await replica.counters("mug") == (10_000, 10_000)

    # It takes as many of them as it needs, and the sweep all the others.
    held = await replica.app.reservations.reserve(reserve("new", ("mug", 1)))
    while await replica.app.reservations.expire():
        pass

    assert held.state is State.HELD
    assert await replica.counters("mug") == (10_000, 1)
    await assert_balanced(replica.database)
