"""Virtual time: an event loop that never waits, and that knows which node each callback belongs to.

Real asyncio runs on it unchanged: futures, tasks, locks, time-outs. When nothing is ready, the clock jumps to the next
timer. A node that was killed has its callbacks dropped; one that is paused has them kept until it goes on.
"""

import asyncio
import heapq
import weakref
from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor
from contextvars import ContextVar
from random import Random
from typing import Any, TypeVar, TypeVarTuple

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

# A loop that never gets ahead in time is a busy loop in the code under test.
_MOST_ROUNDS_AT_ONCE = 20_000


class Life:
    """One life of one node: from a start to its end, by whatever cause. The next start is another life."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.is_over = False
        self.is_paused = False
        self._held: deque[asyncio.Handle] = deque()
        self._tasks: weakref.WeakSet[asyncio.Task[Any]] = weakref.WeakSet()
        self._remains: list[asyncio.Task[Any]] = []

    @property
    def runs(self) -> bool:
        """Whether its code runs at the moment."""
        return not (self.is_over or self.is_paused)

    @property
    def tasks(self) -> list[asyncio.Task[Any]]:
        """What it has under way."""
        return [task for task in self._tasks if not task.done()]

    def owns(self, task: asyncio.Task[Any]) -> None:
        """Note that the task is a part of it."""
        self._tasks.add(task)

    def end(self) -> None:
        """Stop for good, in the middle of everything: what was under way is kept, so that no `finally` ever runs."""
        self.is_over = True
        self._remains = self.tasks

    def hold(self, handle: asyncio.Handle) -> None:
        """Keep what cannot run now: for later if paused. Of the dead nothing runs, and nothing is freed either."""
        self._held.append(handle)

    def resume(self) -> list[asyncio.Handle]:
        """Go on, with all that was held back meanwhile."""
        self.is_paused = False
        held = list(self._held)
        self._held.clear()
        return held


# Which life a callback belongs to; unset for the network, the customers and the simulation itself.
LIFE: ContextVar[Life] = ContextVar("life")


class StuckError(Exception):
    """Nothing is ready and nothing is scheduled, or time stands still: the code under test waits for ever, or spins."""


class Loop(asyncio.BaseEventLoop):
    """The loop of one simulation. What becomes ready at the same moment on several nodes runs in a drawn order."""

    # Both are asyncio's own, filled by call_soon and call_at.
    _ready: "deque[asyncio.Handle]"
    _scheduled: list[asyncio.TimerHandle]
    _stopping: bool

    def __init__(self, rng: Random) -> None:
        super().__init__()
        self._rng = rng
        self._now = 0.0
        self._rounds = 0
        self.steps = 0

    def time(self) -> float:
        """Virtual seconds since the simulation began."""
        return self._now

    def create_task(self, coro: Any, *, name: Any = None, context: Any = None) -> Any:
        """A task belongs to the node that makes it, even in a context of its own."""
        life = LIFE.get(None)
        if context is not None and life is not None and LIFE not in context:
            context.run(LIFE.set, life)
        task = super().create_task(coro, name=name, context=context)
        if life is not None:
            life.owns(task)
        return task

    def run_in_executor(
        self,
        executor: Executor | None,  # noqa: ARG002 - asyncio's
        func: Callable[[*Ts], T],
        *args: *Ts,
    ) -> "asyncio.Future[T]":
        """Do it at once; not for a node, which would have a thread for it."""
        life = LIFE.get(None)
        if life is not None:
            raise StuckError(f"a thread of {life.name} for {func}")
        done: asyncio.Future[T] = self.create_future()
        done.set_result(func(*args))
        return done

    def resume(self, life: Life) -> None:
        """Let a paused node go on."""
        self._ready.extend(life.resume())

    def _run_once(self) -> None:
        """One round, in place of asyncio's, which would wait for input and output."""
        if not self._ready:
            self._advance()
        self._take_due()
        if len(self._ready) == 1:
            self._run_one(self._ready.popleft())
            return
        batch = list(self._ready)
        self._ready.clear()
        for handle in self._in_drawn_order(batch):
            self._run_one(handle)

    def _run_one(self, handle: asyncio.Handle) -> None:
        if handle._cancelled:
            return
        life = handle._context.get(LIFE)  # type: ignore[attr-defined]
        if life is not None and not life.runs:
            life.hold(handle)
            return
        self.steps += 1
        handle._run()

    def _advance(self) -> None:
        while self._scheduled and self._scheduled[0].cancelled():
            self._pop()
        if not self._scheduled:
            raise StuckError("nothing is ready and nothing is scheduled")
        self._now = max(self._now, self._scheduled[0]._when)  # type: ignore[attr-defined]
        self._rounds = 0

    def _take_due(self) -> None:
        self._rounds += 1
        if self._rounds > _MOST_ROUNDS_AT_ONCE:
            raise StuckError(f"{_MOST_ROUNDS_AT_ONCE} rounds without a step in time")
        while self._scheduled and self._scheduled[0]._when <= self._now:  # type: ignore[attr-defined]
            handle = self._pop()
            if not handle.cancelled():
                self._ready.append(handle)

    def _pop(self) -> asyncio.TimerHandle:
        handle = heapq.heappop(self._scheduled)
        handle._scheduled = False  # type: ignore[attr-defined]
        return handle

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """Nothing: cancelled timers are passed over when they come up."""

    def _in_drawn_order(self, batch: list[asyncio.Handle]) -> list[asyncio.Handle]:
        """Each node's callbacks in their order, the nodes among each other as drawn."""
        # By life, in the order of their first callbacks.
        lives = dict.fromkeys(handle._context.get(LIFE) for handle in batch)  # type: ignore[attr-defined]
        if len(lives) < 2:
            return batch
        ranks = {life: self._rng.random() for life in lives}
        return sorted(batch, key=lambda handle: ranks[handle._context.get(LIFE)])  # type: ignore[attr-defined]

    def _process_events(self, event_list: Any) -> None:
        """Nothing: there is no input and output."""

    def _write_to_self(self) -> None:
        """Nothing: there is no other thread to wake the loop from."""
