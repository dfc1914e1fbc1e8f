from datetime import UTC, datetime, timedelta, timezone
from functools import partial
from typing import Any

import pytest
from sqlalchemy import Table, select

from mesh.db import Connection, Database
from mesh.errors import PoisonError
from mesh.rows import delete_rows, insert_if_absent, insert_rows, set_alike, set_by_key, upsert


async def stored(database: Database, items: Table) -> dict[str, dict[str, Any]]:
    async def body(connection: Connection) -> dict[str, dict[str, Any]]:
        return {row["id"]: dict(row) for row in (await connection.execute(select(items))).mappings()}

    return await database.transact("stored", body, read_only=True)


def row(name: str, amount: int, note: str | None = None, at: datetime | None = None) -> dict[str, Any]:
    return {"id": name, "amount": amount, "note": note, "at": at}


async def test_rows_come_back_as_they_were_given(database: Database, items: Table) -> None:
    noon = datetime(2026, 2, 3, 12, tzinfo=UTC)
    hostile = "'; DROP TABLE items; -- \\' \" %s ? \x00 \N{SNOWMAN}"
    rows = [
        row("a", 1, hostile, noon),
        row("b", 2, "", noon.replace(microsecond=1).astimezone(timezone(timedelta(hours=-7)))),
        row("c", 3),
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


async def test_set_alike_changes_those_that_are_what_they_may_be_and_counts_them(
    database: Database, items: Table
) -> None:
    rows = [row("a", 1, "open"), row("b", 1, "shut"), row("c", 1, "open")]
    await database.transact("first", lambda connection: insert_rows(connection, items, rows))

    async def body(connection: Connection) -> list[int]:
        only_open = {"note": ["open", "ajar"]}
        return [
            await set_alike(connection, items.c.id, ["b", "a", "ghost"], {"amount": 2}, where=only_open),
            # What is met counts, whether it changes or not.
            await set_alike(connection, items.c.id, ["a"], {"amount": 2}),
        ]

    assert await database.transact("set", body) == [1, 1]
    assert {name: each["amount"] for name, each in (await stored(database, items)).items()} == {"a": 2, "b": 1, "c": 1}


async def test_delete_rows_deletes_whole_keys_only(database: Database, items: Table) -> None:
    rows = [row("a", 1), row("b", 1), row("c", 2)]
    await database.transact("first", lambda connection: insert_rows(connection, items, rows))

    key = [items.c.id, items.c.amount]
    await database.transact(
        "delete", lambda connection: delete_rows(connection, key, [("a", 1), ("b", 2), ("ghost", 1)])
    )
    await database.transact("nothing", lambda connection: delete_rows(connection, key, []))

    assert set(await stored(database, items)) == {"b", "c"}
