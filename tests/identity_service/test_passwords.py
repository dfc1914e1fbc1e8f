import asyncio
import threading

import argon2
import pytest

from identity_service.passwords import MEMORY_KIB, TIME_COST, Passwords
from mesh.errors import Failure, Kind


def weak(*, max_waiting: int = 100, threads: int = 2) -> Passwords:
    return Passwords(threads=threads, max_waiting=max_waiting, time_cost=1, memory_kib=8)


async def test_hashes_are_argon2id_at_the_stated_cost() -> None:
    hashed = await Passwords(threads=1).hash("correct horse")

    parameters = argon2.extract_parameters(hashed)
    assert parameters.type is argon2.Type.ID
    assert (parameters.memory_cost, parameters.time_cost, parameters.parallelism) == (MEMORY_KIB, TIME_COST, 1)


async def test_only_the_password_itself_matches_its_hash() -> None:
    passwords = weak()
    hashed = await passwords.hash("correct horse")

    assert await passwords.verify("correct horse", hashed)
    assert not await passwords.verify("correct horse ", hashed)


async def test_a_password_may_be_typed_composed_or_decomposed() -> None:
    passwords = weak()

    assert await passwords.verify("cafe\u0301-bar", await passwords.hash("caf\u00e9-bar"))


async def test_an_unknown_account_costs_a_verification_and_never_matches() -> None:
    passwords = Passwords(threads=1)
    standing_in = passwords._nobodys

    assert not await passwords.verify("correct horse", None)
    assert not passwords.is_outdated(standing_in)


async def test_a_hash_of_other_parameters_is_outdated() -> None:
    old = await weak().hash("correct horse")

    assert Passwords(threads=1, time_cost=2, memory_kib=8).is_outdated(old)
    assert not weak().is_outdated(old)


async def test_no_more_run_at_once_than_there_are_threads() -> None:
    passwords = weak(threads=2)
    running, most, lock = 0, 0, threading.Lock()

    def work() -> None:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        barrier.wait()
        with lock:
            running -= 1

    barrier = threading.Barrier(2, timeout=10)

    await asyncio.gather(*(passwords._in_thread(work) for _ in range(20)))

    assert most == 2


async def test_what_exceeds_the_queue_is_refused_with_a_time_to_come_back() -> None:
    passwords = weak(max_waiting=3)

    answers = await asyncio.gather(*(passwords.hash("correct horse") for _ in range(5)), return_exceptions=True)

    refused = [answer for answer in answers if isinstance(answer, Failure)]
    assert len(refused) == 2
    assert {failure.kind for failure in refused} == {Kind.RESOURCE_EXHAUSTED}
    assert all(failure.retry_after_s for failure in refused)
    assert await passwords.verify("correct horse", await passwords.hash("correct horse"))


async def test_a_caller_who_gives_up_takes_its_work_out_of_the_queue() -> None:
    passwords = weak(threads=1)
    release, done = threading.Event(), []
    first = asyncio.create_task(passwords._in_thread(lambda: release.wait(10)))
    second = asyncio.create_task(passwords._in_thread(lambda: done.append("worked")))
    await asyncio.sleep(0)

    second.cancel()
    with pytest.raises(asyncio.CancelledError):
        await second
    release.set()
    await first
    await passwords.hash("a later one in the same thread")

    assert done == []
