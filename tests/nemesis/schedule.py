"""What the nemesis will do and when, drawn from a seed.

Every fault there is comes up once, in an order that the seed shuffles, before any comes up again. Pauses between them
are drawn too and are shorter than many faults last, so that faults meet.
"""

import enum
import itertools
import random
from collections.abc import Iterator
from dataclasses import dataclass

from tests.nemesis.cluster import process_names

MARIADB, REDIS = "mariadb", "redis"
# At both ends of the load nothing is done, so that a good day can be told from a bad one.
_QUIET_START_S = 4.0
_QUIET_SHARE = 0.03
# In a long run; a short one crowds about as many faults into its time as one round has.
_PAUSE_S = 8.0
_PAUSES_IN_A_SHORT_RUN = 14
_COMMITS = (1, 12)
_CONNECTIONS = (1, 10)


class FaultKind(enum.StrEnum):
    """What can be done to a target."""

    KILL = "SIGKILL"
    STOP = "SIGSTOP"
    RESTART = "restart"
    FLUSH = "FLUSHALL"
    CUT_BEFORE_COMMIT = "cut before COMMIT"
    CUT_BEFORE_ANSWER = "cut before COMMIT's answer"
    CUT_IN_COMMIT = "cut during COMMIT"
    CUT_ALL = "cut all connections"
    KILL_CONNECTIONS = "KILL CONNECTION"


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that is done: `lasts_s` is how long the target is down or stopped, `times` how often it is done."""

    at_s: float
    kind: FaultKind
    target: str
    lasts_s: float = 0.0
    times: int = 1


@dataclass(frozen=True, slots=True)
class _Choice:
    """A fault that can be drawn, with the longest that it may last in a long run."""

    kind: FaultKind
    target: str
    longest_s: float = 0.0
    times: tuple[int, int] = (1, 1)


# A stopped coordinator is away far longer than its lease of two seconds; services that are alone less long.
_LONGEST_STOP_S = {"checkout": 30.0, "inventory": 30.0}
_CHOICES = (
    *[_Choice(FaultKind.KILL, name, 3.0) for name in process_names()],
    *[_Choice(FaultKind.STOP, name, _LONGEST_STOP_S.get(name.partition("-")[0], 10.0)) for name in process_names()],
    _Choice(FaultKind.RESTART, MARIADB, 2.0),
    _Choice(FaultKind.KILL, MARIADB, 2.0),
    _Choice(FaultKind.STOP, MARIADB, 8.0),
    *[
        _Choice(kind, MARIADB, times=_COMMITS)
        for kind in (FaultKind.CUT_BEFORE_COMMIT, FaultKind.CUT_BEFORE_ANSWER, FaultKind.CUT_IN_COMMIT) * 2
    ],
    _Choice(FaultKind.CUT_ALL, MARIADB),
    *[_Choice(FaultKind.KILL_CONNECTIONS, MARIADB, times=_CONNECTIONS)] * 2,
    _Choice(FaultKind.FLUSH, REDIS),
    _Choice(FaultKind.KILL, REDIS, 5.0),
    _Choice(FaultKind.STOP, REDIS, 10.0),
)


def draw(seed: int, seconds: float) -> list[Fault]:
    """The faults of a run whose load lasts so many seconds, by time. The same for the same seed and seconds."""
    rng = random.Random(seed)  # noqa: S311 - a schedule, not a secret
    last_s = seconds - max(1.0, seconds * _QUIET_SHARE)
    pause_s = min(_PAUSE_S, seconds / _PAUSES_IN_A_SHORT_RUN)
    times = itertools.takewhile(lambda at_s: at_s < last_s, _times(rng, min(_QUIET_START_S, seconds / 4), pause_s))
    return [_fault(rng, choice, at_s, left_s=seconds - at_s) for at_s, choice in zip(times, _rounds(rng), strict=False)]


def _times(rng: random.Random, start_s: float, pause_s: float) -> Iterator[float]:
    at_s = start_s
    while True:
        yield at_s
        at_s += pause_s * rng.uniform(0.25, 1.75)


def _rounds(rng: random.Random) -> Iterator[_Choice]:
    while True:
        yield from rng.sample(_CHOICES, len(_CHOICES))


def _fault(rng: random.Random, choice: _Choice, at_s: float, *, left_s: float) -> Fault:
    lasts_s = min(choice.longest_s * rng.uniform(0.2, 1.0), left_s)
    return Fault(round(at_s, 3), choice.kind, choice.target, round(lasts_s, 3), rng.randint(*choice.times))
