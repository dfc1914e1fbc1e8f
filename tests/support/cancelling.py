"""Callers that give up: at a chosen await of theirs, and what must not be left of them."""

import asyncio
import gc
import itertools
from collections import Counter
from collections.abc import Callable, Coroutine, Generator
from functools import partial
from typing import Any

from redis.asyncio import ConnectionPool
from sqlalchemy.ext.asyncio import AsyncEngine

from mesh.batch import Batcher
from mesh.db import Database
from mesh.kept import KeptConnections


async def cancel_at(point: int, call: Coroutine[Any, Any, object]) -> bool:
    """Run `call` in a task of its own, which is cancelled as it suspends for the `point`-th time, counted from 0.

    Answers whether it came so far; a call that ends before is left alone. What it answers or raises is passed over.
    """
    stepped = _Stepped(call, point)
    await asyncio.gather(asyncio.create_task(_await(stepped)), return_exceptions=True)
    return stepped.reached


async def at_every_point(call: Callable[[], Coroutine[Any, Any, object]]) -> int:
    """Make the call again and again, given up one await later each time, until it ends by itself.

    Answers how many awaits it was given up at.
    """
    for point in itertools.count():
        if not await cancel_at(point, call()):
            return point
    raise AssertionError("unreachable")


class Baseline:
    """What this process holds on to while nobody asks anything of it: take it before, compare after."""

    def __init__(self) -> None:
        # What an earlier test of this process left for the collector, in a loop of its own, is none of ours.
        gc.collect()
        self._before = _held()

    async def restored(self, *, within_s: float = 10.0) -> None:
        """Wait until nothing more is held than before; names what is when that does not come about."""
        deadline = asyncio.get_running_loop().time() + within_s
        while held := _held() - self._before:
            assert asyncio.get_running_loop().time() < deadline, held
            await asyncio.sleep(0.02)


def _held() -> Counter[str]:
    held = _tasks()
    for one in gc.get_objects():
        match one:
            case Batcher():
                held[f"waiting for {one.name}"] += len(one._waiting)
            case Database():
                held["transactions"] += len(one._tasks)
            case AsyncEngine():
                held[f"connections of {one.url}"] += one.pool.checkedout()  # type: ignore[attr-defined]
            case KeptConnections():
                held[f"connections of {one._engine.url}"] -= len(one._idle)
            case ConnectionPool():
                held["connections to Redis"] += len(one._in_use_connections)
    return held


def _tasks() -> Counter[str]:
    # By what they do: a server awaits its next call in a new task each time.
    return Counter(str(getattr(task.get_coro(), "__qualname__", task)) for task in asyncio.all_tasks())


async def _await(stepped: "_Stepped") -> None:
    await stepped


class _Stepped:
    """Awaits a coroutine and cancels the task that does at one of its suspensions, as `Task.cancel` would."""

    def __init__(self, call: Coroutine[Any, Any, object], point: int) -> None:
        self._call = call
        self._point = point
        self.reached = False

    def __await__(self) -> Generator[Any, Any, object]:
        go_on = partial(self._call.send, None)
        suspensions = 0
        while True:
            try:
                waits_for = go_on()
            except StopIteration as stop:
                return stop.value
            if suspensions == self._point:
                self.reached = True
                task = asyncio.current_task()
                assert task is not None
                task.cancel()
            suspensions += 1
            try:
                go_on = partial(self._call.send, (yield waits_for))
            except BaseException as error:  # noqa: BLE001 - handed on to whom it is meant for
                go_on = partial(self._call.throw, error)
