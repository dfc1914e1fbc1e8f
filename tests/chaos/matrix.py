"""The crash matrix: every failpoint, struck in every mode, while orders are under way.

Which failpoints there are is read from the source. In which phase of a shop's life each is hit, and by which story, is
found by trying: a reconnaissance plays everything once, and what it does not hit is not covered.
"""

import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from mesh.failpoint import Mode
from tests.chaos.stories import ORDERS, Story

# Enough for every attempt of a transaction to fail, and so for its caller to notice.
_OUTAGE = 4
_DELAY_S = 0.6
_LATEST_HIT = 6


class Phase(StrEnum):
    """When in a shop's life a failpoint is struck."""

    # While it is open.
    TRAFFIC = "traffic"
    # As it starts again after a kill, and recovers.
    RECOVERY = "recovery"
    # As it starts for the first time.
    FIRST_START = "first start"
    # As it stops in order.
    STOP = "stop"


@dataclass(frozen=True, slots=True)
class Case:
    """One failpoint and one mode; `at` is the hit that it strikes at. Besides the orders other stories may go on."""

    failpoint: str
    mode: Mode
    phase: Phase
    at: int = 1
    besides: tuple[Story, ...] = ()

    def __str__(self) -> str:
        return f"{self.failpoint}={self.mode}@{self.at}"

    @property
    def armed(self) -> str:
        """The text that arms it."""
        match self.mode:
            case Mode.ERROR:
                return f"{self}x{_OUTAGE}"
            case Mode.DELAY:
                return f"{self.failpoint}={self.mode}:{_DELAY_S}@{self.at}"
            case _:
                return str(self)

    @property
    def may_end_it(self) -> bool:
        """Whether the process may end: killed, or because it cannot start for now."""
        return self.mode in (Mode.CRASH_BEFORE, Mode.CRASH_AFTER) or self.phase is not Phase.TRAFFIC

    @property
    def stories(self) -> tuple[Story, ...]:
        """What goes on meanwhile."""
        return (*ORDERS, *self.besides)


@dataclass(slots=True)
class Reconnaissance:
    """What was hit, and how often: by phase, and within the traffic by story; None stands for the orders."""

    traffic: dict[Story | None, Counter[str]] = field(default_factory=dict)
    phases: dict[Phase, Counter[str]] = field(default_factory=dict)

    def found(self) -> frozenset[str]:
        """Every failpoint that was hit at all."""
        return frozenset(name for hits in (*self.traffic.values(), *self.phases.values()) for name in hits)

    def place(self, failpoint: str) -> tuple[Phase, Story | None, int]:
        """Where to strike, and how often it is hit there. Raises KeyError where it was never hit."""
        for story, hits in self.traffic.items():
            if failpoint in hits:
                return Phase.TRAFFIC, story, hits[failpoint]
        for phase, hits in self.phases.items():
            if failpoint in hits:
                return phase, None, hits[failpoint]
        raise KeyError(failpoint)


def cases(failpoints: Sequence[str], seen: Reconnaissance, *, modes: Sequence[Mode] = tuple(Mode)) -> Iterator[Case]:
    """The matrix, by failpoint; of those that were seen."""
    for failpoint in failpoints:
        if failpoint not in seen.found():
            continue
        phase, story, hits = seen.place(failpoint)
        for mode in modes:
            at = 1 + zlib.crc32(f"{failpoint} {mode}".encode()) % min(hits, _LATEST_HIT)
            yield Case(failpoint, mode, phase, at, () if story is None else (story,))


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """How a case ended. Without problems nothing was lost, doubled, oversold, or left for a person to mend."""

    case: Case
    database: str
    seconds: float
    deaths: int
    repetitions: int
    problems: tuple[str, ...] = ()


@dataclass(slots=True)
class Outcome:
    """A whole run, or as much of it as has been played."""

    results: list[Result] = field(default_factory=list)
    # What the source has and nothing hits, and what belongs to no single case.
    problems: list[str] = field(default_factory=list)
    audits: int = 0
    orders: int = 0
    seconds: float = 0.0

    @property
    def holds(self) -> bool:
        """Whether every promise was kept, and every failpoint struck."""
        return not self.problems and not any(result.problems for result in self.results)
