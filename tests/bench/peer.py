"""What the peers share: connections of the plain driver, set up like those of the mesh."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable

import aiomysql

# As many as a careful person gives one process.
CONNECTIONS = 32
_SESSION = (
    "SET SESSION time_zone = '+00:00', innodb_lock_wait_timeout = 5, tx_isolation = 'READ-COMMITTED',"
    " sql_mode = 'STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION,ERROR_FOR_DIVISION_BY_ZERO'"
)


class Pool:
    """Open connections, each with its one cursor; who comes when all are taken waits for its turn."""

    def __init__(self, connections: list[aiomysql.Connection], cursors: list[aiomysql.Cursor]) -> None:
        self._idle = list(zip(connections, cursors, strict=True))
        # A queue of connections would let those pass who have one and want one again.
        self._turn = asyncio.Semaphore(len(self._idle))

    async def commit(self, work: Callable[[aiomysql.Cursor], Awaitable[bool]]) -> bool:
        """Do the work in one transaction and commit it, if it answers True; else roll it back."""
        async with self._turn:
            connection, cursor = self._idle.pop()
            try:
                done = await work(cursor)
                await (connection.commit() if done else connection.rollback())
                return done
            finally:
                self._idle.append((connection, cursor))


@contextlib.asynccontextmanager
async def connected(port: int, database: str, *, number: int = CONNECTIONS) -> AsyncIterator[Pool]:
    """So many connections to a database of the bench."""
    connections = [
        await aiomysql.connect(
            host="127.0.0.1",
            port=port,
            user="shop",
            password="shop",
            db=database,
            charset="utf8mb4",
            init_command=_SESSION,
        )
        for _ in range(number)
    ]
    try:
        yield Pool(connections, [await connection.cursor() for connection in connections])
    finally:
        for connection in connections:
            connection.close()
