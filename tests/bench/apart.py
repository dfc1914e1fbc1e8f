"""Runs a coroutine in a process of its own, under uvloop, so that what it takes of the processors is all its own."""

import multiprocessing
from collections.abc import Awaitable, Callable
from concurrent.futures import ProcessPoolExecutor
from typing import Any, TypeVar, cast

import uvloop

from mesh.run import wait_for_ones_turn

Answer = TypeVar("Answer")


def apart(main: Callable[..., Awaitable[Answer]], *arguments: object) -> Answer:
    """What `main`, a function of a module, answers in a new process. Raises what it raises."""
    context = multiprocessing.get_context("forkserver")
    with ProcessPoolExecutor(max_workers=1, mp_context=context) as executor:
        return executor.submit(cast("Callable[..., Answer]", _run), main, *arguments).result()


def _run(main: Callable[..., Any], *arguments: object) -> object:
    # As all programs of the mesh: a load or a peer that breaks in on whom it has called makes both slower.
    wait_for_ones_turn()
    return uvloop.run(main(*arguments))
