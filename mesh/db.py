"""Databases: one engine per service, one way to run a transaction, and all that differs between MySQL and SQLite.

Statements are SQLAlchemy Core and the same for both. What a dialect says in its own way stands here: the database's
clock, how transactions begin, which errors are worth a repetition. Writing many rows at once is in mesh.rows.
"""

import asyncio
import contextlib
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import DateTime, String, Text, event, select, text
from sqlalchemy.dialects import mysql
from sqlalchemy.engine import URL, Dialect
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError, InterfaceError, OperationalError, ProgrammingError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.types import TypeDecorator, TypeEngine

from mesh.clock import SYSTEM_CLOCK, Clock
from mesh.errors import ConflictError, PoisonError, unavailable
from mesh.failpoint import NO_STRIKE, FailpointError, Failpoints
from mesh.kept import KeptConnections
from mesh.mysql import MySqlConnection
from mesh.query import Query

T = TypeVar("T")
# What a transaction's body gets; only stores do more with it than hand it on.
Connection = AsyncConnection
Transaction = Callable[[AsyncConnection], Awaitable[T]]

# Deadlock, lock wait, query killed, record changed (Galera and snapshot reads), node not ready, connection lost or
# refused.
_TRANSIENT = {1213, 1205, 1317, 1020, 1047, 1040, 1053, 1927, 2002, 2003, 2006, 2013, 2014, 2055, 4031}
# Statement too slow, read-only server, disk full: away until somebody acts, nothing to repeat at once.
_AWAY = {1969, 3024, 1290, 1836, 1021, 1114, 1044, 1045, 1049, 1146, 3100}
_SQLITE_BUSY = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
_SQLITE_AWAY = (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN)
# How `set_alike_where` of mesh.rows fails on MySQL: a subquery there has more than one row.
_NOT_AS_THEY_SHOULD_BE = 1242
_KEY_TAKEN = 1062
_SQLITE_KEY_TAKEN = (sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY, sqlite3.SQLITE_CONSTRAINT_UNIQUE)
NOT_AS_THEY_SHOULD_BE = "rows are not as they should be"
_ATTEMPTS = 4
POOL_SIZE = 10
# How long a transaction waits for a connection.
_WAIT_S = 10.0
_MYSQL_SESSION = (
    "SET SESSION time_zone = '+00:00', innodb_lock_wait_timeout = 5, "
    "sql_mode = 'STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION,ERROR_FOR_DIVISION_BY_ZERO'"
)

# A hint for statements that lock many rows by primary key. Left to itself, MariaDB scans a small table for the rows of
# an UPDATE, and so asks for locks on rows that it does not name: that is how writers who lock in one order deadlock.
BY_PRIMARY_KEY = "FORCE INDEX (PRIMARY)"

# Ids, keys and SKUs: ASCII, compared byte for byte in both dialects.
ID = String(64).with_variant(mysql.VARCHAR(64, charset="ascii", collation="ascii_bin"), "mysql", "mariadb")
# Short words of our own, such as states and reasons.
WORD = String(64).with_variant(mysql.VARCHAR(64, charset="ascii", collation="ascii_bin"), "mysql", "mariadb")
# People's text of any length.
TEXT = Text().with_variant(mysql.MEDIUMTEXT(), "mysql", "mariadb")


class Utc(TypeDecorator[datetime]):
    """An aware UTC datetime with microseconds, whatever the database stores."""

    impl = DateTime
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """DATETIME(6) on MySQL, text that sorts by time on SQLite."""
        return dialect.type_descriptor(mysql.DATETIME(fsp=6) if dialect.name != "sqlite" else DateTime())

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002
        """Take the offset off; a naive value is a mistake of ours."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("a stored time must be aware")
        return value.astimezone(UTC).replace(tzinfo=None)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002
        """Put the offset back on."""
        return None if value is None else value.replace(tzinfo=UTC)


class db_now(FunctionElement[datetime]):  # noqa: N801 - reads as the SQL function that it is
    """The database's clock, for use inside statements. TTLs and leases use nothing else."""

    type = Utc()
    inherit_cache = True


@compiles(db_now)
def _(element: db_now, compiler: SQLCompiler, **kw: object) -> str:  # noqa: ARG001
    return "UTC_TIMESTAMP(6)"


@compiles(db_now, "sqlite")
def _(element: db_now, compiler: SQLCompiler, **kw: object) -> str:  # noqa: ARG001
    return "mesh_now()"


# The database's clock as one more column of what is read anyway, for `now_of`.
NOW = db_now().label("now")
_NOW = Query(select(NOW))


async def now(connection: AsyncConnection) -> datetime:
    """The database's clock, aware UTC."""
    at: datetime = (await _NOW.rows(connection))[0].now
    return at


async def now_of(connection: AsyncConnection, rows: Sequence[Any]) -> datetime:
    """The database's clock when it read these rows, which have NOW as a column; asked for if there are none."""
    at: datetime = rows[0].now if rows else await now(connection)
    return at


class Database:
    """One service's database. `transact` is the only way in."""

    def __init__(
        self,
        engine: AsyncEngine,
        *,
        clock: Clock,
        failpoints: Failpoints | None = None,
        reads: AsyncEngine | None = None,
        pool_size: int = POOL_SIZE,
    ) -> None:
        """`reads` is for what only reads; by default it is the same engine. Each has `pool_size` connections."""
        self._engine = engine
        self._reads = reads or engine
        # Whoever waits in the pool itself is not told when a connection could not be made, and waits to the end.
        self._slots = asyncio.Semaphore(pool_size)
        self._read_slots = self._slots if reads is None else asyncio.Semaphore(pool_size)
        self._clock = clock
        self._failpoints = failpoints
        self._embedded = engine.dialect.name == "sqlite"
        self._kept = KeptConnections(self._engine, clock)
        self._kept_reads = KeptConnections(self._reads, clock)
        # SQLite has one writer; queueing here is fair and cheaper than spinning on its lock.
        self._writer = asyncio.Lock()
        self._tasks: set[asyncio.Task[Any]] = set()

    @property
    def dialect(self) -> str:
        """`sqlite`, `mysql` or `mariadb`."""
        return self._engine.dialect.name

    async def transact(
        self,
        name: str,
        body: Transaction[T],
        *,
        read_only: bool = False,
        believing: Transaction[T] | None = None,
        own_task: bool = True,
    ) -> T:
        """Run `body` in one transaction and commit it; return what it returned, only after COMMIT.

        `believing` does the same without a look at what stands, and is run first, once. Where something is not as it
        believes it raises ConflictError, and the body is run; also where it may have come about already.

        The body may run more than once (deadlock, lost connection, unknown COMMIT), so everything it writes is keyed.
        It runs in a task of its own: a caller that is cancelled leaves no half transaction behind. Who cannot be, such
        as the flush of a batch, does without. Raises PoisonError when the database refuses the data, Failure
        UNAVAILABLE when it is away, else what the body raised.
        """
        if believing is None:
            work = self._repeat(name, body, read_only=read_only)
        else:
            work = self._believe_or_look(name, believing, body)
        if not own_task:
            return await work
        task = asyncio.create_task(work, name=f"transact {name}")
        self._tasks.add(task)
        task.add_done_callback(self._forget)
        return await asyncio.shield(task)

    async def close(self) -> None:
        """Wait for the transactions under way, then close every connection."""
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for kept in (self._kept, self._kept_reads):
            await kept.close()
        for engine in (self._engine, self._reads):
            await engine.dispose()

    async def _believe_or_look(self, name: str, believing: Transaction[T], looking: Transaction[T]) -> T:
        looks = False

        async def body(connection: AsyncConnection) -> T:
            nonlocal looks
            if looks:
                return await looking(connection)
            looks = True
            return await believing(connection)

        try:
            return await self._repeat(name, body, read_only=False)
        except ConflictError:
            return await self._repeat(name, looking, read_only=False)

    async def _repeat(self, name: str, body: Transaction[T], *, read_only: bool) -> T:
        for attempt in range(_ATTEMPTS):
            try:
                if self._failpoints is None:
                    return await self._once(body, read_only=read_only)
                return await self._struck(self._failpoints, name, body, read_only=read_only)
            except (IntegrityError, DataError, OperationalError, InterfaceError, ProgrammingError) as error:
                if (refused := _refusal(error)) is not None:
                    raise refused from error
                if _is_away(error) or attempt == _ATTEMPTS - 1:
                    raise unavailable("DATABASE_UNAVAILABLE", "The database is not available.") from error
                if not _is_transient(error):
                    raise
            except (PoolTimeoutError, OSError) as error:
                raise unavailable("DATABASE_UNAVAILABLE", "The database is not available.") from error
            await asyncio.sleep(self._clock.uniform(0.01, 0.05) * 2**attempt)
        raise AssertionError("unreachable")

    async def _once(self, body: Transaction[T], *, read_only: bool) -> T:
        if self._embedded:
            async with self._embedded_transaction(read_only=read_only) as connection:
                return await body(connection)
        if read_only and self._reads is not self._engine:
            async with _slot(self._read_slots):
                return await self._kept_reads.read(body)
        async with _slot(self._slots):
            return await self._kept.run(body)

    @contextlib.asynccontextmanager
    async def _embedded_transaction(self, *, read_only: bool) -> AsyncIterator[AsyncConnection]:
        if read_only:
            async with _slot(self._slots), self._engine.connect() as connection:
                yield await connection.execution_options(mesh_read_only=True)
        else:
            async with self._writer, _slot(self._slots), self._engine.connect() as connection, _transaction(connection):
                yield connection

    async def _struck(self, failpoints: Failpoints, name: str, body: Transaction[T], *, read_only: bool) -> T:
        point = f"transact.{name}"
        strike = NO_STRIKE

        async def about_to_commit(connection: AsyncConnection) -> T:
            nonlocal strike
            result = await body(connection)
            # Not sooner: what believed wrongly may never get here.
            strike = failpoints.hit(point)
            await strike.before()
            return result

        try:
            try:
                result = await self._once(about_to_commit, read_only=read_only)
            except DBAPIError:
                # Or it gets here, and its COMMIT tells.
                if strike is not NO_STRIKE:
                    failpoints.miss(point)
                raise
            return await strike.after(result, partial(self._once, body, read_only=read_only))
        except FailpointError as error:
            # A connection that broke: before COMMIT, or before the answer to it came.
            raise OperationalError("COMMIT", None, error, connection_invalidated=True) from error

    def _forget(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            # Mark it as seen: a caller that was cancelled will not ask.
            task.exception()


@contextlib.asynccontextmanager
async def _transaction(connection: AsyncConnection) -> AsyncIterator[None]:
    """A transaction that is committed in the end, or rolled back."""
    transaction = await connection.begin()
    try:
        yield
    except BaseException:
        try:
            await transaction.rollback()
        except Exception:  # noqa: BLE001 - whatever it is, what the body raised says more
            await connection.invalidate()
        raise
    try:
        await transaction.commit()
    except BaseException:
        # It may still be open, with writes that the next one on this connection would commit.
        await connection.invalidate()
        raise


class _slot:  # noqa: N801 - reads as the context manager that it is
    """Wait for a connection to be free. Raises TimeoutError when that takes too long."""

    # A class, since every transaction passes here: it costs less than half of a generator.
    def __init__(self, slots: asyncio.Semaphore) -> None:
        self._slots = slots

    async def __aenter__(self) -> None:
        # Free most of the time, and then not worth a timer.
        if self._slots.locked():
            async with asyncio.timeout(_WAIT_S):
                await self._slots.acquire()
        else:
            await self._slots.acquire()

    async def __aexit__(self, *_: object) -> None:
        self._slots.release()


async def open_database(
    url: URL, *, clock: Clock = SYSTEM_CLOCK, failpoints: Failpoints | None = None, pool_size: int = POOL_SIZE
) -> Database:
    """The database at `url`, which must exist (see `create_database`). No connection is opened by this."""
    engine = open_engine(url, clock=clock, pool_size=pool_size)
    reads = None if engine.dialect.name == "sqlite" else _mysql_reads(url, pool_size)
    return Database(engine, clock=clock, failpoints=failpoints, reads=reads, pool_size=pool_size)


def open_engine(url: URL, *, clock: Clock = SYSTEM_CLOCK, pool_size: int = POOL_SIZE) -> AsyncEngine:
    """The engine behind a Database, for what runs outside of one, such as migrations."""
    if url.get_backend_name() == "sqlite":
        return _sqlite_engine(url, clock, pool_size)
    return _mysql_engine(url, pool_size)


async def create_database(url: URL) -> None:
    """Make the database that `url` names unless it exists. For SQLite, its folder. Idempotent."""
    if url.get_backend_name() == "sqlite":
        # Passwords' hashes and signing keys will lie there.
        Path(str(url.database)).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        return
    engine = create_async_engine(url.set(database=""), isolation_level="AUTOCOMMIT")
    try:
        async with engine.connect() as connection:
            name = engine.dialect.identifier_preparer.quote_identifier(str(url.database))
            await connection.execute(text(f"CREATE DATABASE IF NOT EXISTS {name} CHARACTER SET utf8mb4"))
    finally:
        await engine.dispose()


def _sqlite_engine(url: URL, clock: Clock, pool_size: int) -> AsyncEngine:
    engine = create_async_engine(
        url, pool_size=pool_size, max_overflow=0, pool_timeout=_WAIT_S, pool_reset_on_return=None
    )

    @event.listens_for(engine.sync_engine, "connect")
    def prepare(connection: Any, _: object) -> None:
        # The driver's own transaction control is off: BEGIN is ours, see below.
        connection.isolation_level = None
        connection.create_function("mesh_now", 0, lambda: clock.now().strftime("%Y-%m-%d %H:%M:%S.%f"))
        cursor = connection.cursor()
        # FULL: an acknowledged COMMIT has reached the disk.
        for pragma in ("busy_timeout = 5000", "journal_mode = WAL", "synchronous = FULL", "foreign_keys = ON"):
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    @event.listens_for(engine.sync_engine, "begin")
    def begin(connection: Any) -> None:
        read_only = connection.get_execution_options().get("mesh_read_only", False)
        connection.exec_driver_sql("BEGIN" if read_only else "BEGIN IMMEDIATE")

    return engine


def _mysql_engine(url: URL, pool_size: int, **options: Any) -> AsyncEngine:
    return create_async_engine(
        url,
        pool_size=pool_size,
        max_overflow=0,
        pool_timeout=_WAIT_S,
        pool_recycle=1800,
        # Every transaction ends before its connection goes back: another ROLLBACK there would be a trip for nothing.
        pool_reset_on_return=None,
        connect_args={
            "init_command": _MYSQL_SESSION,
            "connect_timeout": 5,
            "charset": "utf8mb4",
            "async_creator_fn": MySqlConnection.open,
        },
        **{"isolation_level": "READ COMMITTED", **options},
    )


def _mysql_reads(url: URL, pool_size: int) -> AsyncEngine:
    # At READ COMMITTED each statement sees what is committed when it begins, in a transaction or not; without one there
    # is none to end, which would be a trip to the server for each read.
    return _mysql_engine(url, pool_size, isolation_level="AUTOCOMMIT", skip_autocommit_rollback=True)


def _number(error: DBAPIError) -> int:
    arguments = getattr(error.orig, "args", ())
    return arguments[0] if arguments and isinstance(arguments[0], int) else 0


def _sqlite_code(error: DBAPIError) -> int:
    # Extended codes carry the primary one in their low byte.
    return getattr(error.orig, "sqlite_errorcode", 0) & 0xFF


def _is_transient(error: DBAPIError) -> bool:
    return error.connection_invalidated or _number(error) in _TRANSIENT or _sqlite_code(error) in _SQLITE_BUSY


def _is_away(error: DBAPIError) -> bool:
    return _number(error) in _AWAY or _sqlite_code(error) in _SQLITE_AWAY


def _refusal(error: DBAPIError) -> PoisonError | None:
    """What it means if the database refuses what was to be written; None if something else is the matter."""
    number = _number(error)
    if number == _NOT_AS_THEY_SHOULD_BE:
        return ConflictError(NOT_AS_THEY_SHOULD_BE)
    if number == _KEY_TAKEN or getattr(error.orig, "sqlite_errorcode", 0) in _SQLITE_KEY_TAKEN:
        return ConflictError(str(error.orig))
    # MariaDB's CHECK, MySQL's, and what is larger than a packet may be. PyMySQL files all under OperationalError.
    if isinstance(error, IntegrityError | DataError) or number in {4025, 3819, 1153}:
        return PoisonError(str(error.orig))
    return None
