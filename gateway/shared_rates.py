"""Rates that the replicas of a gateway keep together, through Redis and behind the back of requests.

Each replica counts and decides by itself, so no request waits for anybody. Some times a second it tells Redis what its
askers have used since, and takes in what all replicas together have counted of them. What Redis keeps of an asker is
what a Limiter does, in a form that drains by itself: a key that lives for as long as the asker would need, at the
steady rate, for all that it has had. Only who has asked since is told of, so that Redis holds nobody who is at rest.

What this promises: in the long run an asker has the rate, however it spreads its requests. Replicas that have not heard
of each other grant a burst each, so of N there are at most N bursts at once; what was too much delays what comes next.
Redis rounds to milliseconds, which makes at most a quarter of a percent for each replica. Where Redis is gone, hangs,
has forgotten or says what cannot be, each replica goes on with what it knows: the rate is then for each of them.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable

from redis.asyncio import Redis
from redis.asyncio.connection import parse_url
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from gateway.limits import Limiter
from mesh.clock import SYSTEM_CLOCK

_EVERY_S = 0.2
# While Redis is away.
_TRY_EVERY_S = 1.0
_TIMEOUT_S = 1.0
# Of one round. Whoever is beyond counts here alone.
_MOST = 2000
# Of bursts that an asker may have had of all replicas together. What is more nobody has granted, and it is left aside:
# whoever stands there with it would be refused for as long.
_MOST_BURSTS = 100
_PREFIX = "gateway:rate"
_ADD = """
local ahead = {}
for at, key in ipairs(KEYS) do
  local had = redis.call('PTTL', key)
  if had < 0 or had > tonumber(ARGV[#KEYS + at]) then had = 0 end
  ahead[at] = had + ARGV[at]
  if ahead[at] > 0 then redis.call('SET', key, '', 'PX', ahead[at]) end
end
return ahead
"""

_log = logging.getLogger("gateway")


class SharedRates:
    """What one replica tells and learns. Make it on the running loop; `close` ends it."""

    def __init__(self, url: str, *, every_s: float = _EVERY_S, clock: Callable[[], float] = time.monotonic) -> None:
        """The clock is that of the limiters."""
        self._redis: Redis = Redis.from_url(
            url, socket_timeout=_TIMEOUT_S, socket_connect_timeout=_TIMEOUT_S, retry=Retry(NoBackoff(), 0)
        )
        self._add = self._redis.register_script(_ADD)
        self._every_s = every_s
        self._clock = clock
        # How often who was counted by what, since Redis was told.
        self._since: dict[tuple[Limiter, str], int] = {}
        self._is_away = False
        self._telling = asyncio.create_task(self._tell_for_ever(), name="share rates")

    def note(self, limiter: Limiter, asker: str) -> None:
        """Have a request told that a limiter has counted."""
        counted = limiter, asker
        if counted in self._since or len(self._since) < _MOST:
            self._since[counted] = self._since.get(counted, 0) + 1

    async def tell(self) -> None:
        """Tell what was counted, and have the limiters learn the sum; raises nothing.

        What could not be told is not told later, since Redis may have heard it.
        """
        if not self._since:
            return
        try:
            async with asyncio.timeout(_TIMEOUT_S):
                await self._exchange()
        except Exception as error:  # noqa: BLE001 - whatever it is, counting goes on
            if not self._is_away:
                _log.warning("rates are not shared", extra={"cause": repr(error)})
            self._is_away = True
        else:
            if self._is_away:
                _log.info("rates are shared again")
            self._is_away = False

    async def close(self) -> None:
        """Close the connections."""
        self._telling.cancel()
        await asyncio.gather(self._telling, return_exceptions=True)
        await self._redis.aclose()

    async def _tell_for_ever(self) -> None:
        while True:
            await asyncio.sleep((_TRY_EVERY_S if self._is_away else self._every_s) * SYSTEM_CLOCK.uniform(0.9, 1.1))
            await self.tell()

    async def _exchange(self) -> None:
        told, self._since = self._since, {}
        keys = [f"{_PREFIX}:{limiter.kind}:{asker}" for limiter, asker in told]
        used_ms = [round(times * limiter.each_s * 1000) for (limiter, _), times in told.items()]
        most_ms = [round(_MOST_BURSTS * limiter.window_s * 1000) for limiter, _ in told]
        # From before the question, so that the time it takes is not counted as used.
        now = self._clock()
        answer = await self._add(keys=keys, args=[*used_ms, *most_ms])
        for counted, ahead_ms, ours_ms, others_ms in zip(told, answer, used_ms, most_ms, strict=True):
            if not ours_ms <= ahead_ms <= ours_ms + others_ms:
                raise ValueError(f"{ahead_ms} ms ahead cannot be")
            limiter, asker = counted
            limiter.learn(asker, now + ahead_ms / 1000 + self._since.get(counted, 0) * limiter.each_s)


def wrong_url(url: str) -> list[str]:
    """What is wrong with the URL of a Redis."""
    try:
        parse_url(url)
    except ValueError:
        return ["must be a URL such as redis://127.0.0.1:6379/0"]
    return []
