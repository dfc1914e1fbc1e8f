"""Seals the process: whoever reads the real time or the system's randomness, or starts a thread, fails the run.

Libraries that stamp what they keep (log records, pooled connections, metrics, tokens) are given the simulated time.
"""

import os
import random
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any
from unittest.mock import patch

import jwt.api_jwt

from mesh.clock import SYSTEM_CLOCK

BEGINNING = datetime(2026, 3, 1, 12, tzinfo=UTC)

_OURS = {"mesh", "cart_service", "inventory_service", "checkout_service", "shopmesh", "policy", "shop"}
_STAMPING = {"logging", "prometheus_client", "sqlalchemy", "jwt"}
_TIMES = ("time", "monotonic", "perf_counter", "time_ns", "monotonic_ns", "perf_counter_ns", "sleep")
_RANDOM = (
    "random",
    "uniform",
    "randint",
    "randrange",
    "choice",
    "choices",
    "sample",
    "shuffle",
    "getrandbits",
    "gauss",
)


class SealBrokenError(AssertionError):
    """The code under test reached for what the simulation has to own."""


class Seal:
    """What was reached for, and the time that libraries are told: seconds since BEGINNING."""

    def __init__(self, now: Callable[[], float]) -> None:
        self.broken: list[str] = []
        self._names = random.Random(0)  # noqa: S311 - keeps no secret
        self._now = now

    def refuse(self, what: str) -> Any:
        """Fail, and remember it: whoever asked may catch what it gets."""
        frame = sys._getframe(2)
        place = f"{what} at {frame.f_globals.get('__name__')}:{frame.f_lineno}"
        self.broken.append(place)
        raise SealBrokenError(place)

    def refused(self, what: str) -> Callable[..., Any]:
        """A function in the place of `what`."""
        return lambda *_, **__: self.refuse(what)

    def told(self, what: str) -> Callable[..., Any]:
        """A clock in the place of `what`: the simulated time for libraries, refused to everybody else."""

        def read(*_: Any) -> Any:
            caller = sys._getframe(1).f_globals.get("__name__", "")
            if caller.partition(".")[0] not in _STAMPING:
                return self.refuse(what)
            return self.wall() if what == "time" else int(self.wall() * 1e9) if what.endswith("_ns") else self._now()

        return read

    def random_bytes(self, number: int) -> bytes:
        """In the place of os.urandom: for SQLAlchemy's internal names; refused to everybody else."""
        if sys._getframe(1).f_globals.get("__name__", "").partition(".")[0] not in _STAMPING:
            self.refuse("os.urandom")
        return self._names.randbytes(number)

    def wall(self) -> float:
        """The simulated time as seconds since 1970."""
        return BEGINNING.timestamp() + self._now()

    def at(self, tz: tzinfo | None) -> datetime:
        """The simulated time."""
        return (BEGINNING + timedelta(seconds=self._now())).astimezone(tz)


@contextmanager
def sealed(now: Callable[[], float]) -> Iterator[Seal]:
    """Seal the process for as long as this lasts. `now` is the simulated time in seconds since BEGINNING."""
    seal = Seal(now)
    with ExitStack() as patches:
        for name in _TIMES:
            patches.enter_context(patch.object(time, name, seal.told(name)))
        for name in _RANDOM:
            patches.enter_context(patch.object(random, name, seal.refused(f"random.{name}")))
        patches.enter_context(patch.object(os, "urandom", seal.random_bytes))
        patches.enter_context(patch.object(random, "_urandom", seal.refused("secrets")))
        patches.enter_context(patch.object(uuid, "uuid1", seal.refused("uuid1")))
        patches.enter_context(patch.object(threading.Thread, "start", seal.refused("a thread")))
        patches.enter_context(patch.object(jwt.api_jwt, "datetime", _datetime(seal.at)))
        refused = _datetime(seal.refused("datetime.now"))
        for module in [module for name, module in sys.modules.items() if name.partition(".")[0] in _OURS]:
            if module.__dict__.get("datetime") is datetime:
                patches.enter_context(patch.object(module, "datetime", refused))
        patches.enter_context(_system_clock(seal))
        yield seal


@contextmanager
def _system_clock(seal: Seal) -> Iterator[None]:
    """Its functions were taken when the module was imported, so they are changed in the one instance that there is."""
    before = {name: getattr(SYSTEM_CLOCK, name) for name in ("now", "monotonic", "random_bytes")}
    for name in before:
        object.__setattr__(SYSTEM_CLOCK, name, seal.refused(f"SYSTEM_CLOCK.{name}"))
    try:
        yield
    finally:
        for name, function in before.items():
            object.__setattr__(SYSTEM_CLOCK, name, function)


class _LikeDatetime(type):
    """Makes every datetime an instance, so that modules under the seal take each other's."""

    def __instancecheck__(cls, instance: object) -> bool:
        return isinstance(instance, datetime)


def _datetime(now: Callable[[tzinfo | None], datetime]) -> type:
    class Sealed(datetime, metaclass=_LikeDatetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> Any:
            return now(tz)

    return Sealed
