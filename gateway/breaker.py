"""A breaker for each upstream: what hangs is not waited for by everybody.

An upstream that is gone needs none, since its channel refuses at once. One that takes calls and never answers would
hold every request until its deadline: behind so many of these in a row, calls are refused at once, but for one now and
then that finds out whether it answers again.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from gateway.errors import HttpError, unavailable

_MOST_IN_A_ROW = 20
_PAUSE_S = 1.0


class Breaker:
    """Counts the calls of one upstream that ran into their deadline, one after the other."""

    def __init__(
        self, *, most: int = _MOST_IN_A_ROW, pause_s: float = _PAUSE_S, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._most = most
        self._pause_s = pause_s
        self._clock = clock
        self._in_a_row = 0
        self._next_try = 0.0

    def check(self) -> None:
        """Raise UNAVAILABLE unless a call may be made now."""
        if self._in_a_row < self._most:
            return
        now = self._clock()
        if now < self._next_try:
            raise _open()
        # This one finds out; others wait for what it finds.
        self._next_try = now + self._pause_s

    def answered(self) -> None:
        """A call was answered, in whatever way."""
        self._in_a_row = 0

    def timed_out(self) -> None:
        """A call ran into the deadline that we gave it."""
        self._in_a_row += 1
        if self._in_a_row >= self._most:
            self._next_try = self._clock() + self._pause_s


def _open() -> HttpError:
    return unavailable("the service has not answered for a while, try again", "UPSTREAM_HANGS")
