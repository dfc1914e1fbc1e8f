import asyncio
import contextlib
import signal
import sys
import time
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import pytest
from google.protobuf.wrappers_pb2 import StringValue
from sqlalchemy import Table, update
from sqlalchemy.engine import URL
from sqlalchemy.ext.asyncio import AsyncConnection

from mesh.auth import ServiceCredential
from mesh.channel import Calls, open_channel
from mesh.db import Database, open_database
from mesh.errors import ConfigError, Failure, Kind
from mesh.failpoint import FailpointError, Failpoints, Mode, around, from_environment
from mesh.rows import insert_if_absent, insert_rows
from tests.mesh.conftest import make_table
from tests.mesh.echo import SECRET, Echo, method, served


def struck(failpoints: Failpoints, name: str, hits: int) -> list[int]:
    """At which hits it strikes."""
    return [number for number in range(1, hits + 1) if failpoints.hit(name).mode is not None]


@pytest.mark.parametrize(
    ("when", "hits"),
    [("", [1]), ("@3", [3]), ("@2x3", [2, 3, 4]), ("@*", [1, 2, 3, 4, 5, 6]), ("@5x*", [5, 6])],
)
def test_it_strikes_at_the_hits_that_are_named(when: str, hits: list[int]) -> None:
    assert struck(Failpoints(f"transact.a=error{when}"), "transact.a", 6) == hits


def test_each_failpoint_counts_its_own_hits_and_others_are_left_alone() -> None:
    failpoints = Failpoints("transact.write carts=delay:2.5@2, call.Reserve=time_out")

    assert failpoints.hit("transact.write carts").mode is None
    assert failpoints.hit("call.Reserve").mode is Mode.TIME_OUT
    assert failpoints.hit("call.Commit").mode is None
    assert failpoints.hit("transact.write carts").seconds == 2.5


@pytest.mark.parametrize("text", ["a", "a=explode", "a=error@x", "a=error@1x", "=error", "a=error@1@2", "a=delay:"])
def test_a_text_that_cannot_be_read_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="SHOP_TEST_FAILPOINTS"):
        Failpoints(text)


def test_without_the_variable_there_are_no_failpoints() -> None:
    assert from_environment({}) is None
    assert from_environment({"SHOP_TEST_FAILPOINTS": ""}) is None


def test_a_file_arms_afresh_when_it_is_replaced_and_tells_what_was_hit(tmp_path: Path) -> None:
    file = tmp_path / "armed"
    file.write_text("")
    failpoints = from_environment({"SHOP_TEST_FAILPOINTS": f"@{file}"})
    assert failpoints is not None
    assert struck(failpoints, "a", 3) == []

    for _ in range(2):
        replacement = tmp_path / "next"
        replacement.write_text("a=error@2\n")
        replacement.replace(file)
        assert struck(failpoints, "a", 3) == [2]

    # Nobody was struck: whoever hits is told, and does it.
    assert (tmp_path / "armed.log").read_text().split() == [*"aaa", *"aa", *"aa"]


@pytest.mark.parametrize("mode", [Mode.ERROR, Mode.DELAY, Mode.DUPLICATE, Mode.TIME_OUT])
async def test_a_file_tells_of_a_strike_as_it_strikes(tmp_path: Path, mode: Mode) -> None:
    file = tmp_path / "armed"
    file.write_text(f"a={mode}" + ":0" * (mode is Mode.DELAY))
    failpoints = from_environment({"SHOP_TEST_FAILPOINTS": f"@{file}"})

    with contextlib.suppress(FailpointError):
        await around(failpoints, "a", partial(asyncio.sleep, 0))
    await around(failpoints, "a", partial(asyncio.sleep, 0))

    assert (tmp_path / "armed.log").read_text().split() == [f"a={mode}", "a"]


# --- transactions


@pytest.fixture
async def rows(database_url: URL, items: Table) -> AsyncIterator["Rows"]:
    await make_table(database_url, items)
    rows = Rows(database_url, items)
    yield rows
    await rows.close()


class Rows:
    """A transaction that adds one to a row, which it makes if need be."""

    def __init__(self, url: URL, items: Table) -> None:
        self._url = url
        self._items = items
        self._databases: list[Database] = []
        self.bodies = 0

    async def add(self, failpoints: str) -> int:
        return await (await self._open(failpoints)).transact("add", self._body)

    async def add_new(self, failpoints: str) -> int:
        """As add, believing that the row is new."""
        return await (await self._open(failpoints)).transact("add", self._body, believing=self._new)

    async def close(self) -> None:
        for database in self._databases:
            await database.close()

    async def _open(self, failpoints: str) -> Database:
        database = await open_database(self._url, failpoints=Failpoints(failpoints))
        self._databases.append(database)
        return database

    async def _new(self, connection: AsyncConnection) -> int:
        await insert_rows(connection, self._items, [{"id": "a", "amount": 1}])
        return 1

    async def _body(self, connection: AsyncConnection) -> int:
        self.bodies += 1
        await insert_if_absent(connection, self._items, [{"id": "a", "amount": 0}])
        await connection.execute(update(self._items).values(amount=self._items.c.amount + 1))
        return int((await connection.execute(self._items.select())).one().amount)


async def test_a_transaction_that_fails_is_rolled_back_and_run_again(rows: Rows) -> None:
    assert await rows.add("transact.add=error") == 1
    assert rows.bodies == 2


async def test_a_transaction_that_fails_for_long_is_unavailable_and_leaves_nothing(rows: Rows) -> None:
    with pytest.raises(Failure) as caught:
        await rows.add("transact.add=error@*")

    assert (caught.value.kind, caught.value.reason) == (Kind.UNAVAILABLE, "DATABASE_UNAVAILABLE")
    assert await rows.add("") == 1


async def test_a_transaction_whose_commit_is_not_answered_has_happened_and_is_run_again(rows: Rows) -> None:
    assert await rows.add("transact.add=time_out") == 2


async def test_a_doubled_transaction_commits_twice_and_its_last_answer_counts(rows: Rows) -> None:
    assert await rows.add("transact.add=duplicate") == 2


async def test_what_believed_wrongly_did_not_happen_and_what_happens_instead_is_struck(rows: Rows) -> None:
    await rows.add("")

    assert await rows.add_new("transact.add=time_out") == 3


async def test_a_delayed_transaction_commits_later(rows: Rows) -> None:
    started = time.monotonic()

    assert await rows.add("transact.add=delay:0.3") == 1
    assert time.monotonic() - started >= 0.3


_CRASHING = """
import asyncio, sys
from sqlalchemy import text
from sqlalchemy.engine import make_url
from mesh.db import open_database
from mesh.failpoint import Failpoints

async def main():
    database = await open_database(make_url(sys.argv[1]), failpoints=Failpoints(sys.argv[2]))
    await database.transact("add", lambda connection: connection.execute(text("UPDATE items SET amount = amount + 1")))

asyncio.run(main())
"""


@pytest.mark.parametrize(("mode", "amount"), [("crash_before", 2), ("crash_after", 3)])
async def test_a_crash_is_a_sigkill_on_either_side_of_commit(
    rows: Rows, database_url: URL, mode: str, amount: int
) -> None:
    await rows.add("")
    url = database_url.render_as_string(hide_password=False)
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", _CRASHING, url, f"transact.add={mode}")

    assert await process.wait() == -signal.SIGKILL
    assert await rows.add("") == amount


# --- calls


class Wire:
    """Calls an echo, and counts what arrives there."""

    def __init__(self) -> None:
        self.arrived = 0

    async def call(self, failpoints: str) -> str:
        async with served(Echo(self._answer)) as address, open_channel(address, "{}") as channel:
            calls = Calls(ServiceCredential("test", SECRET), failpoints=Failpoints(failpoints))
            return str((await calls(method(channel, "Public"), StringValue(value="x"))).value)

    async def _answer(self, value: str) -> str:
        self.arrived += 1
        return f"{value}{self.arrived}"


@pytest.mark.parametrize(
    ("mode", "kind", "arrived"),
    [("error", Kind.UNAVAILABLE, 0), ("time_out", Kind.DEADLINE_EXCEEDED, 1)],
)
async def test_a_call_that_fails_does_so_in_grpcs_words(mode: str, kind: Kind, arrived: int) -> None:
    wire = Wire()

    with pytest.raises(Failure) as caught:
        await wire.call(f"call.StringValue={mode}")

    assert (caught.value.kind, caught.value.reason) == (kind, f"UPSTREAM_{kind.name}")
    assert wire.arrived == arrived


async def test_a_doubled_call_arrives_twice_and_its_last_answer_counts() -> None:
    assert await Wire().call("call.StringValue=duplicate") == "x2"


# --- no cost


async def test_without_failpoints_a_call_is_made_as_it_is() -> None:
    async def answer() -> str:
        return "made"

    assert await around(None, "anything", answer) == "made"
    assert await around(Failpoints("anything=error"), "another", partial(answer)) == "made"
