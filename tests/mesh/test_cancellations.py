"""Whoever waits may stop waiting at any await: nothing is half done, nothing is left, nobody else notices."""

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from typing import Any

import pytest
from google.protobuf.wrappers_pb2 import StringValue
from sqlalchemy import Table, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from mesh.auth import Authenticator, ServiceCredential
from mesh.batch import Batcher
from mesh.cache import RedisCache
from mesh.channel import Calls, open_channel
from mesh.db import Database
from tests.mesh.echo import SECRET, Echo, method, no_keys, served
from tests.support.cancelling import Baseline, at_every_point


class Slow:
    """A flush that takes a few turns of the loop, and notes what it wrote."""

    def __init__(self) -> None:
        self.written: list[str] = []

    async def __call__(self, items: Sequence[str]) -> list[str]:
        for _ in range(3):
            await asyncio.sleep(0)
        self.written += items
        return [f"done {item}" for item in items]


@pytest.fixture
async def lane() -> AsyncIterator[tuple[Batcher[str, str], Slow]]:
    slow = Slow()
    batcher: Batcher[str, str] = Batcher("test", slow, max_items=3)
    yield batcher, slow
    await batcher.close()


@pytest.mark.survives("cancelled-at-every-await")
@pytest.mark.parametrize("many", [False, True], ids=["submit", "submit_many"])
@pytest.mark.parametrize("turns", range(8))
async def test_batch_mates_are_answered_whenever_one_gives_up(
    lane: tuple[Batcher[str, str], Slow], *, many: bool, turns: int
) -> None:
    batcher, slow = lane
    baseline = Baseline()
    mates = [asyncio.create_task(batcher.submit(f"before {n}")) for n in range(4)]
    call = batcher.submit_many(["a", "b"]) if many else batcher.submit("a")
    quitter = asyncio.ensure_future(call)
    mates += [asyncio.create_task(batcher.submit(f"behind {n}")) for n in range(4)]
    # After so many turns of the loop it waits in the queue, is in flight, or is answered and does not know it yet.
    for _ in range(turns):
        await asyncio.sleep(0)
    quitter.cancel()

    answers = await asyncio.gather(*mates)

    assert answers == [f"done {when} {n}" for when in ("before", "behind") for n in range(4)]
    assert quitter.cancelled()
    assert set(slow.written) >= {answer.removeprefix("done ") for answer in answers}
    await baseline.restored()


@pytest.mark.survives("cancelled-at-every-await")
async def test_a_transaction_is_whole_wherever_its_caller_gives_up(database: Database, items: Table) -> None:
    baseline = Baseline()

    numbers = itertools.count()

    async def transfer(connection: AsyncConnection) -> None:
        number = next(numbers)
        await connection.execute(insert(items), [{"id": f"from {number}", "amount": 1}])
        await asyncio.sleep(0)
        await connection.execute(insert(items), [{"id": f"to {number}", "amount": 1}])

    points = await at_every_point(lambda: database.transact("both", transfer))

    await baseline.restored()
    assert points >= 1
    # Its task is its own: it finishes, and commits.
    expected = {f"{side} {number}" for side in ("from", "to") for number in range(points + 1)}
    assert await ids(database, items) == expected


async def test_a_call_that_is_given_up_leaves_nothing_behind() -> None:
    async with served(Echo(), authenticator=Authenticator(SECRET, no_keys)) as address:
        channel = open_channel(address, "{}")
        calls = Calls(ServiceCredential("tests", SECRET))
        await calls(method(channel, "Service"), StringValue(value="first"))
        baseline = Baseline()

        points = await at_every_point(lambda: calls(method(channel, "Service"), StringValue(value="a")))

        await baseline.restored()
        assert points >= 1
        assert (await calls(method(channel, "Service"), StringValue(value="last"))).value == "last"
        await channel.close()


@pytest.mark.parametrize("name", ["get_many", "set_many", "delete_many"])
async def test_a_cache_that_was_given_up_on_answers_nobody_else_wrongly(redis_url: str, name: str) -> None:
    cache = RedisCache(redis_url)
    values = {f"test {number}": b"%d" % number for number in range(50)}
    await cache.set_many(values, ttl_s=60)
    baseline = Baseline()
    use: dict[str, Callable[[], Coroutine[Any, Any, object]]] = {
        "get_many": lambda: cache.get_many(["test 1", "test 2"]),
        "set_many": lambda: cache.set_many({"test 3": values["test 3"]}, ttl_s=60),
        "delete_many": lambda: cache.delete_many(["no such"]),
    }

    points = await at_every_point(use[name])

    assert points >= 1
    # An answer that nobody took must not be taken for that of the next question.
    for key, value in values.items():
        assert await cache.get_many([key]) == {key: value}
    await baseline.restored()
    await cache.close()


async def ids(database: Database, items: Table) -> set[str]:
    async def body(connection: AsyncConnection) -> set[str]:
        return set((await connection.execute(select(items.c.id))).scalars())

    return await database.transact("ids", body, read_only=True)
