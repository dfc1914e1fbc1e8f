from collections.abc import AsyncIterator
from functools import partial

import pytest
from sqlalchemy import text
from sqlalchemy.engine import URL
from sqlalchemy.ext.asyncio import AsyncConnection

from cart_service import store
from cart_service.domain import AddItem, Cart, ClearCart, Command, RemoveItem, Settle
from mesh.db import Database, open_database


@pytest.fixture
async def database(database_url: URL) -> AsyncIterator[Database]:
    database = await open_database(database_url)
    yield database
    await database.close()


def add(cart_id: str, sku: str, key: str, quantity: int = 1) -> AddItem:
    return AddItem(cart_id, "ann", sku, quantity, key=key, available=100)


async def write(database: Database, *commands: Command) -> list[Cart]:
    outcomes = await database.transact("write", partial(store.write, commands=commands))
    return [outcome for outcome in outcomes if isinstance(outcome, Cart)]


async def read(database: Database, *cart_ids: str) -> dict[str, Cart]:
    return await database.transact("read", partial(store.read, cart_ids=cart_ids), read_only=True)


async def test_what_is_written_is_read_back_equal(database: Database) -> None:
    *_, first = await write(database, add("c1", "pear", "k1"), add("c1", "apple", "k2", 3), add("c1", "pear", "k3"))
    [second] = await write(database, add("c2", "fig", "k1"))

    carts = await read(database, "c1", "c2", "c3")

    assert carts == {"c1": first, "c2": second}
    assert list(carts["c1"].lines) == ["pear", "apple"]


async def test_skus_are_compared_byte_for_byte(database: Database) -> None:
    *_, cart = await write(database, add("c1", "Apple", "k1"), add("c1", "apple", "k2"))

    assert set(cart.lines) == {"Apple", "apple"}
    assert await read(database, "c1") == {"c1": cart}


async def test_writing_a_batch_again_whose_commit_was_unknown_changes_nothing(database: Database) -> None:
    batch = (add("c1", "apple", "k1", 3), add("c1", "pear", "k2"), Settle("c1", "o1", {"apple": 1}))
    *_, cart = await write(database, *batch)

    await write(database, *batch)

    assert await read(database, "c1") == {"c1": cart}


async def test_a_transaction_that_is_rolled_back_leaves_nothing(database: Database) -> None:
    async def body(connection: AsyncConnection) -> None:
        await store.write(connection, [add("c1", "apple", "k1")])
        raise KeyError("c1")

    with pytest.raises(KeyError):
        await database.transact("write", body)

    assert await read(database, "c1") == {}


async def test_more_lines_go_at_once_than_a_statement_takes_parameters(database: Database) -> None:
    cart_ids = [f"c{n}" for n in range(60)]
    await write(database, *(add(cart_id, f"s{n}", f"k{n}") for cart_id in cart_ids for n in range(180)))

    await write(database, *(ClearCart(cart_id, "ann") for cart_id in cart_ids))

    assert not any(cart.lines for cart in (await read(database, *cart_ids)).values())


@pytest.mark.parametrize("database_url", ["mariadb"], indirect=True)
async def test_a_batch_of_any_size_takes_the_same_few_statements(database: Database) -> None:
    async def statements(connection: AsyncConnection) -> int:
        status = await connection.execute(text("SHOW SESSION STATUS LIKE 'Questions'"))
        return int(status.one()[1])

    async def cost(connection: AsyncConnection, commands: list[Command]) -> int:
        before = await statements(connection)
        await store.write(connection, commands)
        return await statements(connection) - before

    def batch(size: int) -> list[Command]:
        settled = [Settle(f"c{n}", f"o{size}-{n}", {"pear": 1}) for n in range(size)]
        removed = [RemoveItem(f"c{n}", "ann", "fig") for n in range(size)]
        return [*(add(f"c{n}", "apple", f"k{size}-{n}") for n in range(size)), *settled, *removed]

    await write(database, *(add(f"c{n}", sku, sku) for n in range(100) for sku in ("pear", "fig")))

    few = await database.transact("write", partial(cost, commands=batch(1)))
    many = await database.transact("write", partial(cost, commands=batch(100)))

    assert many == few
    assert many <= 12
