"""What a figure is: the sides that were measured in turn, and the ratio of their medians."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from tests.bench.sample import Measured

Run = Callable[[], Measured]
Value = Callable[[Measured], float]

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One ratio. `sides` are by name, each with what was measured in its rounds; `values` are what is compared.

    What is no load has values alone.
    """

    unit: str
    sides: Mapping[str, Sequence[Measured]]
    values: Mapping[str, Sequence[float]]
    ratios: Mapping[str, float]


def rate(measured: Measured) -> float:
    """Answers in a second."""
    return measured.sample.rate


def median_cpu(rounds: Sequence[Measured]) -> dict[str, float]:
    """Milliseconds of processor time for one answer, by process."""
    each = [one.cpu_ms_each for one in rounds]
    return {process: median(costs[process] for costs in each) for process in each[0]}


def interleaved(sides: Mapping[str, Run], *, rounds: int) -> dict[str, list[Measured]]:
    """Run the sides in turn, A B A B A B, so that what slows the machine for a while slows both."""
    found: dict[str, list[Measured]] = {name: [] for name in sides}
    for number in range(1, rounds + 1):
        for name, run in sides.items():
            measured = run()
            found[name].append(measured)
            sample = measured.sample
            _log.info("  round %d  %-10s %8.1f/s  p50 %6.1f ms", number, name, sample.rate, sample.p50_s * 1000)
    return found


def compare(
    ratios: Mapping[str, tuple[str, str]],
    sides: Mapping[str, Sequence[Measured]],
    *,
    unit: str,
    value: Value = rate,
) -> Figure:
    """Ratios of medians: `ratios` is key -> the names of the two sides, the first over the second."""
    values = {name: [value(one) for one in measured] for name, measured in sides.items()}
    middle = {name: median(found) for name, found in values.items()}
    return Figure(
        unit=unit,
        sides=sides,
        values=values,
        ratios={key: middle[over] / middle[under] for key, (over, under) in ratios.items()},
    )
