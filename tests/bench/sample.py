"""What came of one window of load: whoever made it, wrk or a client of our own, it is told in the same form."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

PERCENTS = range(1, 100)


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """How hard to push and for how long. What is answered before the window opens or after it closes does not count."""

    in_flight: int
    warm_s: float
    window_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """What one generator of load saw."""

    # Answers within the window, and how long that was.
    counted: int
    window_s: float
    # Answers in all, with warm-up and end, and those that were not what was asked for.
    answered: int
    refused: int
    # The 1st to the 99th percentile of the time to an answer.
    latencies_s: Sequence[float]
    # What the generator itself took of the processors, over all answers.
    cpu_s: float

    @property
    def rate(self) -> float:
        """Answers in a second."""
        return self.counted / self.window_s

    @property
    def p50_s(self) -> float:
        """The median time to an answer."""
        return self.latencies_s[49]

    def times(self, number: int) -> "Sample":
        """The same where each answer stands for so many things."""
        counts = {name: getattr(self, name) * number for name in ("counted", "answered", "refused")}
        return replace(self, **counts)


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """A sample, and what the processes behind it took meanwhile."""

    sample: Sample
    # Seconds of processor time by process, the generator of the load under "load"; of the whole sample, as `commits`.
    cpu_s: Mapping[str, float]
    commits: int

    @property
    def cpu_ms_each(self) -> Mapping[str, float]:
        """Milliseconds of processor time by process for one answer."""
        return {name: 1000 * seconds / max(1, self.sample.answered) for name, seconds in self.cpu_s.items()}

    @property
    def served_cpu_ms_each(self) -> float:
        """The same of all processes together, without the load's own."""
        return sum(milliseconds for name, milliseconds in self.cpu_ms_each.items() if name != LOAD)


LOAD = "load"


def percentiles(values: Sequence[float]) -> tuple[float, ...]:
    """The 1st to the 99th, each by nearest rank: a value that was measured. None of nothing."""
    ordered = sorted(values)
    return tuple(ordered[-(-len(ordered) * percent // 100) - 1] for percent in PERCENTS) if ordered else ()
