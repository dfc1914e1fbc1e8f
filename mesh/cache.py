"""A cache that never decides: losing it costs speed only.

Redis when SHOP_REDIS_URL says so, else this process's memory. A Redis that fails or hangs is answered as a miss, and is
left alone for a moment so that a hang is paid once and not by every request.
"""

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from typing import Generic, Protocol, TypeVar

from redis.asyncio import Redis
from redis.exceptions import RedisError

from mesh.clock import SYSTEM_CLOCK, Clock

T = TypeVar("T")

_TIMEOUT_S = 0.25
_PAUSE_S = 1.0
_MEMORY_ENTRIES = 50_000

_log = logging.getLogger(__name__)


class Cache(Protocol):
    """Bytes by key, for a while. No method raises for want of the cache."""

    async def get_many(self, keys: Sequence[str]) -> dict[str, bytes]:
        """What is known of `keys`; a key that is absent is a miss."""

    async def set_many(self, values: Mapping[str, bytes], *, ttl_s: float) -> None:
        """Remember the values for at most `ttl_s` seconds."""

    async def delete_many(self, keys: Sequence[str]) -> None:
        """Forget the keys."""

    async def close(self) -> None:
        """Let go of connections."""


class Memory(Generic[T]):
    """Values by key in this process's memory, each for a while; least recently used go first."""

    def __init__(self, *, max_entries: int = _MEMORY_ENTRIES, clock: Clock = SYSTEM_CLOCK) -> None:
        self._entries: OrderedDict[str, tuple[T, float]] = OrderedDict()
        self._max_entries = max_entries
        self._clock = clock

    def get_many(self, keys: Iterable[str]) -> dict[str, T]:
        """What is known of `keys`."""
        now = self._clock.monotonic()
        found = {}
        for key in keys:
            entry = self._entries.get(key)
            if entry is not None and entry[1] > now:
                found[key] = entry[0]
                self._entries.move_to_end(key)
        return found

    def set_many(self, values: Mapping[str, T], *, ttl_s: float) -> None:
        """Remember the values for at most `ttl_s` seconds."""
        expires_at = self._clock.monotonic() + ttl_s
        for key, value in values.items():
            self._entries[key] = (value, expires_at)
            self._entries.move_to_end(key)
        while len(self._entries) > self._max_entries:
            self._entries.popitem(last=False)

    def delete_many(self, keys: Iterable[str]) -> None:
        """Forget the keys."""
        for key in keys:
            self._entries.pop(key, None)


class MemoryCache:
    """The stand-in for Redis within one process."""

    def __init__(self, *, max_entries: int = _MEMORY_ENTRIES, clock: Clock = SYSTEM_CLOCK) -> None:
        self._memory: Memory[bytes] = Memory(max_entries=max_entries, clock=clock)

    async def get_many(self, keys: Sequence[str]) -> dict[str, bytes]:
        """What is known of `keys`."""
        return self._memory.get_many(keys)

    async def set_many(self, values: Mapping[str, bytes], *, ttl_s: float) -> None:
        """Remember the values for at most `ttl_s` seconds."""
        self._memory.set_many(values, ttl_s=ttl_s)

    async def delete_many(self, keys: Sequence[str]) -> None:
        """Forget the keys."""
        self._memory.delete_many(keys)

    async def close(self) -> None:
        """Nothing to let go of."""


class RedisCache:
    """Redis behind the same promises."""

    def __init__(self, url: str, *, clock: Clock = SYSTEM_CLOCK) -> None:
        self._redis: Redis = Redis.from_url(url, socket_timeout=_TIMEOUT_S, socket_connect_timeout=_TIMEOUT_S)
        self._paused_until = 0.0
        self._clock = clock

    async def get_many(self, keys: Sequence[str]) -> dict[str, bytes]:
        """What is known of `keys`; nothing while Redis is away."""
        if not keys or self._paused():
            return {}
        try:
            async with asyncio.timeout(_TIMEOUT_S):
                values = await self._redis.mget(list(keys))
        except (RedisError, OSError, TimeoutError) as error:
            self._pause(error)
            return {}
        return {key: value for key, value in zip(keys, values, strict=True) if isinstance(value, bytes)}

    async def set_many(self, values: Mapping[str, bytes], *, ttl_s: float) -> None:
        """Remember the values, unless Redis is away."""
        if not values or self._paused():
            return
        try:
            async with asyncio.timeout(_TIMEOUT_S), self._redis.pipeline(transaction=False) as pipe:
                for key, value in values.items():
                    pipe.set(key, value, px=max(1, int(ttl_s * 1000)))
                await pipe.execute()
        except (RedisError, OSError, TimeoutError) as error:
            self._pause(error)

    async def delete_many(self, keys: Sequence[str]) -> None:
        """Forget the keys; if Redis is away they live until their TTL."""
        if not keys or self._paused():
            return
        try:
            async with asyncio.timeout(_TIMEOUT_S):
                await self._redis.delete(*keys)
        except (RedisError, OSError, TimeoutError) as error:
            self._pause(error)

    async def close(self) -> None:
        """Close the connections."""
        await self._redis.aclose()

    def _paused(self) -> bool:
        return self._clock.monotonic() < self._paused_until

    def _pause(self, error: Exception) -> None:
        self._paused_until = self._clock.monotonic() + _PAUSE_S
        _log.warning("cache is away", extra={"cause": repr(error)})


def open_cache(url: str | None, *, clock: Clock = SYSTEM_CLOCK) -> Cache:
    """Redis at `url`, or this process's memory without one."""
    return RedisCache(url, clock=clock) if url else MemoryCache(clock=clock)
