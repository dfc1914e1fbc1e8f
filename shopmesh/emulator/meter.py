"""Counts calls, times them, and tells refusals that were to be expected from errors."""

from collections import Counter, defaultdict
from dataclasses import dataclass, field

from mesh.errors import Failure


@dataclass(frozen=True, slots=True)
class Latencies:
    """The distribution of one kind of call, in seconds."""

    count: int
    p50: float
    p95: float
    p99: float


@dataclass(slots=True)
class Meter:
    """What all customers together have seen."""

    seconds: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    # (method, reason) -> how often.
    refusals: Counter[tuple[str, str]] = field(default_factory=Counter)
    errors: Counter[tuple[str, str]] = field(default_factory=Counter)

    @property
    def calls(self) -> int:
        """How many calls were answered, in whatever way."""
        return sum(len(seconds) for seconds in self.seconds.values())

    @property
    def orders(self) -> int:
        """How often an order was asked for."""
        return len(self.seconds.get("PlaceOrder", ()))

    def answered(self, method: str, seconds: float) -> None:
        """Note how long a call took, whatever came of it."""
        self.seconds[method].append(seconds)

    def failed(self, method: str, failure: Failure, *, expected: bool) -> None:
        """Note why a call failed."""
        (self.refusals if expected else self.errors)[method, failure.reason] += 1

    def latencies(self) -> dict[str, Latencies]:
        """The distribution of each kind of call, by name."""
        return {method: distribution(self.seconds[method]) for method in sorted(self.seconds)}


def distribution(seconds: list[float]) -> Latencies:
    """The percentiles by nearest rank: each is a time that was measured. At least one is needed."""
    ordered = sorted(seconds)
    p50, p95, p99 = (ordered[-(-len(ordered) * percent // 100) - 1] for percent in (50, 95, 99))
    return Latencies(len(ordered), p50, p95, p99)
