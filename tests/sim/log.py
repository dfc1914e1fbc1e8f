"""What happened in a simulation, in order: hashed, so that two runs can be compared, and kept, to be told."""

import hashlib
from collections import Counter, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from tests.sim.loop import LIFE


@dataclass(frozen=True, slots=True)
class Event:
    """One event. `detail` is what it is about, for the story only: a message, statements."""

    at: float
    node: str
    what: str
    detail: Any = None

    def __str__(self) -> str:
        return f"{self.at:12.6f} {self.node:12} {self.what}"


class Log:
    """The events of one simulation. Equal digests mean that the same things happened at the same times."""

    def __init__(self, now: Callable[[], float], *, keep: int | None) -> None:
        self._now = now
        self._hash = hashlib.sha256()
        self._events: deque[Event] = deque(maxlen=keep)
        self.counts: Counter[str] = Counter()

    def add(self, what: str, detail: Any = None, *, node: str | None = None) -> None:
        """Note an event; of the node whose code runs, unless another is named."""
        if node is None:
            life = LIFE.get(None)
            node = "" if life is None else life.name
        happened = Event(self._now(), node, what, detail)
        self._hash.update(f"{happened.at:.9f} {node} {what}\n".encode())
        self._events.append(happened)

    def count(self, kind: str, number: int = 1) -> None:
        """Count something for the figures."""
        self.counts[kind] += number

    def digest(self) -> str:
        """The digest of all events so far, those included that are no longer kept."""
        return self._hash.hexdigest()

    def __iter__(self) -> Iterator[Event]:
        return iter(self._events)
