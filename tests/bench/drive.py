"""A closed loop: so many callers, each of whom calls again as soon as it is answered."""

import asyncio
import itertools
import resource
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field

from tests.bench.sample import Load, Sample, percentiles

# Makes the call with this number, counted from 0; answers whether it had what it asked for.
Call = Callable[[int], Awaitable[bool]]


# The loop's own clock has milliseconds only, where the loop is uvloop's.
_now = time.perf_counter


@dataclass(slots=True)
class _Seen:
    opens: float
    closes: float
    counted: int = 0
    answered: int = 0
    refused: int = 0
    seconds: list[float] = field(default_factory=list)

    def note(self, began: float, ended: float, *, accepted: bool) -> None:
        self.answered += 1
        self.refused += not accepted
        if self.opens <= ended <= self.closes:
            self.counted += 1
            self.seconds.append(ended - began)


async def drive(call: Call, load: Load, *, at_most: int | None = None) -> Sample:
    """Call until the window closes, or `at_most` so often; whatever was begun is waited for."""
    cpu_s, begin = _cpu_s(), _now()
    seen = _Seen(begin + load.warm_s, begin + load.warm_s + load.window_s)
    numbers: Iterator[int] = iter(range(at_most)) if at_most is not None else itertools.count()
    await asyncio.gather(*[_caller(call, numbers, seen) for _ in range(load.in_flight)])
    return Sample(
        counted=seen.counted,
        window_s=min(seen.closes, _now()) - seen.opens,
        answered=seen.answered,
        refused=seen.refused,
        latencies_s=percentiles(seen.seconds),
        cpu_s=_cpu_s() - cpu_s,
    )


async def _caller(call: Call, numbers: Iterator[int], seen: _Seen) -> None:
    while (began := _now()) < seen.closes:
        number = next(numbers, None)
        if number is None:
            return
        accepted = await call(number)
        seen.note(began, _now(), accepted=accepted)


def _cpu_s() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime
