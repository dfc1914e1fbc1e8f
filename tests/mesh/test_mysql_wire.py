"""What is read from the buffer is what the driver would have read."""

import asyncio
import random
import uuid
from collections.abc import AsyncIterator
from typing import Any

import aiomysql
import pytest
from aiomysql.cursors import Cursor
from pymysql.constants import CR  # type: ignore[import-untyped]
from pymysql.err import MySQLError, OperationalError  # type: ignore[import-untyped]
from sqlalchemy.engine import make_url

from mesh.mysql import MySqlConnection
from mesh.mysql_wire import BufferedConnection

DATABASE = f"wire_{uuid.uuid4().hex}"
# Where the length of a value, or of a packet, is told in another way; and what does not fit into one packet.
LENGTHS = [0, 1, 249, 250, 251, 252, 0xFFFF, 0x10000, 0xFFFFFF - 5, 0xFFFFFF - 4, 0xFFFFFF]
STATEMENTS = [
    "SELECT 1 AS one, NULL AS nothing, '' AS empty, 'it''s \u2603' AS text, x'00FF' AS raw, 1.50, 2e0 AS near",
    "SELECT CAST('2026-02-03 04:05:06.000007' AS DATETIME(6)) AS at, DATE '2026-02-03' AS day, TIME '-12:00' AS span",
    "SELECT seq, IF(seq % 3, NULL, seq) AS third FROM seq_1_to_5000",
    "SELECT seq FROM seq_1_to_5 WHERE seq > 5",
    "SET @a = 1",
    "DO 1",
    f"SELECT {', '.join(f'{n} AS c{n}' for n in range(400))}",
]
WRONG = [
    "SELECT * FROM nowhere.nothing",
    "SELEKT 1",
    # The first rows are sent before it fails.
    "SELECT IF(seq < 50000, seq, (SELECT seq FROM seq_1_to_2)) FROM seq_1_to_50001",
]


async def opened(url: str, kind: type[aiomysql.Connection]) -> Any:
    to = make_url(url)
    connection = kind(host=to.host, port=to.port, user=to.username, password=to.password, autocommit=True)
    await connection._connect()
    await answers(connection, f"CREATE DATABASE IF NOT EXISTS {DATABASE}", f"USE {DATABASE}")
    return connection


@pytest.fixture
async def both(mariadb_url: str) -> AsyncIterator[tuple[Any, Any]]:
    """A connection that reads from a buffer, and the driver's own."""
    connections = [await opened(mariadb_url, kind) for kind in (BufferedConnection, aiomysql.Connection)]
    yield connections[0], connections[1]
    for connection in connections:
        connection.close()


async def answers(connection: Any, *statements: str) -> list[Any]:
    """All that there is to know of the answers to these statements, sent in one packet."""
    found = []
    cursor: Cursor = await connection.cursor()
    await cursor.execute(";".join(statements))
    while True:
        rows = await cursor.fetchall()
        found.append((cursor.description, rows, cursor.rowcount, cursor.lastrowid, connection._result.warning_count))
        if not await cursor.nextset():
            return found


@pytest.mark.parametrize("statement", STATEMENTS)
async def test_every_kind_of_answer_is_read_as_the_driver_reads_it(both: tuple[Any, Any], statement: str) -> None:
    ours, drivers = both

    # The second time the columns are known.
    for _ in range(2):
        assert await answers(ours, statement) == await answers(drivers, statement)


@pytest.mark.parametrize("length", LENGTHS)
async def test_a_value_of_any_length_is_read_whole(both: tuple[Any, Any], length: int) -> None:
    ours, _ = both

    [(_, [(before, value, after)], *_)] = await answers(ours, f"SELECT 'a', REPEAT('x', {length}), 'b'")

    assert (before, len(value), set(value), after) == ("a", length, {"x"} if length else set(), "b")


async def test_many_answers_to_one_packet_are_read_in_their_order(both: tuple[Any, Any]) -> None:
    chosen = random.Random(7).choices(STATEMENTS, k=40)  # noqa: S311 - which ones, no secret

    found = [await answers(connection, *chosen) for connection in both]

    assert found[0] == found[1]
    assert len(found[0]) == 40


async def test_writes_tell_how_many_rows_they_met_and_the_id_they_made(both: tuple[Any, Any]) -> None:
    found = []
    for connection in both:
        made = "CREATE OR REPLACE TABLE numbers (id BIGINT PRIMARY KEY AUTO_INCREMENT, n INT) AUTO_INCREMENT = 70000"
        more = "INSERT INTO numbers (n) SELECT seq FROM seq_1_to_300"
        found.append(
            await answers(connection, made, more, "UPDATE numbers SET n = 1 WHERE n > 3", "DELETE FROM numbers")
        )

    assert found[0] == found[1]
    assert [each[2:4] for each in found[0]] == [(0, 0), (300, 70000), (297, 0), (300, 0)]


@pytest.mark.parametrize("statement", WRONG)
async def test_an_error_is_the_drivers_and_leaves_the_connection_usable(both: tuple[Any, Any], statement: str) -> None:
    raised = []
    for connection in both:
        with pytest.raises(MySQLError) as caught:
            await answers(connection, "SELECT 1", statement)
        raised.append((type(caught.value), caught.value.args))

    assert raised[0] == raised[1]
    assert (await answers(both[0], "SELECT 2"))[0][1] == ((2,),)


async def test_a_connection_that_ends_in_the_middle_of_an_answer_is_lost(mariadb_url: str) -> None:
    connection = await opened(mariadb_url, MySqlConnection)

    with pytest.raises(OperationalError):
        await answers(connection, "SELECT 1", f"KILL CONNECTION {connection.thread_id()}", "SELECT 2")
    with pytest.raises(OperationalError) as caught:
        await answers(connection, "SELECT 3")

    assert caught.value.args[0] == CR.CR_SERVER_LOST
    assert connection.closed


async def test_who_is_cancelled_while_an_answer_comes_leaves_no_connection(mariadb_url: str) -> None:
    connection = await opened(mariadb_url, MySqlConnection)
    waiting = asyncio.create_task(answers(connection, "SELECT SLEEP(30)"))
    # No time: one turn of the loop, in which it asks and begins to wait. Were it not so, nothing would be closed below.
    await asyncio.sleep(0)

    waiting.cancel()

    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert connection.closed
