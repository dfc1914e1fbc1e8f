"""Set-oriented writes: whatever waits while one transaction is in flight forms the next one.

A hot write path submits single items; a lane takes all that wait, hands them to `flush` as one list, and answers each
only after `flush` returned, that is after COMMIT. Who comes alone leaves at once: an idle system has batches of one. A
batch whose data the database refuses is split in halves until the poison item stands alone and fails alone.
"""

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from prometheus_client import Histogram

from mesh.errors import Failure, Kind, PoisonError

T = TypeVar("T")
R = TypeVar("R")
# Answers in the order of the items; a Failure fails its own item and no other. Atomic: all it wrote, or nothing.
Flush = Callable[[Sequence[T]], Awaitable[Sequence[R | Failure]]]

# For the `gather_s` of batchers that callers reach one by one.
GATHER_S = 0.005
# Nobody came for so long: no more are coming.
_QUIET_S = 0.002
_ITEMS = Histogram("batch_items", "Items of a batch.", ["batch"], buckets=(1, 2, 4, 8, 16, 32, 64, 128, 256))

_log = logging.getLogger(__name__)


@dataclass(slots=True, eq=False)
class _Entry(Generic[T, R]):
    item: T
    deadline: float | None
    answer: asyncio.Future[R]


class Batcher(Generic[T, R]):
    """One bounded queue and its lanes. Make it on the running loop; `close` answers what waits, then ends the lanes."""

    def __init__(
        self,
        name: str,
        flush: Flush[T, R],
        *,
        max_items: int = 256,
        max_waiting: int = 8192,
        lanes: int = 1,
        room: Callable[[], Awaitable[None]] | None = None,
        gather_s: float = 0.0,
    ) -> None:
        """With `room`, a batch is not taken before that returns: what arrives meanwhile joins it.

        With `gather_s`, a batch behind one of several waits until as many have come, or as long as more keep coming,
        and at most so long: callers who were answered together come again together, and few large batches cost less
        than many small ones.
        """
        self.name = name
        self._loop = asyncio.get_running_loop()
        self._flush = flush
        self._max_items = max_items
        self._max_waiting = max_waiting
        self._room = room
        self._gather_s = gather_s
        # How many the last batch had; whether some that wait came as a batch, and so have gathered already.
        self._last = 0
        self._grouped = False
        # Set while the next batch gathers; whoever makes it large enough ends that.
        self._gathering: asyncio.Future[None] | None = None
        self._waiting: deque[_Entry[T, R]] = deque()
        self._arrived = asyncio.Event()
        self._closing = False
        self._items = _ITEMS.labels(name)
        self._lanes = [asyncio.create_task(self._lane(), name=f"batch {name} {n}") for n in range(lanes)]

    async def submit(self, item: T, *, deadline: float | None = None) -> R:
        """Put the item into the next batch and answer its result, durable.

        `deadline` is in loop time: an item that still waits then is dropped unseen (DEADLINE_EXCEEDED). Raises
        RESOURCE_EXHAUSTED when the queue is full, or the item's own Failure. A caller that is cancelled while waiting
        takes its item out; once in flight the item is written regardless.
        """
        entry = self._enqueue(item, deadline)
        try:
            return await entry.answer
        except asyncio.CancelledError:
            self._take_out(entry)
            raise

    async def submit_many(self, items: Sequence[T], *, deadline: float | None = None) -> list[R | Failure]:
        """As `submit` for many: their results in order, each its own Failure where it has one."""
        if len(self._waiting) + len(items) > self._max_waiting:
            raise self._overloaded()
        self._grouped = True
        entries = [self._enqueue(item, deadline) for item in items]
        try:
            answers = await asyncio.gather(*(entry.answer for entry in entries), return_exceptions=True)
        except asyncio.CancelledError:
            for entry in entries:
                self._take_out(entry)
            raise
        return [_result_or_failure(answer) for answer in answers]

    async def close(self) -> None:
        """Refuse what comes, finish what waits, end the lanes."""
        self._closing = True
        self._arrived.set()
        await asyncio.gather(*self._lanes)

    def _enqueue(self, item: T, deadline: float | None) -> _Entry[T, R]:
        if self._closing or len(self._waiting) >= self._max_waiting:
            raise self._overloaded()
        entry: _Entry[T, R] = _Entry(item, deadline, self._loop.create_future())
        self._waiting.append(entry)
        self._arrived.set()
        if self._gathering is not None and self._has_gathered():
            _wake(self._gathering)
        return entry

    def _take_out(self, entry: _Entry[T, R]) -> None:
        # Once in flight it is no longer there.
        with contextlib.suppress(ValueError):
            self._waiting.remove(entry)

    def _overloaded(self) -> Failure:
        message = f"Too much is waiting for {self.name}."
        return Failure(Kind.RESOURCE_EXHAUSTED, "QUEUE_FULL", message, retry_after_s=1.0)

    async def _lane(self) -> None:
        while True:
            await self._arrived.wait()
            if self._room is not None and self._waiting:
                await self._room()
            if self._gather_s and self._last > 1:
                await self._gather()
            batch = self._take()
            if batch:
                self._last, self._grouped = len(batch), False
                self._items.observe(len(batch))
                await self._run(batch)
            elif self._closing:
                return
            else:
                self._arrived.clear()

    async def _gather(self) -> None:
        ends_at = self._loop.time() + self._gather_s
        seen = 0
        while seen < len(self._waiting) and not self._has_gathered() and self._loop.time() < ends_at:
            seen = len(self._waiting)
            self._gathering = self._loop.create_future()
            quiet = self._loop.call_later(_QUIET_S, _wake, self._gathering)
            await self._gathering
            quiet.cancel()
        self._gathering = None

    def _has_gathered(self) -> bool:
        return self._grouped or len(self._waiting) >= self._last

    def _take(self) -> list[_Entry[T, R]]:
        now = self._loop.time()
        batch: list[_Entry[T, R]] = []
        while self._waiting and len(batch) < self._max_items:
            entry = self._waiting.popleft()
            if entry.answer.done():
                continue
            if entry.deadline is not None and entry.deadline <= now:
                entry.answer.set_exception(_expired(self.name))
                continue
            batch.append(entry)
        return batch

    async def _run(self, batch: list[_Entry[T, R]]) -> None:
        try:
            results = await self._flush([entry.item for entry in batch])
            _check_count(results, batch)
        except PoisonError as error:
            await self._split(batch, error)
        except Failure as failure:
            self._fail(batch, failure)
        except Exception:  # noqa: BLE001 - the lane outlives whatever a flush does; each caller learns of it
            _log.exception("batch failed", extra={"batch": self.name, "items": len(batch)})
            self._fail(batch, Failure(Kind.INTERNAL, "INTERNAL", "Something went wrong here."))
        else:
            for entry, result in zip(batch, results, strict=True):
                _answer(entry.answer, result)

    async def _split(self, batch: list[_Entry[T, R]], error: PoisonError) -> None:
        if len(batch) == 1:
            _log.error("poison item", extra={"batch": self.name, "cause": str(error)})
            self._fail(batch, Failure(Kind.INTERNAL, "DATA_REFUSED", "The database refused this request's data."))
            return
        middle = len(batch) // 2
        await self._run(batch[:middle])
        await self._run(batch[middle:])

    def _fail(self, batch: list[_Entry[T, R]], failure: Failure) -> None:
        for entry in batch:
            _answer(entry.answer, failure)


def _wake(sleeper: asyncio.Future[None]) -> None:
    if not sleeper.done():
        sleeper.set_result(None)


def _answer(future: asyncio.Future[R], result: R | Failure) -> None:
    if future.done():
        return
    if isinstance(result, Failure):
        future.set_exception(result)
    else:
        future.set_result(result)


def _check_count(results: Sequence[object], batch: Sequence[object]) -> None:
    if len(results) != len(batch):
        raise ValueError(f"{len(results)} answers for {len(batch)} items")


def _result_or_failure(answer: R | BaseException) -> R | Failure:
    if isinstance(answer, BaseException) and not isinstance(answer, Failure):
        raise answer
    return answer


def _expired(name: str) -> Failure:
    return Failure(Kind.DEADLINE_EXCEEDED, "DEADLINE_EXCEEDED", f"The deadline passed while waiting for {name}.")
