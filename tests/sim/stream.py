"""The stream that events go out to: outlives every node, loses nothing, and does not always answer."""

import asyncio
from collections.abc import Sequence

from mesh.errors import unavailable
from mesh.events import START, Entry, Event
from tests.sim.faults import Faults
from tests.sim.log import Log


class Stream:
    """What Redis Streams are to the mesh (mesh.events.Events), and what was published, in its order."""

    def __init__(self, faults: Faults, *, log: Log) -> None:
        self.published: list[Event] = []
        self._faults = faults
        self._log = log

    async def publish(self, stream: str, events: Sequence[Event]) -> None:
        """Append the events, all or none. Raises UNAVAILABLE, which tells nothing."""
        await asyncio.sleep(self._faults.delay_s())
        await self._faults.before_publish()
        if self._faults.loses_request():
            raise unavailable("EVENTS_UNAVAILABLE", "The stream cannot be reached.")
        self.published += events
        self._log.add(f"publishes {len(events)} to {stream}", [event.event_id for event in events])
        await asyncio.sleep(self._faults.delay_s())
        await self._faults.before_publish()
        if self._faults.loses_answer():
            raise unavailable("EVENTS_UNAVAILABLE", "The stream does not answer.")

    async def read(self, stream: str, *, after: str = START, limit: int) -> list[Entry]:
        """Nobody reads here."""
        raise NotImplementedError(f"{stream} after {after}, {limit}")

    async def close(self) -> None:
        """Nothing is held open."""
