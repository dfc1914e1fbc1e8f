"""The lease of this coordinator process: who holds one may move its sagas, who does not must not start anything.

It is kept by the database's clock, renewed well before it ends, and given up at a clean stop. The database's time, as
last seen, comes along with each renewal.
"""

import asyncio
import logging
from datetime import datetime, timedelta

from checkout_service import lease_store
from mesh.clock import Clock
from mesh.db import Database
from mesh.errors import Failure, unavailable
from mesh.moment import SeenClock

LASTS = timedelta(seconds=2)
RENEW_EVERY_S = 0.5

_log = logging.getLogger(__name__)


class Lease:
    """One lease under a name that no process before or beside this one has."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self.owner = clock.uuid7()
        self._database = database
        self._clock = clock
        # The monotonic time just before the last renewal was asked for, and the database's time that it told.
        self._renewed_at: float | None = None
        self._seen = SeenClock(clock)
        self._held = asyncio.Event()
        self._renewal: asyncio.Future[datetime] | None = None

    def is_held(self) -> bool:
        """Whether the lease surely has not ended yet."""
        return self._renewed_at is not None and self._clock.monotonic() < self._renewed_at + LASTS.total_seconds()

    def now(self) -> datetime:
        """About the database's time, a little late but never early. Raises UNAVAILABLE before it was ever seen."""
        at = self._seen.now()
        if at is None:
            raise unavailable("COORDINATOR_STARTING", "Checkout is starting.")
        return at

    async def until_held(self) -> None:
        """Wait until the lease is held, so that what starts now starts within it."""
        while not self.is_held():
            self._held.clear()
            await self._held.wait()

    async def renew(self) -> None:
        """Make the lease last from now; to be done every RENEW_EVERY_S. Raises UNAVAILABLE when that cannot be."""
        asked = self._clock.monotonic()
        self._renewal = asyncio.ensure_future(
            self._database.transact(
                "lease_renew", lambda connection: lease_store.renew_lease(connection, self.owner, LASTS)
            )
        )
        at = await asyncio.shield(self._renewal)
        self._seen.see(at)
        self._renewed_at = asked
        self._held.set()

    async def end(self) -> None:
        """Give the lease up, so that others need not wait for its end."""
        self._renewed_at = None
        if self._renewal is not None:
            # One that is still under way would bring the lease back behind its end.
            await asyncio.wait([self._renewal])
        try:
            await self._database.transact("lease_end", lambda connection: lease_store.end_lease(connection, self.owner))
        except Failure as failure:
            _log.warning("lease not given up", extra={"reason": failure.reason})
