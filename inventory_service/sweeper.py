"""Gives back holds whose time is over, without being asked. Every replica runs one; they do not disturb each other."""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable

_EVERY_S = 1.0
# Between two sweeps of a backlog: the locks, and the loop, belong to reserves meanwhile.
_BREATH_S = 0.02

_log = logging.getLogger(__name__)


class Sweeper:
    """Calls `expire`, which answers how many holds it has seen, `full` if more may be waiting."""

    def __init__(self, expire: Callable[[], Awaitable[int]], *, full: int) -> None:
        self._expire = expire
        self._full = full
        self._stopping = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Sweep about once a second from now on."""
        self._task = asyncio.create_task(self._run(), name="sweeper")

    async def stop(self) -> None:
        """Finish the sweep under way and end."""
        self._stopping.set()
        if self._task is not None:
            await self._task

    async def _run(self) -> None:
        failing = False
        while not self._stopping.is_set():
            try:
                seen = await self._expire()
            except Exception:  # noqa: BLE001 - the loop outlives a database that is away or not yet migrated
                if not failing:
                    _log.warning("sweep failed and goes on trying", exc_info=True)
                failing, seen = True, 0
            else:
                failing = False
            await self._pause(_BREATH_S if seen >= self._full else _EVERY_S)

    async def _pause(self, about_s: float) -> None:
        try:
            async with asyncio.timeout(about_s * random.uniform(0.5, 1.5)):  # noqa: S311 - jitter, not a secret
                await self._stopping.wait()
        except TimeoutError:
            return
