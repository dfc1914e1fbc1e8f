"""Places where a program can be made to fail on purpose; every transaction and every remote call is one.

A failpoint bears the name of what it stands at: `transact.<name>`, `call.<Rpc>`, or what another boundary calls itself.
A text says which strike, how, and at which of their hits:

    transact.saga_steps=crash_after@3         the third time that the transaction is about to commit
    call.BatchReserve=duplicate               the first call
    call.BatchCommit=error@2x4                the second call and the three after it
    call.SettleCarts=delay:2.5@*              every call, by 2.5 seconds

Several are separated by commas. Programs read the text from SHOP_TEST_FAILPOINTS; `@<path>` there names a file that
holds it, may be replaced while the program runs, and arms everything afresh when it is. Without the variable there are
no Failpoints at all, and a boundary costs one comparison with None.
"""

import asyncio
import enum
import math
import os
import re
import signal
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TypeVar

from mesh.errors import ConfigError

T = TypeVar("T")

VARIABLE = "SHOP_TEST_FAILPOINTS"
_DELAY_S = 0.5
_RULE = re.compile(
    r"(?P<name>[^=,@]+)=(?P<mode>[a-z_]+)(:(?P<seconds>\d+(\.\d+)?))?(@(?P<first>\d+|\*)(x(?P<times>\d+|\*))?)?"
)


class Mode(enum.StrEnum):
    """What happens at a failpoint that strikes."""

    # The process is killed: in a transaction, before it commits; in a call, before it is sent.
    CRASH_BEFORE = "crash_before"
    # The process is killed: once it has committed, or been answered.
    CRASH_AFTER = "crash_after"
    # It does not happen, and fails as in an outage that passes.
    ERROR = "error"
    # It happens, and its answer never comes.
    TIME_OUT = "time_out"
    # It happens twice.
    DUPLICATE = "duplicate"
    # It happens later; a transaction holds the locks that it has taken by reading meanwhile.
    DELAY = "delay"


_STRIKES_BEFORE = frozenset({Mode.CRASH_BEFORE, Mode.ERROR, Mode.DELAY})


class FailpointError(Exception):
    """A failpoint has struck; the boundary raises instead what it raises when that really happens."""


class OutageError(FailpointError):
    """It did not happen."""


class AnswerLostError(FailpointError):
    """It happened, and nobody was told."""


def _untold() -> None:
    """Nobody wants to know."""


@dataclass(frozen=True, slots=True)
class Strike:
    """What one hit of a failpoint does; without a mode, nothing. It tells before it does."""

    mode: Mode | None = None
    seconds: float = 0.0
    tell: Callable[[], None] = _untold

    async def before(self) -> None:
        """At the last moment before it happens. Raises OutageError."""
        if self.mode not in _STRIKES_BEFORE:
            return
        self.tell()
        if self.mode is Mode.CRASH_BEFORE:
            _crash()
        if self.mode is Mode.ERROR:
            raise OutageError
        await asyncio.sleep(self.seconds)

    async def after(self, result: T, again: Callable[[], Awaitable[T]]) -> T:
        """Once it has happened with this result: what the caller learns of it. Raises AnswerLostError."""
        if self.mode is None or self.mode in _STRIKES_BEFORE:
            return result
        self.tell()
        if self.mode is Mode.CRASH_AFTER:
            _crash()
        if self.mode is Mode.TIME_OUT:
            raise AnswerLostError
        return await again()


NO_STRIKE = Strike()


@dataclass(frozen=True, slots=True)
class _Rule:
    """A failpoint strikes at its hits `first` to `last`, counted from 1."""

    strike: Strike
    first: int
    last: float


class Failpoints:
    """The failpoints of one program, armed as `text` says. Raises ConfigError when it cannot be read."""

    def __init__(self, text: str = "") -> None:
        self._arm(text)

    def hit(self, name: str) -> Strike:
        """Whoever comes to the failpoint `name` learns what happens to them."""
        self._hits[name] += 1
        rule = self._rules.get(name)
        return rule.strike if rule is not None and rule.first <= self._hits[name] <= rule.last else NO_STRIKE

    def miss(self, name: str) -> None:
        """What was hit last was about to happen and did not: that hit does not count, so that the next one strikes."""
        self._hits[name] -= 1

    def _arm(self, text: str) -> None:
        self._rules = dict(_parsed(rule) for rule in text.strip().split(",") if rule)
        self._hits: Counter[str] = Counter()


class FailpointFile(Failpoints):
    """Failpoints armed by a file, afresh each time that it is replaced.

    `<file>.log` gets a line for each hit, the failpoint's name; for one that strikes `<name>=<mode>` instead, right
    before it does. What was to be struck once it has happened, and does not happen, gets none.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stamp = (0, 0)
        super().__init__()

    def hit(self, name: str) -> Strike:
        """As Failpoints.hit."""
        self._look()
        strike = super().hit(name)
        if strike.mode is None:
            self._log(name)
            return strike
        return replace(strike, tell=partial(self._log, f"{name}={strike.mode}"))

    def _look(self) -> None:
        found = self._path.stat()
        if (found.st_mtime_ns, found.st_ino) != self._stamp:
            self._stamp = found.st_mtime_ns, found.st_ino
            self._arm(self._path.read_text())

    def _log(self, line: str) -> None:
        # A single write, so that a crash right behind it loses nothing and several processes may share the file.
        with self._path.with_name(f"{self._path.name}.log").open("ab", buffering=0) as log:
            log.write(f"{line}\n".encode())


def from_environment(environment: Mapping[str, str]) -> Failpoints | None:
    """The failpoints that SHOP_TEST_FAILPOINTS arms; None without it. Raises ConfigError."""
    text = environment.get(VARIABLE)
    if not text:
        return None
    return FailpointFile(Path(text[1:])) if text.startswith("@") else Failpoints(text)


async def around(failpoints: Failpoints | None, name: str, call: Callable[[], Awaitable[T]]) -> T:
    """Make a remote call, through its failpoint if there are any. Raises FailpointError, to be raised in own words."""
    if failpoints is None:
        return await call()
    strike = failpoints.hit(name)
    await strike.before()
    return await strike.after(await call(), call)


def _parsed(text: str) -> tuple[str, _Rule]:
    found = _RULE.fullmatch(text.strip())
    if found is None or found["mode"] not in frozenset(Mode):
        modes = ", ".join(Mode)
        raise ConfigError([f"{VARIABLE}: {text!r} must be name=mode@hit, the mode one of {modes}"])
    every = found["first"] == "*"
    first = 1 if every else int(found["first"] or 1)
    times = math.inf if every or found["times"] == "*" else int(found["times"] or 1)
    strike = Strike(Mode(found["mode"]), float(found["seconds"] or _DELAY_S))
    return found["name"], _Rule(strike, first, first + times - 1)


def _crash() -> None:
    os.kill(os.getpid(), signal.SIGKILL)
