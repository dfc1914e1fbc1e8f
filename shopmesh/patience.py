"""Waiting for what starts beside us: containers come up in any order."""

import asyncio
import sys
from collections.abc import Awaitable, Callable
from typing import TypeVar

from mesh.errors import Failure, Kind

T = TypeVar("T")

PATIENCE_S = 60.0
_EVERY_S = 0.5


async def patiently(
    attempt: Callable[[], Awaitable[T]],
    *,
    waiting_for: str,
    patience_s: float = PATIENCE_S,
    every_s: float = _EVERY_S,
) -> T:
    """Repeat `attempt` while it fails as UNAVAILABLE; answer its result, or raise its last Failure after patience_s.

    Says once on stderr what it is waiting for. `attempt` must be idempotent.
    """
    loop = asyncio.get_running_loop()
    give_up_at = loop.time() + patience_s
    said = False
    while True:
        try:
            return await attempt()
        except Failure as failure:
            if failure.kind is not Kind.UNAVAILABLE or loop.time() >= give_up_at:
                raise
        if not said:
            sys.stderr.write(f"shopmesh: waiting for {waiting_for} ...\n")
            said = True
        await asyncio.sleep(every_s)
