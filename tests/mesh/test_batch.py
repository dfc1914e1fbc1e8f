import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import pytest
from prometheus_client import REGISTRY

from mesh.batch import Batcher
from mesh.errors import Failure, Kind, PoisonError, unavailable


class Recorder:
    """A flush that notes its batches and goes on only when it is let."""

    def __init__(self) -> None:
        self.batches: list[list[Any]] = []
        self.open = asyncio.Event()
        self.entered = asyncio.Event()

    async def flush(self, items: Sequence[Any]) -> list[Any]:
        self.batches.append(list(items))
        self.entered.set()
        await self.open.wait()
        return [f"done {item}" for item in items]


Make = Callable[..., Batcher[Any, Any]]


@pytest.fixture
async def make() -> AsyncIterator[Make]:
    """Batchers that are closed after the test."""
    made: list[Batcher[Any, Any]] = []

    def batcher(flush: Any, **options: Any) -> Batcher[Any, Any]:
        made.append(Batcher("test", flush, **options))
        return made[-1]

    yield batcher
    await asyncio.gather(*(batcher.close() for batcher in made))


def submit(batcher: Batcher[Any, Any], *items: Any, **options: Any) -> list[asyncio.Task[Any]]:
    return [asyncio.create_task(batcher.submit(item, **options)) for item in items]


async def busy(batcher: Batcher[Any, Any], recorder: Recorder) -> asyncio.Task[Any]:
    """Bring a first item into flight, so that what follows waits."""
    [first] = submit(batcher, "first")
    await recorder.entered.wait()
    return first


async def settled() -> None:
    """Let tasks that can run do so."""
    for _ in range(10):
        await asyncio.sleep(0)


def gathering(recorder: Recorder, make: Make) -> Batcher[Any, Any]:
    recorder.open.set()
    return make(recorder.flush, gather_s=60)


async def test_behind_a_batch_of_several_those_who_keep_coming_are_waited_for(make: Make) -> None:
    recorder = Recorder()
    batcher = gathering(recorder, make)

    await asyncio.gather(*submit(batcher, 1, 2, 3))
    tasks = submit(batcher, 4)
    await settled()
    tasks += submit(batcher, 5)
    await settled()
    assert recorder.batches == [[1, 2, 3]]
    await asyncio.gather(*tasks)

    assert recorder.batches == [[1, 2, 3], [4, 5]]


async def test_once_as_many_have_come_as_before_nobody_waits_for_more(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mesh.batch._QUIET_S", 60)
    recorder = Recorder()
    batcher = gathering(recorder, make)

    await asyncio.gather(*submit(batcher, 1, 2, 3))
    tasks = submit(batcher, 4, 5)
    await settled()
    assert recorder.batches == [[1, 2, 3]]
    tasks += submit(batcher, 6)
    await asyncio.gather(*tasks)

    assert recorder.batches == [[1, 2, 3], [4, 5, 6]]


async def test_who_comes_alone_is_not_made_to_wait_for_others(make: Make) -> None:
    recorder = Recorder()
    batcher = gathering(recorder, make)

    for number in (1, 2):
        submit(batcher, number)
        await settled()

    assert recorder.batches == [[1], [2]]


async def test_who_comes_as_a_batch_has_gathered_already(make: Make) -> None:
    recorder = Recorder()
    batcher = gathering(recorder, make)

    await asyncio.gather(*submit(batcher, 1, 2, 3))
    many = asyncio.create_task(batcher.submit_many([4, 5]))
    await settled()

    assert recorder.batches == [[1, 2, 3], [4, 5]]
    await many


async def test_gathering_ends_with_its_time_though_more_keep_coming(make: Make) -> None:
    recorder = Recorder()
    recorder.open.set()
    # Neither too many for a batch nor quiet for a moment, nor as many as before: only the time can end it.
    batcher = make(recorder.flush, gather_s=0.005, max_items=1_000_000, max_waiting=1_000_000)
    await asyncio.gather(*submit(batcher, *range(20_000)))

    tasks: list[asyncio.Task[Any]] = []
    while len(recorder.batches) == 1:
        tasks += submit(batcher, len(tasks))
        await asyncio.sleep(0)
    await asyncio.gather(*tasks)

    assert len(recorder.batches[1]) < 20_000
    assert sum(map(len, recorder.batches)) == 20_000 + len(tasks)


async def test_a_batcher_that_closes_while_it_gathers_answers_who_waits(make: Make) -> None:
    recorder = Recorder()
    batcher = gathering(recorder, make)
    await asyncio.gather(*submit(batcher, 1, 2))

    [last] = submit(batcher, 3)
    await settled()
    assert recorder.batches == [[1, 2]]
    await batcher.close()

    assert await last == "done 3"


async def test_a_batch_tells_its_size(make: Make) -> None:
    def told(name: str) -> float:
        return REGISTRY.get_sample_value(f"batch_items_{name}", {"batch": "test"}) or 0

    recorder, before = Recorder(), (told("count"), told("sum"))
    batcher = make(recorder.flush)
    await busy(batcher, recorder)
    waiting = submit(batcher, "a", "b", "c")
    recorder.open.set()
    await asyncio.gather(*waiting)

    assert (told("count") - before[0], told("sum") - before[1]) == (2, 4)


async def test_an_idle_lane_takes_one_item_at_once(make: Make) -> None:
    recorder = Recorder()
    recorder.open.set()

    assert await make(recorder.flush).submit("a") == "done a"
    assert recorder.batches == [["a"]]


async def test_whatever_waits_forms_the_next_batch_in_order(make: Make) -> None:
    recorder = Recorder()
    batcher = make(recorder.flush)
    first = await busy(batcher, recorder)
    others = submit(batcher, *"abc")
    await settled()

    recorder.open.set()

    assert await asyncio.gather(first, *others) == ["done first", "done a", "done b", "done c"]
    assert recorder.batches == [["first"], ["a", "b", "c"]]


async def test_a_batch_has_no_more_than_max_items(make: Make) -> None:
    recorder = Recorder()
    batcher = make(recorder.flush, max_items=2)
    await busy(batcher, recorder)
    others = submit(batcher, *"abc")
    await settled()
    recorder.open.set()
    await asyncio.gather(*others)

    assert recorder.batches == [["first"], ["a", "b"], ["c"]]


async def test_two_lanes_work_beside_each_other(make: Make) -> None:
    recorder = Recorder()
    batcher = make(recorder.flush, lanes=2)
    await busy(batcher, recorder)
    [second] = submit(batcher, "second")
    await settled()

    assert recorder.batches == [["first"], ["second"]]
    recorder.open.set()
    assert await second == "done second"


async def test_what_arrives_before_there_is_room_joins_the_batch(make: Make) -> None:
    recorder, room = Recorder(), asyncio.Event()
    recorder.open.set()

    async def has_room() -> None:
        await room.wait()

    batcher = make(recorder.flush, room=has_room)
    waiting = submit(batcher, "a")
    await settled()
    waiting += submit(batcher, "b", "c")
    await settled()
    assert recorder.batches == []
    room.set()

    assert await asyncio.gather(*waiting) == ["done a", "done b", "done c"]
    assert recorder.batches == [["a", "b", "c"]]


async def test_a_full_queue_refuses_with_a_time_to_come_back(make: Make) -> None:
    recorder = Recorder()
    batcher = make(recorder.flush, max_waiting=2)
    await busy(batcher, recorder)
    waiting = submit(batcher, *"ab")
    await settled()

    with pytest.raises(Failure) as caught:
        await batcher.submit("c")
    with pytest.raises(Failure, match="QUEUE_FULL"):
        await batcher.submit_many(["d"])

    assert caught.value.kind is Kind.RESOURCE_EXHAUSTED
    assert caught.value.retry_after_s
    recorder.open.set()
    assert await asyncio.gather(*waiting) == ["done a", "done b"]


async def test_those_who_gave_up_leave_room_in_the_queue(make: Make) -> None:
    recorder = Recorder()
    batcher = make(recorder.flush, max_waiting=2)
    await busy(batcher, recorder)
    for task in (waiting := submit(batcher, *"ab")):
        await settled()
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)

    [later] = submit(batcher, "c")
    await settled()
    recorder.open.set()

    assert await later == "done c"
    assert recorder.batches == [["first"], ["c"]]


async def test_a_cancelled_caller_of_many_takes_them_all_out(make: Make) -> None:
    recorder = Recorder()
    batcher = make(recorder.flush, max_waiting=2)
    await busy(batcher, recorder)
    many = asyncio.create_task(batcher.submit_many(["a", "b"]))
    await settled()

    many.cancel()
    await asyncio.gather(many, return_exceptions=True)
    [later] = submit(batcher, "c")
    recorder.open.set()

    assert await later == "done c"
    assert recorder.batches == [["first"], ["c"]]


async def test_an_expired_item_is_dropped_unseen(make: Make) -> None:
    recorder = Recorder()
    batcher = make(recorder.flush)
    await busy(batcher, recorder)
    now = asyncio.get_running_loop().time()
    [expired] = submit(batcher, "late", deadline=now)
    [living] = submit(batcher, "early", deadline=now + 60)
    await settled()
    recorder.open.set()

    with pytest.raises(Failure) as caught:
        await expired
    assert caught.value.kind is Kind.DEADLINE_EXCEEDED
    assert await living == "done early"
    assert recorder.batches == [["first"], ["early"]]


async def test_a_cancelled_waiter_takes_its_item_out(make: Make) -> None:
    recorder = Recorder()
    batcher = make(recorder.flush)
    await busy(batcher, recorder)
    gone, stays = submit(batcher, "gone", "stays")
    await settled()

    gone.cancel()
    await settled()
    recorder.open.set()

    assert await stays == "done stays"
    assert gone.cancelled()
    assert recorder.batches == [["first"], ["stays"]]


async def test_a_caller_cancelled_in_flight_harms_nobody(make: Make) -> None:
    recorder = Recorder()
    batcher = make(recorder.flush)
    await busy(batcher, recorder)
    batch = submit(batcher, *"abc")
    await settled()
    recorder.entered.clear()
    recorder.open.set()
    await recorder.entered.wait()

    batch[1].cancel()

    answers = await asyncio.gather(*batch, return_exceptions=True)
    assert [answers[0], answers[2]] == ["done a", "done c"]
    assert recorder.batches == [["first"], ["a", "b", "c"]]
    assert await batcher.submit("next") == "done next"


@pytest.mark.survives("poison-alone")
async def test_a_poison_item_is_split_off_until_it_fails_alone(make: Make) -> None:
    committed: list[list[int]] = []

    async def flush(items: Sequence[int]) -> list[int]:
        await asyncio.sleep(0)
        if 13 in items:
            raise PoisonError("a CHECK said no")
        committed.append(list(items))
        return [item * 2 for item in items]

    answers = await make(flush).submit_many(list(range(10, 18)))

    poison = answers[3]
    assert isinstance(poison, Failure)
    assert (poison.kind, poison.reason) == (Kind.INTERNAL, "DATA_REFUSED")
    assert "CHECK" not in poison.message
    assert answers[:3] + answers[4:] == [20, 22, 24, 28, 30, 32, 34]
    assert sorted(item for batch in committed for item in batch) == [10, 11, 12, 14, 15, 16, 17]


async def test_a_failure_as_a_result_fails_its_own_item_only(make: Make) -> None:
    refusal = Failure(Kind.FAILED_PRECONDITION, "OUT_OF_STOCK", "Out.")

    async def flush(items: Sequence[str]) -> list[str | Failure]:
        return [refusal if item == "b" else item for item in items]

    assert await make(flush).submit_many(["a", "b", "c"]) == ["a", refusal, "c"]


@pytest.mark.survives("outage-multiplies-nothing")
async def test_a_transient_failure_fails_the_whole_batch_after_one_try(make: Make) -> None:
    tries = 0

    async def flush(_: Sequence[str]) -> list[str]:
        nonlocal tries
        tries += 1
        raise unavailable("DATABASE_UNAVAILABLE", "Away.")

    answers = await make(flush).submit_many(["a", "b", "c"])

    assert [answer.reason for answer in answers] == ["DATABASE_UNAVAILABLE"] * 3
    assert tries == 1


async def test_a_flush_that_breaks_says_nothing_to_callers_and_the_lane_goes_on(make: Make) -> None:
    async def flush(items: Sequence[str]) -> list[str]:
        if "bad" in items:
            raise RuntimeError("secret words")
        return list(items)

    batcher = make(flush)
    with pytest.raises(Failure) as caught:
        await batcher.submit("bad")

    assert caught.value.kind is Kind.INTERNAL
    assert "secret" not in str(caught.value)
    assert await batcher.submit("good") == "good"


@pytest.mark.parametrize("answers", [[], ["one", "too many"]], ids=["too few", "too many"])
async def test_a_flush_that_miscounts_leaves_nobody_waiting(make: Make, answers: list[str]) -> None:
    async def flush(_: Sequence[str]) -> list[str]:
        return answers

    batcher = make(flush)
    for _ in range(2):
        with pytest.raises(Failure, match="INTERNAL"):
            await asyncio.wait_for(batcher.submit("a"), 5)


async def test_closing_refuses_what_comes_and_finishes_what_waits() -> None:
    recorder = Recorder()
    batcher: Batcher[Any, Any] = Batcher("test", recorder.flush)
    first = await busy(batcher, recorder)
    others = submit(batcher, *"ab")
    await settled()

    closing = asyncio.create_task(batcher.close())
    await settled()
    with pytest.raises(Failure):
        await batcher.submit("late")
    recorder.open.set()
    await closing

    assert [task.result() for task in (first, *others)] == ["done first", "done a", "done b"]


async def test_nothing_submitted_is_nothing_done(make: Make) -> None:
    recorder = Recorder()

    assert await make(recorder.flush).submit_many([]) == []
    assert recorder.batches == []
