"""The relay: tells others what happened to orders, by publishing the outbox.

An event enters the outbox in the transaction that makes it happen, is published, and leaves the outbox when the stream
has taken it; order_events keeps it for ever. A crash in between publishes it again, so every event is published at
least once. Of all replicas one relays at a time, who holds the relay's lease; each order's events are published in the
order of their sequence. A relay that lost its lease unawares may repeat old events behind newer ones: who reads drops
what is not newer than the order's last, by (order_id, sequence).

Where the stream is this process's memory (see mesh.events), "published" lasts as long as the process does.

Nothing here holds checkout up: while the stream is away the outbox grows, and is sent later in bounded batches.
"""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta

from prometheus_client import Counter, Gauge

from checkout_service import outbox_store
from checkout_service.outbox_store import OrderEvent
from mesh.clock import Clock
from mesh.db import Connection, Database
from mesh.errors import Failure
from mesh.events import TIMEOUT_S, Event, Events

STREAM = "order_events"
"""Where the events go, as serialized shop.checkout.v1.OrderEvent messages."""
LEASE = timedelta(seconds=3)

_BATCH = 500
# What commits within a moment goes out together, so that a busy shop's outbox is not read for every order.
_GATHER_S = 0.4
_LOOK_EVERY_S = 0.5
# How often it is tried to take the lease that another process has.
_TRY_EVERY_S = 1.0
# Longer than the lease, so that meanwhile another process tries, which may reach the stream though this one does not.
_AWAY_S = 4.5
_MEASURE_EVERY_S = 5.0

_PUBLISHED = Counter("shop_events_published_total", "Events of orders that were published, repetitions too.")
_UNSENT = Gauge("shop_outbox_unsent", "Events that wait in the outbox, counted up to 100,000.")
_LAG = Gauge("shop_outbox_lag_seconds", "Age of the oldest event that waits in the outbox.")

_log = logging.getLogger(__name__)


class Relay:
    """Publishes the outbox of one database from `start` on the running loop until `stop`."""

    def __init__(
        self, database: Database, events: Events, *, encode: Callable[[OrderEvent], bytes], clock: Clock
    ) -> None:
        self._database = database
        self._events = events
        self._encode = encode
        self._clock = clock
        self._owner = clock.uuid7()
        self._woken = asyncio.Event()
        self._loops: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Begin to relay, and to measure what waits."""
        works = (self._relay, self._measure)
        self._loops = [asyncio.create_task(self._repeat(work), name=f"outbox {work.__name__}") for work in works]

    async def stop(self) -> None:
        """Stop where it is, and give the lease up so that another goes on. What is unsent stays in the outbox."""
        for task in self._loops:
            task.cancel()
        await asyncio.gather(*self._loops, return_exceptions=True)
        try:
            await self._database.transact(
                "relay_end", lambda connection: outbox_store.end_relay(connection, self._owner)
            )
        except Failure as failure:
            _log.warning("relay's lease not given up", extra={"reason": failure.reason})

    def wake(self) -> None:
        """This process has committed something to tell: look soon."""
        self._woken.set()

    async def relay_once(self) -> int | None:
        """Publish a batch and mark it as sent. Answers how many were sent; None when another process relays.

        Raises UNAVAILABLE when the stream or the database is; what was not marked as sent is published again.
        """
        asked = self._clock.monotonic()
        batch = await self._take()
        if not batch:
            return None if batch is None else 0
        if self._clock.monotonic() + TIMEOUT_S > asked + LEASE.total_seconds():
            # So slow that it might be published behind the lease's end.
            return 0
        await self._events.publish(STREAM, [Event(event.event_id, self._encode(event)) for event in batch])
        _PUBLISHED.inc(len(batch))
        await self._database.transact("outbox_sent", lambda connection: outbox_store.delete_sent(connection, batch))
        return len(batch)

    async def _relay(self) -> None:
        self._woken.clear()
        sent = await self.relay_once()
        if sent is None:
            await asyncio.sleep(_TRY_EVERY_S * self._jitter())
        elif sent < _BATCH:
            await asyncio.sleep(_GATHER_S * self._jitter())
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_LOOK_EVERY_S * self._jitter()):
                    await self._woken.wait()

    async def _measure(self) -> None:
        backlog = await self._database.transact("outbox_figures", outbox_store.measure_backlog, read_only=True)
        _UNSENT.set(backlog.unsent)
        _LAG.set(backlog.oldest_age.total_seconds())
        await asyncio.sleep(_MEASURE_EVERY_S * self._jitter())

    async def _repeat(self, work: Callable[[], Awaitable[None]]) -> None:
        while True:
            try:
                await work()
            except Failure as failure:
                _log.warning("outbox waits", extra={"work": work.__name__, "reason": failure.reason})
                await asyncio.sleep(_AWAY_S * self._jitter())
            except Exception:  # noqa: BLE001 - the loop outlives whatever its work runs into
                _log.exception("outbox waits", extra={"work": work.__name__})
                await asyncio.sleep(_AWAY_S * self._jitter())

    async def _take(self) -> Sequence[OrderEvent] | None:
        """What is to be published now under the lease; None when another process has it."""

        async def body(connection: Connection) -> Sequence[OrderEvent] | None:
            # Read behind the lease's renewal: what the relay before published and deleted is not seen any more.
            if not await outbox_store.take_relay(connection, self._owner, LEASE):
                return None
            return await outbox_store.read_outbox(connection, _BATCH)

        return await self._database.transact("outbox_take", body)

    def _jitter(self) -> float:
        return self._clock.uniform(0.8, 1.2)
