"""Work that is done now and then without being asked: giving back overdue holds, forgetting what is long over.

Every replica does it; they do not disturb each other.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable

from mesh.clock import Clock

# Between two sweeps of a backlog: the locks, and the loop, belong to reserves meanwhile.
_BREATH_S = 0.02

_log = logging.getLogger(__name__)


class Sweeper:
    """Calls `sweep` about every `every_s` seconds. It answers how many rows it saw; `full` if more may be waiting."""

    def __init__(
        self, name: str, sweep: Callable[[], Awaitable[int]], *, full: int, every_s: float, clock: Clock
    ) -> None:
        self._name = name
        self._sweep = sweep
        self._full = full
        self._every_s = every_s
        self._clock = clock
        self._stopping = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Sweep from now on."""
        self._task = asyncio.create_task(self._run(), name=f"sweep {self._name}")

    async def stop(self) -> None:
        """Finish the sweep under way and end."""
        self._stopping.set()
        if self._task is not None:
            await self._task

    async def _run(self) -> None:
        failing = False
        while not self._stopping.is_set():
            try:
                seen = await self._sweep()
            except Exception:  # noqa: BLE001 - the loop outlives a database that is away or not yet migrated
                if not failing:
                    _log.warning("sweep failed and goes on trying", extra={"sweep": self._name}, exc_info=True)
                failing, seen = True, 0
            else:
                failing = False
            await self._pause(_BREATH_S if seen >= self._full else self._every_s)

    async def _pause(self, about_s: float) -> None:
        try:
            async with asyncio.timeout(about_s * self._clock.uniform(0.5, 1.5)):
                await self._stopping.wait()
        except TimeoutError:
            return
