"""The database's clock, fixed for a transaction: for rows that are written before anything is read.

Asking for it would be a trip to the server. On MySQL the moment is kept there, rows are written as so long after it,
and it becomes known with the first rows that are read.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import literal_column, select
from sqlalchemy.ext.asyncio import AsyncConnection

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
