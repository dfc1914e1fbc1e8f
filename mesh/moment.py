"""The database's clock for those who do not ask it, which would be a trip to the server.

Fixed for a transaction that writes rows before it reads any: on MySQL the moment is kept there, rows are written as so
long after it, and it becomes known with the first rows that are read. And as it was last seen.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import literal_column, select
from sqlalchemy.ext.asyncio import AsyncConnection

from mesh.clock import Clock
from mesh.db import NOW, Utc, now
from mesh.mysql import FIX_MOMENT, MOMENT, FromMoment, driver_of
from mesh.query import Asked, Query

_NOW = Query(select(NOW))
_KEPT = Query(select(literal_column(f"CAST({MOMENT} AS DATETIME(6))", Utc()).label("now")))


@dataclass(frozen=True, slots=True)
class Moment:
    """When a transaction happens; `known` once that is known."""

    known: datetime | None

    def plus(self, later: timedelta = timedelta()) -> datetime | FromMoment:
        """A time as a row may have it: the moment, or so long after it."""
        return FromMoment(later) if self.known is None else self.known + later

    def asked(self) -> Asked:
        """The query that makes it known, to be read together with others."""
        return (_KEPT if self.known is None else _NOW).asked()

    def told(self, rows: Sequence[Any]) -> datetime:
        """The moment, aware UTC, by the rows of that query."""
        at: datetime = rows[0].now
        return self.known or at


async def fix_moment(connection: AsyncConnection) -> Moment:
    """Fix the moment for this transaction, without a trip of its own where that would be one."""
    driver = driver_of(connection)
    if driver is None:
        return Moment(await now(connection))
    driver.later(FIX_MOMENT)
    return Moment(None)


class SeenClock:
    """The database's clock as last seen: a little late, never early."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._seen: tuple[datetime, float] | None = None

    def see(self, at: datetime) -> None:
        """Take over a time that the database has just told."""
        self._seen = at, self._clock.monotonic()

    def now(self, *, within_s: float = math.inf) -> datetime | None:
        """The time now; None if it was not seen within so long."""
        if self._seen is None:
            return None
        at, seen_at = self._seen
        since_s = self._clock.monotonic() - seen_at
        return at + timedelta(seconds=since_s) if since_s <= within_s else None
