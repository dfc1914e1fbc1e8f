"""Runs a coroutine in a process of its own, under uvloop, so that what it takes of the processors is all its own."""

import multiprocessing
from collections.abc import Awaitable, Callable
from concurrent.futures import ProcessPoolExecutor
from typing import Any, TypeVar, cast

import uvloop

Answer = TypeVar("Answer")


def apart(main: Callable[..., Awaitable[Answer]], *arguments: object) -> Answer:
    """What `main`, a function of a module, answers in a new process. Raises what it raises."""
    context = multiprocessing.get_context("forkserver")
    with ProcessPoolExecutor(max_workers=1, mp_context=context) as executor:
        return executor.submit(cast("Callable[..., Answer]", _run), main, *arguments).result()


def _run(main: Callable[..., Any], *arguments: object) -> object:
    return uvloop.run(main(*arguments))
