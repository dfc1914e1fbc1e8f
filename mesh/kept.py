"""Connections to MySQL that are kept from one transaction to the next.

SQLAlchemy makes them and looks after them: which errors mean that one is gone, and that the others are, too. Taking one
from its pool, beginning, ending and giving it back anew for every transaction costs more than many a statement does.
"""

import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from mesh.clock import Clock
from mesh.mysql import MySqlConnection, driver_of, past_sqlalchemy

T = TypeVar("T")

# Older ones are closed: somewhere on the way somebody may have a limit, and servers come and go.
_OLDEST_S = 1800.0


@dataclass(frozen=True, slots=True)
class _Kept:
    connection: AsyncConnection
    driver: MySqlConnection
    opened_at: float


class KeptConnections:
    """As many as there are transactions at once; their number is for the caller to limit."""

    def __init__(self, engine: AsyncEngine, clock: Clock) -> None:
        self._engine = engine
        self._clock = clock
        self._idle: list[_Kept] = []

    async def run(self, body: Callable[[AsyncConnection], Awaitable[T]]) -> T:
        """Run the body in a transaction on one of them: committed in the end, or rolled back.

        Raises what the body does, or what SQLAlchemy would.
        """
        kept = await self._take()
        try:
            answer = await body(kept.connection)
        except BaseException:
            await self._roll_back(kept)
            raise
        try:
            await past_sqlalchemy(kept.connection, kept.driver.commit())
        except BaseException:
            # It may still be open, with writes that the next one on this connection would commit.
            await self._drop(kept)
            raise
        self._idle.append(kept)
        return answer

    async def read(self, body: Callable[[AsyncConnection], Awaitable[T]]) -> T:
        """Run what only reads on one of them, if the engine commits by itself: there is nothing to end."""
        kept = await self._take()
        try:
            return await body(kept.connection)
        finally:
            await self._put_back(kept)

    async def close(self) -> None:
        """Close those that are not in use."""
        idle, self._idle = self._idle, []
        for kept in idle:
            await _close(kept)

    async def _take(self) -> _Kept:
        now = self._clock.monotonic()
        while self._idle:
            kept = self._idle.pop()
            if now - kept.opened_at < _OLDEST_S:
                return kept
            await _close(kept)
        connection = await self._engine.connect()
        driver = driver_of(connection)
        if driver is None:
            raise TypeError("kept connections are for MySQL")
        return _Kept(connection, driver, now)

    async def _roll_back(self, kept: _Kept) -> None:
        try:
            if not kept.connection.invalidated:
                await kept.driver.rollback()
        except Exception:  # noqa: BLE001 - whatever it is, what the body raised says more
            await self._drop(kept)
        else:
            await self._put_back(kept)

    async def _put_back(self, kept: _Kept) -> None:
        if kept.connection.invalidated or kept.driver.closed:
            await self._drop(kept)
        else:
            self._idle.append(kept)

    async def _drop(self, kept: _Kept) -> None:
        if kept.connection.invalidated:
            # The server went away, and with it the others.
            await self.close()
        await _close(kept)


async def _close(kept: _Kept) -> None:
    """Without a farewell, which a server that is gone would let wait."""
    with contextlib.suppress(Exception):
        if not kept.connection.invalidated:
            await kept.connection.invalidate()
        await kept.connection.close()
