"""Streams of events that others read: in Redis when SHOP_REDIS_URL says so, else in this process's memory.

A stream carries news and keeps no truth: it holds the latest entries only, and may be lost as a whole (FLUSHALL, a
Redis without persistence, a restart of the process that keeps it). So whoever publishes keeps what happened in a
database, and publishes at least once; whoever reads drops repetitions by `event_id`.
"""

import asyncio
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Any, Protocol

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from mesh.errors import Failure, unavailable
from mesh.failpoint import FailpointError, Failpoints, around

START = "0-0"
"""The position before every entry."""
TIMEOUT_S = 1.0
"""No call takes longer."""

_REDIS_ENTRIES = 100_000
_MEMORY_ENTRIES = 10_000


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened. `event_id` stays the same however often it is published."""

    event_id: str
    payload: bytes


@dataclass(frozen=True, slots=True)
class Entry:
    """An event at its position in a stream; positions mean something to the stream alone."""

    position: str
    event: Event


class Events(Protocol):
    """Streams by name. A call that cannot be answered raises UNAVAILABLE, at most TIMEOUT_S after it was made."""

    async def publish(self, stream: str, events: Sequence[Event]) -> None:
        """Append the events in this order, all or none, and return once they can be read.

        After UNAVAILABLE they may stand there all the same. Publishing again appends again.
        """

    async def read(self, stream: str, *, after: str = START, limit: int) -> list[Entry]:
        """At most `limit` entries from behind the position, oldest first. An unknown stream is empty."""

    async def close(self) -> None:
        """Let go of connections."""


class MemoryEvents:
    """Streams within one process; they end with it.

    What was published and not yet read when the process ends is not in any stream afterwards. A consumer that must not
    miss anything, and is to work without Redis, has to do its work before `publish` returns, or to begin with what the
    publisher's database tells.
    """

    def __init__(self, *, max_entries: int = _MEMORY_ENTRIES, failpoints: Failpoints | None = None) -> None:
        self._streams: dict[str, _MemoryStream] = {}
        self._max_entries = max_entries
        self._failpoints = failpoints

    async def publish(self, stream: str, events: Sequence[Event]) -> None:
        """Append the events in this order."""
        try:
            await around(self._failpoints, f"publish.{stream}", partial(self._append, stream, events))
        except FailpointError as error:
            raise _away() from error

    async def read(self, stream: str, *, after: str = START, limit: int) -> list[Entry]:
        """At most `limit` entries from behind the position."""
        found = self._streams.get(stream)
        return found.read(int(after.partition("-")[0]), limit) if found is not None else []

    async def close(self) -> None:
        """Nothing to let go of."""

    async def _append(self, stream: str, events: Sequence[Event]) -> None:
        self._streams.setdefault(stream, _MemoryStream(self._max_entries)).append(events)


class _MemoryStream:
    """The latest entries, numbered from 1."""

    def __init__(self, max_entries: int) -> None:
        self._latest: deque[Event] = deque(maxlen=max_entries)
        self._count = 0

    def append(self, events: Sequence[Event]) -> None:
        self._latest.extend(events)
        self._count += len(events)

    def read(self, after: int, limit: int) -> list[Entry]:
        gone = self._count - len(self._latest)
        first = max(after, gone)
        found = islice(self._latest, first - gone, first - gone + limit)
        return [Entry(f"{number}-0", event) for number, event in enumerate(found, start=first + 1)]


class RedisEvents:
    """Redis Streams, of entries with the fields `event_id` and `payload`. The oldest go, some later than they might."""

    def __init__(self, url: str, *, max_entries: int = _REDIS_ENTRIES, failpoints: Failpoints | None = None) -> None:
        self._redis: Redis = Redis.from_url(
            url,
            socket_timeout=TIMEOUT_S,
            socket_connect_timeout=TIMEOUT_S,
            # Who publishes knows better when to try again.
            retry=Retry(NoBackoff(), 0),
        )
        self._max_entries = max_entries
        self._failpoints = failpoints

    async def publish(self, stream: str, events: Sequence[Event]) -> None:
        """Append the events in this order, all or none."""
        if not events:
            return
        try:
            async with asyncio.timeout(TIMEOUT_S):
                await around(self._failpoints, f"publish.{stream}", partial(self._append, stream, events))
        except (RedisError, OSError, TimeoutError, FailpointError) as error:
            raise _away() from error

    async def read(self, stream: str, *, after: str = START, limit: int) -> list[Entry]:
        """At most `limit` entries from behind the position."""
        try:
            async with asyncio.timeout(TIMEOUT_S):
                found: Any = await self._redis.xrange(stream, min=f"({after}", count=limit)
        except (RedisError, OSError, TimeoutError) as error:
            raise _away() from error
        return [_entry(position, fields) for position, fields in found]

    async def close(self) -> None:
        """Close the connections."""
        await self._redis.aclose()

    async def _append(self, stream: str, events: Sequence[Event]) -> None:
        # MULTI: one event that is refused (out of memory) must not let those behind it pass.
        async with self._redis.pipeline(transaction=True) as pipe:
            for event in events:
                fields: dict[Any, Any] = {"event_id": event.event_id, "payload": event.payload}
                pipe.xadd(stream, fields, maxlen=self._max_entries, approximate=True)
            await pipe.execute()


def open_events(url: str | None, *, failpoints: Failpoints | None = None) -> Events:
    """Redis at `url`, or this process's memory without one. Their failpoints are named `publish.<stream>`."""
    return RedisEvents(url, failpoints=failpoints) if url else MemoryEvents(failpoints=failpoints)


def _entry(position: bytes, fields: dict[bytes, bytes]) -> Entry:
    return Entry(position.decode(), Event(fields[b"event_id"].decode(), fields[b"payload"]))


def _away() -> Failure:
    return unavailable("EVENTS_UNAVAILABLE", "Events can be neither published nor read at the moment.")
