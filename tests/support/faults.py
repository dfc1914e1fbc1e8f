"""Databases that fail on demand: a driver's error raised in the place of a statement, or after it.

On SQLite at the engine's own hook; on MySQL where the driver sends, since several statements may travel together there.
"""

import sqlite3
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import pymysql  # type: ignore[import-untyped]
from sqlalchemy import event

from mesh.db import Database
from mesh.mysql import MySqlConnection

# Who is to fail: asked with the statement and its parameters, which on MySQL stand in the statement.
Choose = Callable[[str, Any], bool]


@dataclass
class Faults:
    """Fails statements of a database while `chosen` says so, with `error`; counts statements and transactions."""

    error: Exception = field(default_factory=lambda: Exception("no error was chosen"))
    chosen: Choose = lambda _, __: False
    # Whether the statement has its effect before it fails.
    executes: bool = False
    statements: int = 0
    transactions: int = 0
    raised: int = 0

    def attach(self, database: Database) -> None:
        """From now on, decide on every statement of this database."""
        database._once = partial(self._counted, database._once)  # type: ignore[method-assign]
        for engine in {database._engine.sync_engine, database._reads.sync_engine}:
            if database.dialect == "sqlite":
                event.listen(engine, "do_execute", self._do_execute)
                event.listen(engine, "do_executemany", self._do_executemany)
            else:
                event.listen(engine, "checkout", lambda made, *_: self._watch(made.driver_connection))
        for kept in (*database._kept._idle, *database._kept_reads._idle):
            self._watch(kept.driver)

    def at(self, number: int, error: Exception, *, executes: bool = False) -> None:
        """Fail the statement with this number, counted from 0 and from now, once."""
        self.statements, self.raised, self.error, self.executes = 0, 0, error, executes
        self.chosen = lambda _, __: self.statements == number + 1 and not self.raised

    def always(self, error: Exception, chosen: Choose = lambda _, __: True) -> None:
        """Fail these statements from now on."""
        self.transactions, self.error, self.executes, self.chosen = 0, error, False, chosen

    def over(self) -> None:
        """Fail nothing more, and count from 0."""
        self.statements, self.transactions, self.chosen = 0, 0, lambda _, __: False

    async def _counted(self, once: Callable[..., Awaitable[Any]], *body: Any, **options: Any) -> Any:
        self.transactions += 1
        return await once(*body, **options)

    def _do_execute(self, cursor: Any, statement: str, parameters: Any, _: Any) -> bool:
        return self._decide(lambda: cursor.execute(statement, parameters), statement, parameters)

    def _do_executemany(self, cursor: Any, statement: str, parameters: Any, _: Any) -> bool:
        return self._decide(lambda: cursor.executemany(statement, parameters), statement, parameters)

    def _decide(self, execute: Callable[[], Any], statement: str, parameters: Any) -> bool:
        if not statement.startswith("BEGIN") and self._is_chosen(statement, parameters):
            if self.executes:
                execute()
            raise self.error
        return False

    def _watch(self, driver: MySqlConnection) -> None:
        if "query" not in vars(driver):
            driver.query = partial(self._send, driver, driver.query)  # type: ignore[method-assign]

    async def _send(self, driver: MySqlConnection, query: Callable[..., Awaitable[int]], sql: str | bytes) -> int:
        statements = [*driver._waiting, sql.encode() if isinstance(sql, str) else bytes(sql)]
        for number, statement in enumerate(statements):
            text = statement.decode(errors="replace")
            if text != "COMMIT" and self._is_chosen(text, text):
                if self.executes:
                    driver._waiting = statements[:number]
                    await query(statement)
                raise self.error
        return await query(sql)

    def _is_chosen(self, statement: str, parameters: Any) -> bool:
        self.statements += 1
        chosen = self.chosen(statement, parameters)
        self.raised += chosen
        return chosen


def mysql_error(number: int) -> Exception:
    """What the driver raises for an error number of the server."""
    error: Exception = pymysql.err.OperationalError(number, f"error {number}, as injected")
    return error


def sqlite_error(code: int) -> Exception:
    """What the driver raises for a result code of SQLite."""
    error = sqlite3.OperationalError(f"result {code}, as injected")
    error.sqlite_errorcode = code
    return error


def refused_data(dialect: str) -> Exception:
    """What the driver raises for a value that a column does not take."""
    if dialect == "sqlite":
        return sqlite3.IntegrityError("refused, as injected")
    error: Exception = pymysql.err.DataError(1406, "Data too long, as injected")
    return error


class Watched:
    """What is sent to a database from now on, and in how many transactions."""

    def __init__(self, database: Database) -> None:
        self.statements: list[str] = []
        self._faults = Faults()
        self._faults.attach(database)
        self._faults.always(Exception("never raised"), self._note)

    @property
    def transactions(self) -> int:
        """How many were begun."""
        return self._faults.transactions

    def read(self, table: str) -> bool:
        """Whether rows of the table were read."""
        return any(f"FROM {table} " in statement for statement in self.statements if "SELECT" in statement)

    def _note(self, statement: str, _: Any) -> bool:
        self.statements.append(" ".join(statement.split()) + " ")
        return False
