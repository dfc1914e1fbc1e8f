"""Answers that are kept for a while and given to many, for methods of which both proto and operator say so.

Who asks for what is being asked for already waits for that one answer. What is kept has a bound; what was used longest
ago goes first.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable, Sequence
from dataclasses import dataclass

from gateway.conditions import entity_tag

_MOST_BYTES = 64 << 20
# What keeping an answer takes besides its bytes, about.
_OVERHEAD_BYTES = 512


@dataclass(frozen=True, slots=True)
class Kept:
    """An answer that is kept, and since when, in the cache's time."""

    content_type: bytes
    data: bytes
    etag: str
    # Of the answer as it is, to whoever has asked for nothing special.
    headers: Sequence[tuple[bytes, bytes]]
    since: float
    # What keeping it takes, about, in bytes.
    size: int


class ResponseCache:
    """Kept answers of all methods. Make it on the running loop; `close` ends what is being asked for."""

    def __init__(self, *, most_bytes: int = _MOST_BYTES, clock: Callable[[], float] = time.monotonic) -> None:
        self._kept: OrderedDict[Hashable, Kept] = OrderedDict()
        self._flights: dict[Hashable, asyncio.Task[Kept]] = {}
        self._bytes = 0
        self._most_bytes = most_bytes
        self._clock = clock

    def age_s(self, kept: Kept) -> float:
        """For how long it has been kept."""
        return self._clock() - kept.since

    def get(self, key: Hashable, *, ttl_s: float) -> Kept | None:
        """What is kept, if it is younger than that."""
        kept = self._kept.get(key)
        if kept is None or self.age_s(kept) >= ttl_s:
            return None
        self._kept.move_to_end(key)
        return kept

    async def ask(self, key: Hashable, make: Callable[[], Awaitable[tuple[bytes, bytes, str]]]) -> Kept:
        """Keep what `make` answers (content type, data, etag), made once for all who ask meanwhile. Raises as it does.

        It outlives whoever asked first.
        """
        flight = self._flights.get(key)
        if flight is None:
            flight = self._flights[key] = asyncio.create_task(self._make(key, make), name="fill the response cache")
            flight.add_done_callback(_seen)
        return await asyncio.shield(flight)

    async def close(self) -> None:
        """End what is being asked for, and keep nothing."""
        flights = list(self._flights.values())
        for flight in flights:
            flight.cancel()
        await asyncio.gather(*flights, return_exceptions=True)
        self._kept.clear()
        self._bytes = 0

    async def _make(self, key: Hashable, make: Callable[[], Awaitable[tuple[bytes, bytes, str]]]) -> Kept:
        # From before the call: what changes while it runs may not be in it.
        since = self._clock()
        try:
            content_type, data, etag = await make()
        finally:
            del self._flights[key]
        tag = entity_tag(etag, content_type, None)
        headers = [(b"content-type", content_type), *([(b"etag", tag)] if tag else [])]
        kept = Kept(content_type, data, etag, headers, since, _OVERHEAD_BYTES + len(data) + _size(key))
        self._put(key, kept)
        return kept

    def _put(self, key: Hashable, kept: Kept) -> None:
        self._drop(self._kept.pop(key, None))
        self._kept[key] = kept
        self._bytes += kept.size
        while self._bytes > self._most_bytes:
            self._drop(self._kept.popitem(last=False)[1])

    def _drop(self, kept: Kept | None) -> None:
        if kept is not None:
            self._bytes -= kept.size


def _size(key: Hashable) -> int:
    parts = key if isinstance(key, tuple) else (key,)
    return sum(len(part) for part in parts if isinstance(part, str | bytes))


def _seen(flight: asyncio.Task[Kept]) -> None:
    """Who asked learns of a failure, if anybody still waits."""
    if not flight.cancelled():
        flight.exception()
