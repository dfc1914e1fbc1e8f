from datetime import UTC, datetime, timedelta, timezone
from functools import partial
from typing import Any

import pytest
from sqlalchemy import Table, select

from mesh.db import Connection, Database
from mesh.errors import ConflictError, PoisonError
from mesh.mysql import PACKET_BYTES
from mesh.rows import (
    add_alike,
    delete_rows,
    insert_if_absent,
    insert_rows,
    set_alike,
    set_alike_where,
    set_by_key,
    upsert,
)


async def stored(database: Database, items: Table) -> dict[str, dict[str, Any]]:
    async def body(connection: Connection) -> dict[str, dict[str, Any]]:
        return {row["id"]: dict(row) for row in (await connection.execute(select(items))).mappings()}

    return await database.transact("stored", body, read_only=True)


def row(
    name: str, amount: int, note: str | None = None, at: datetime | None = None, raw: bytes | None = None
) -> dict[str, Any]:
    return {"id": name, "amount": amount, "note": note, "at": at, "raw": raw}


async def test_rows_come_back_as_they_were_given(database: Database, items: Table) -> None:
    noon = datetime(2026, 2, 3, 12, tzinfo=UTC)
    hostile = "'; DROP TABLE items; -- \\' \" %s ? \x00 \N{SNOWMAN}"
    rows = [
        row("a", 1, hostile, noon),
        row("b", 2, "", noon.replace(microsecond=1).astimezone(timezone(timedelta(hours=-7)))),
        row("c", 3, raw=bytes(range(256)) + b"'; --"),
    ]

    await database.transact("insert", lambda connection: insert_rows(connection, items, rows))
    await database.transact("nothing", lambda connection: insert_rows(connection, items, []))

    assert await stored(database, items) == {each["id"]: each for each in rows}


async def test_a_time_without_a_zone_is_a_mistake_of_ours(database: Database, items: Table) -> None:
    naive = datetime(2026, 2, 3, 12)  # noqa: DTZ001 - that is the point

    with pytest.raises(ValueError, match="aware"):
        await database.transact("insert", lambda connection: insert_rows(connection, items, [row("a", 1, at=naive)]))


async def test_a_key_that_is_taken_is_poison_unless_said_otherwise(database: Database, items: Table) -> None:
    await database.transact("first", lambda connection: insert_rows(connection, items, [row("a", 1)]))

    with pytest.raises(PoisonError):
        await database.transact("again", lambda connection: insert_rows(connection, items, [row("a", 2), row("b", 2)]))
    await database.transact(
        "absent", lambda connection: insert_if_absent(connection, items, [row("a", 3), row("c", 3)])
    )

    assert {name: each["amount"] for name, each in (await stored(database, items)).items()} == {"a": 1, "c": 3}


async def test_upsert_overwrites_only_what_it_is_told_to(database: Database, items: Table) -> None:
    await database.transact("first", lambda connection: insert_rows(connection, items, [row("a", 1, "kept")]))

    rows = [row("a", 2, "not this"), row("b", 3, "new")]
    await database.transact("upsert", lambda connection: upsert(connection, items, rows, changing=["amount"]))

    assert await stored(database, items) == {"a": row("a", 2, "kept"), "b": row("b", 3, "new")}


async def test_set_by_key_gives_each_row_its_own_value(database: Database, items: Table) -> None:
    rows = [row(name, 9, "old") for name in "abc"]
    await database.transact("first", lambda connection: insert_rows(connection, items, rows))

    for column, new in ((items.c.amount, {"a": 1, "b": 2}), (items.c.note, {"a": "it's a", "b": None})):
        await database.transact("set", partial(set_by_key, key=items.c.id, column=column, new=new))

    assert await stored(database, items) == {"a": row("a", 1, "it's a"), "b": row("b", 2), "c": row("c", 9, "old")}


async def test_set_alike_changes_every_row_in_the_same_way(database: Database, items: Table) -> None:
    rows = [row("a", 1, "old"), row("b", 2), row("c", 3, "old")]
    await database.transact("first", lambda connection: insert_rows(connection, items, rows))

    values = {"amount": 7, "note": "it's 100% new"}
    await database.transact("set", lambda connection: set_alike(connection, items.c.id, ["b", "a", "ghost"], values))

    assert await stored(database, items) == {"a": {**rows[0], **values}, "b": {**rows[1], **values}, "c": rows[2]}


async def test_set_alike_where_changes_rows_that_are_what_they_may_be(database: Database, items: Table) -> None:
    await fill(database, items)
    only_open = {"note": ["open", "ajar"]}

    async def body(connection: Connection) -> None:
        # What is met counts, whether it changes or not.
        for _ in range(2):
            await set_alike_where(connection, items.c.id, ["c", "a", "a"], {"amount": 2}, only_open)

    await database.transact("set", body)

    assert await amounts(database, items) == {"a": 2, "b": 1, "c": 2}


@pytest.mark.parametrize("wrong", ["b", "ghost"])
async def test_set_alike_where_changes_nothing_if_one_is_not_what_it_may_be(
    database: Database, items: Table, wrong: str
) -> None:
    await fill(database, items)

    async def body(connection: Connection) -> None:
        await set_alike_where(connection, items.c.id, ["a"], {"amount": 3}, {"note": ["open"]})
        await set_alike_where(connection, items.c.id, ["a", wrong], {"amount": 2}, {"note": ["open"]})

    with pytest.raises(PoisonError):
        await database.transact("set", body)

    assert await amounts(database, items) == {"a": 1, "b": 1, "c": 1}


@pytest.mark.parametrize(("since", "holds"), [(timedelta(microseconds=1), True), (timedelta(), False)])
async def test_set_alike_where_may_ask_for_a_later_time(
    database: Database, items: Table, since: timedelta, *, holds: bool
) -> None:
    noon = datetime(2026, 2, 3, 12, tzinfo=UTC)
    rows = [row("a", 1, "open", noon + timedelta(hours=1)), row("b", 1, "open", noon + since)]
    await database.transact("first", lambda connection: insert_rows(connection, items, rows))

    async def body(connection: Connection) -> None:
        where = {"note": ["open"]}
        await set_alike_where(connection, items.c.id, ["a", "b"], {"amount": 2}, where, later={"at": noon})

    if holds:
        await database.transact("set", body)
    else:
        with pytest.raises(ConflictError):
            await database.transact("set", body)
    assert await amounts(database, items) == dict.fromkeys(("a", "b"), 2 if holds else 1)


@pytest.mark.parametrize("more", [1, -1, -2])
async def test_add_alike_may_say_what_rows_have_to_be(database: Database, items: Table, more: int) -> None:
    await fill(database, items)

    async def body(connection: Connection) -> None:
        where = f"amount + {more} >= 0"
        await add_alike(connection, items.c.id, ["a", "c"], {"amount": more}, {"note": "new"}, where=where)

    if more >= -1:
        await database.transact("add", body)
        assert await amounts(database, items) == {"a": 1 + more, "b": 1, "c": 1 + more}
    else:
        with pytest.raises(ConflictError):
            await database.transact("add", body)
        assert await amounts(database, items) == {"a": 1, "b": 1, "c": 1}


@pytest.mark.parametrize("size", [100, *range(PACKET_BYTES - 200, PACKET_BYTES + 20, 20)])
async def test_set_alike_where_counts_its_own_rows_however_full_the_packet_is(
    database: Database, items: Table, size: int
) -> None:
    await fill(database, items)

    async def body(connection: Connection) -> None:
        await insert_rows(connection, items, [row("big", 1, "n" * size)])
        await set_alike_where(connection, items.c.id, ["a", "c"], {"amount": 2}, {"note": ["open"]})

    await database.transact("set", body)

    assert await amounts(database, items) == {"a": 2, "b": 1, "c": 2, "big": 1}


async def fill(database: Database, items: Table) -> None:
    rows = [row("a", 1, "open"), row("b", 1, "shut"), row("c", 1, "open")]
    await database.transact("first", lambda connection: insert_rows(connection, items, rows))


async def amounts(database: Database, items: Table) -> dict[str, int]:
    return {name: each["amount"] for name, each in (await stored(database, items)).items()}


async def test_add_alike_adds_to_what_stands(database: Database, items: Table) -> None:
    noon = datetime(2026, 2, 3, 12, tzinfo=UTC)
    rows = [row("a", 1), row("b", 5), row("c", 9)]
    await database.transact("first", lambda connection: insert_rows(connection, items, rows))

    async def body(connection: Connection) -> None:
        for more in (3, -1):
            await add_alike(connection, items.c.id, ["a", "b"], {"amount": more}, {"at": noon})

    await database.transact("add", body)

    assert await stored(database, items) == {"a": row("a", 3, at=noon), "b": row("b", 7, at=noon), "c": row("c", 9)}


async def test_a_later_read_of_the_same_transaction_sees_what_was_written(database: Database, items: Table) -> None:
    async def body(connection: Connection) -> list[str]:
        await insert_rows(connection, items, [row("a", 1), row("b", 1)])
        await delete_rows(connection, [items.c.id], [("a",)])
        return list((await connection.execute(select(items.c.id))).scalars())

    assert await database.transact("write and read", body) == ["b"]


async def test_nothing_stays_of_a_transaction_whose_last_write_is_refused(database: Database, items: Table) -> None:
    async def body(connection: Connection) -> None:
        await insert_rows(connection, items, [row("a", 1)])
        await insert_rows(connection, items, [row("b", -1)])

    with pytest.raises(PoisonError):
        await database.transact("refused", body)
    # Nor does it come about by the next transaction.
    await database.transact("another", lambda connection: insert_rows(connection, items, [row("c", 1)]))

    assert set(await stored(database, items)) == {"c"}


async def test_nothing_stays_of_a_body_that_raises_after_its_writes(database: Database, items: Table) -> None:
    async def body(connection: Connection) -> None:
        await insert_rows(connection, items, [row("a", 1)])
        raise LookupError("changed its mind")

    with pytest.raises(LookupError):
        await database.transact("raises", body)
    await database.transact("another", lambda connection: insert_rows(connection, items, [row("b", 1)]))

    assert set(await stored(database, items)) == {"b"}


async def test_more_than_a_packet_takes_is_written_whole(database: Database, items: Table) -> None:
    rows = [row(f"{number:03}", number, "x" * 100_000) for number in range(40)]

    async def body(connection: Connection) -> None:
        await insert_rows(connection, items, rows[:25])
        await insert_rows(connection, items, rows[25:])

    await database.transact("insert", body)

    assert await stored(database, items) == {each["id"]: each for each in rows}


async def test_delete_rows_deletes_whole_keys_only(database: Database, items: Table) -> None:
    rows = [row("a", 1), row("b", 1), row("c", 2)]
    await database.transact("first", lambda connection: insert_rows(connection, items, rows))

    key = [items.c.id, items.c.amount]
    await database.transact(
        "delete", lambda connection: delete_rows(connection, key, [("a", 1), ("b", 2), ("ghost", 1)])
    )
    await database.transact("nothing", lambda connection: delete_rows(connection, key, []))

    assert set(await stored(database, items)) == {"b", "c"}
