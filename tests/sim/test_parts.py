"""The simulation's own parts: time, nodes that die or pause, and the seal."""

import asyncio
import threading
import time
import uuid
from collections.abc import Iterator
from contextvars import Context
from random import Random
from typing import Any

import pytest

from mesh.clock import SYSTEM_CLOCK
from tests.sim.loop import LIFE, Life, Loop, StuckError
from tests.sim.seal import SealBrokenError, sealed


@pytest.fixture
def loop() -> Iterator[Loop]:
    loop = Loop(Random(1))  # noqa: S311 - a simulation keeps no secret
    yield loop
    loop.close()


def _of(life: Life) -> Context:
    context = Context()
    context.run(LIFE.set, life)
    return context


def test_an_hour_of_virtual_time_takes_no_time(loop: Loop) -> None:
    began = time.monotonic()
    loop.run_until_complete(asyncio.sleep(3600))

    assert loop.time() == 3600
    assert time.monotonic() - began < 5


def test_waiting_for_what_nobody_will_do_is_noticed(loop: Loop) -> None:
    async def wait() -> None:
        await loop.create_future()

    with pytest.raises(StuckError):
        loop.run_until_complete(wait())


def test_of_a_dead_node_nothing_runs_not_even_its_finally(loop: Loop) -> None:
    life = Life("node")
    seen = []

    async def work() -> None:
        try:
            seen.append("begun")
            await asyncio.sleep(1)
            seen.append("done")
        finally:
            seen.append("finally")

    async def main() -> None:
        context = _of(life)
        task = context.run(loop.create_task, work(), context=context)
        await asyncio.sleep(0.5)
        life.end()
        task.cancel()
        await asyncio.sleep(10)

    loop.run_until_complete(main())

    assert seen == ["begun"]


def test_a_paused_node_goes_on_where_it_was_and_finds_that_time_has_passed(loop: Loop) -> None:
    life = Life("node")
    seen: list[float] = []

    async def work() -> None:
        for _ in range(3):
            await asyncio.sleep(1)
            seen.append(loop.time())

    async def main() -> None:
        context = _of(life)
        context.run(loop.create_task, work(), context=context)
        await asyncio.sleep(1.5)
        life.is_paused = True
        await asyncio.sleep(8.5)
        loop.resume(life)
        await asyncio.sleep(2)

    loop.run_until_complete(main())

    assert seen == [1, 10, 11]


def test_a_task_in_a_context_of_its_own_still_belongs_to_its_node(loop: Loop) -> None:
    life = Life("node")

    async def work() -> Life:
        return LIFE.get()

    async def main() -> Life:
        context = _of(life)
        found: Life = await context.run(lambda: loop.create_task(work(), context=Context()))
        return found

    assert loop.run_until_complete(main()) is life


@pytest.mark.parametrize(
    ("owner", "name"),
    [(time, "time"), (time, "monotonic"), (uuid, "uuid4"), (SYSTEM_CLOCK, "now"), (SYSTEM_CLOCK, "uuid7")],
)
def test_real_time_and_randomness_are_refused_and_that_they_were_asked_for_is_remembered(owner: Any, name: str) -> None:
    with sealed(lambda: 0.0) as seal, pytest.raises(SealBrokenError) as refused:
        getattr(owner, name)()

    assert seal.broken == [str(refused.value)]


def test_threads_are_refused() -> None:
    with sealed(lambda: 0.0) as seal, pytest.raises(SealBrokenError):
        threading.Thread(target=print).start()

    assert len(seal.broken) == 1
