"""SQLite without a thread: statements run inline, take virtual time, and fail as the faults say.

Only the connection is replaced. SQLAlchemy, its pool, the transactions and SQLite itself are real; the files are copies
of templates that Alembic has made. Writers queue in virtual time for the one lock that a SQLite file has.
"""

import asyncio
import shutil
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from random import Random
from typing import Any, Protocol

import aiosqlite
from sqlalchemy import Engine, event
from sqlalchemy.dialects.sqlite.aiosqlite import SQLiteDialect_aiosqlite

from tests.sim.log import Log
from tests.sim.loop import LIFE, Life
from tests.sim.witness import Witness

NAMES = ("inventory", "cart", "checkout", "psp")
# As long as SQLite's busy_timeout lets a writer wait in production.
_PATIENCE_S = 5.0
# How many of the statements within a transaction let others run meanwhile; how many of those that do are quick.
_WAITING = 0.2
_QUICK = 0.99
_PRAGMAS = {
    "PRAGMA busy_timeout = 5000": "PRAGMA busy_timeout = 0",
    "PRAGMA synchronous = FULL": "PRAGMA synchronous = OFF",
}


class DatabaseFaults(Protocol):
    """What may go wrong with a database. Each may also stop the node that asks, at exactly this point."""

    async def on_statement(self, database: str) -> None:
        """Raise what the statement fails with, if it does."""

    async def on_commit(self, database: str, statements: Sequence[str]) -> sqlite3.OperationalError | None:
        """Raise for a COMMIT that does not happen; answer an error for one that does, but is not answered."""

    async def on_committed(self, database: str) -> None:
        """The COMMIT has happened; nobody knows yet."""


class Storage:
    """The databases of one simulation: files in a folder, shared by all nodes, each with its one writer."""

    def __init__(self, folder: Path, *, rng: Random, log: Log, now: Callable[[], datetime]) -> None:
        self.folder = folder
        self.log = log
        self.now = now
        self.faults: DatabaseFaults | None = None
        self.connections: list[Connection] = []
        self.witness = Witness()
        self._rng = rng
        self._writers = {name: WriterLock(rng) for name in NAMES}

    def writer(self, name: str) -> "WriterLock":
        """The lock of a file."""
        return self._writers[name]

    def connect(self, path: str) -> "Connection":
        """A new connection of the node that asks."""
        return Connection(self, path)

    def kill(self, life: Life) -> None:
        """Cut the connections of a node that is dead: what it has not committed is rolled back."""
        for connection in [one for one in self.connections if one.life is life]:
            connection.cut()
        for lock in self._writers.values():
            lock.forget(life)

    def resumed(self) -> None:
        """A node goes on; if it waits for a lock it may have it now."""
        for lock in self._writers.values():
            lock.grant()

    async def take_time(self, *, always: bool = True) -> None:
        """Wait as long as a statement takes: a moment, now and then a long one. Only some matter to others."""
        draw = self._rng.random()
        if always or draw < _WAITING:
            await asyncio.sleep(0.0002 + 0.002 * draw if draw < _QUICK else self._rng.uniform(0.01, 0.3))


class WriterLock:
    """One writer at a time. Who gets it next is drawn, as it is by chance among processes that poll."""

    def __init__(self, rng: Random) -> None:
        self._rng = rng
        self.holder: Connection | None = None
        self._waiting: dict[Connection, asyncio.Future[None]] = {}

    async def acquire(self, connection: "Connection") -> None:
        """Wait for the lock, not for ever. Raises what SQLite raises then."""
        if self.holder is not None or self._waiting:
            self._waiting[connection] = asyncio.get_running_loop().create_future()
            self.grant()
            try:
                async with asyncio.timeout(_PATIENCE_S):
                    await self._waiting[connection]
            except TimeoutError:
                self.release(connection)
                raise failure("database is locked", sqlite3.SQLITE_BUSY) from None
            except asyncio.CancelledError:
                self.release(connection)
                raise
            finally:
                self._waiting.pop(connection, None)
        self.holder = connection

    def release(self, connection: "Connection") -> None:
        """Let the next one have it, if it was this one's."""
        if self.holder is connection:
            self.holder = None
        self.grant()

    def forget(self, life: Life) -> None:
        """A node is dead: it neither has nor wants the lock."""
        for connection in [one for one in self._waiting if one.life is life]:
            del self._waiting[connection]
        if self.holder is not None and self.holder.life is life:
            self.release(self.holder)

    def grant(self) -> None:
        """Give a free lock to one of those that wait and are able to take it."""
        able = [one for one, future in self._waiting.items() if one.runs and not future.done()]
        if self.holder is None and able:
            self.holder = self._rng.choice(able)
            self._waiting[self.holder].set_result(None)


class Connection(aiosqlite.Connection):
    """aiosqlite's connection without its thread."""

    def __init__(self, storage: Storage, path: str) -> None:
        super().__init__(lambda: sqlite3.connect(path), 64)
        self.life = LIFE.get(None)
        self.database = Path(path).stem
        self._storage = storage
        self._writer = storage.writer(self.database)
        self._statements: list[tuple[str, Any]] = []
        self._tx = _Inline()  # type: ignore[assignment]
        storage.connections.append(self)

    @property
    def runs(self) -> bool:
        """Whether the node that holds it runs."""
        return self.life is None or self.life.runs

    def __await__(self) -> Any:
        return self._connect().__await__()

    def __del__(self) -> None:
        """Nothing: whoever is killed closes nothing."""

    async def _connect(self) -> "Connection":
        await self._storage.take_time()
        self._connection = self._connector()
        if self.database == "checkout":
            self._storage.witness.watch(self._connection, "" if self.life is None else self.life.name)
        return self

    async def create_function(self, name: str, num_params: int, func: Any, deterministic: bool = False) -> None:  # noqa: ARG002, FBT001, FBT002
        """The database's clock is its own, not that of the node which connects."""
        self._conn.create_function(name, num_params, lambda: self._storage.now().strftime("%Y-%m-%d %H:%M:%S.%f"))

    async def close(self) -> None:
        """Close at once."""
        self.cut()

    def stop(self) -> None:
        """Close at once."""
        self.cut()

    def cut(self) -> None:
        """Roll back what is open, close, give up the lock."""
        self._running = False
        if self._connection is not None:
            self._connection.rollback()
            self._connection.close()
            self._connection = None
        if self in self._storage.connections:
            self._storage.connections.remove(self)
        self._writer.release(self)

    async def _execute(self, fn: Any, *args: Any, **kwargs: Any) -> Any:
        if self._connection is None:
            raise ValueError("Connection closed")
        kind = fn.__name__
        if kind in ("execute", "executemany"):
            return await self._run(fn, *args)
        if kind == "commit":
            return await self._commit()
        result = fn(*args, **kwargs)
        if kind == "rollback":
            self._writer.release(self)
        return result

    async def _run(self, fn: Any, sql: str, *parameters: Any) -> Any:
        if sql.startswith("PRAGMA"):
            return fn(_PRAGMAS.get(sql, sql))
        await self._storage.take_time(always=sql.startswith("BEGIN"))
        if sql == "BEGIN IMMEDIATE":
            await self._writer.acquire(self)
            self._statements = []
        if self._storage.faults is not None and self.life is not None:
            await self._storage.faults.on_statement(self.database)
        if self._connection is None:
            raise ValueError("Connection closed")
        self._statements.append((sql, parameters))
        return fn(sql, *parameters)

    async def _commit(self) -> None:
        faults = self._storage.faults if self.life is not None else None
        await self._storage.take_time()
        try:
            statements = [sql for sql, _ in self._statements]
            unanswered = await faults.on_commit(self.database, statements) if faults is not None else None
        except sqlite3.OperationalError:
            # As SQLite itself does when a COMMIT fails.
            self._conn.rollback()
            self._writer.release(self)
            raise
        before = self._conn.total_changes
        self._conn.commit()
        self._writer.release(self)
        self._storage.log.add(f"commit {self.database} {len(self._statements)}/{before}", self._statements)
        if faults is not None:
            await faults.on_committed(self.database)
        await self._storage.take_time()
        if unanswered is not None:
            raise unanswered


class _Inline:
    """Takes what SQLAlchemy would put into the thread's queue, and does it."""

    def put_nowait(self, item: tuple[asyncio.Future[Any], Callable[[], Any]]) -> None:
        """Do it now."""
        future, function = item
        future.set_result(function())


def failure(message: str, code: int) -> sqlite3.OperationalError:
    """An error as SQLite raises it."""
    error = sqlite3.OperationalError(message)
    error.sqlite_errorcode = code
    return error


def lost_connection() -> sqlite3.OperationalError:
    """The error that SQLAlchemy takes for a connection that is gone."""
    return sqlite3.OperationalError("connection closed")


@contextmanager
def driven_by(storage: Storage) -> Iterator[None]:
    """For as long as this lasts, every engine connects through `storage`."""

    def connect(dialect: Any, record: Any, arguments: list[Any], parameters: dict[str, Any]) -> None:
        parameters["async_creator_fn"] = lambda path, **_: storage.connect(path)

    event.listen(Engine, "do_connect", connect)
    try:
        yield
    finally:
        event.remove(Engine, "do_connect", connect)


@contextmanager
def shared_statements() -> Iterator[None]:
    """For as long as this lasts, what one engine has compiled serves all; SQLAlchemy keeps it per dialect and engine.

    A node that starts anew would spend most of its time compiling the same statements again.
    """
    cache: dict[Any, Any] = {}

    def share(connection: Any) -> None:
        connection.engine._compiled_cache = cache

    dialect: Any = SQLiteDialect_aiosqlite
    dialect.__eq__, dialect.__hash__ = (
        (lambda one, other: type(one) is type(other)),
        (lambda one: hash(type(one).__name__)),
    )
    event.listen(Engine, "engine_connect", share)
    try:
        yield
    finally:
        event.remove(Engine, "engine_connect", share)
        del dialect.__eq__, dialect.__hash__


def copy_templates(templates: Path, folder: Path) -> None:
    """Empty databases, with their schema, for one simulation."""
    for name in NAMES:
        shutil.copyfile(templates / f"{name}.db", folder / f"{name}.db")
