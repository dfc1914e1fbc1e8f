"""`shopmesh up` as a real process that starts in half a second: forked from one that has imported everything.

Importing takes longer than all the rest of a start, and the crash matrix starts the shop many hundred times. A fork is
as real a process as any other: it has its own memory, files and sockets, and SIGKILL ends it like any other.
"""

import asyncio
import multiprocessing
import os
import signal
import sys
from collections.abc import Mapping
from multiprocessing.context import ForkServerProcess
from pathlib import Path

import alembic.command
import alembic.runtime.migration  # noqa: F401 - imported for those who are forked

from shopmesh import up
from shopmesh.parts import PARTS

APPS = tuple(part.app for part in PARTS)


def serve(environment: Mapping[str, str], log: str) -> None:
    """What the forked process does: be `shopmesh up`, with this environment of SHOP_* variables, writing to `log`."""
    file = os.open(log, os.O_CREAT | os.O_APPEND | os.O_WRONLY)
    os.dup2(file, 1)
    os.dup2(file, 2)
    for name in [name for name in os.environ if name.startswith("SHOP_")]:
        del os.environ[name]
    os.environ.update(environment)
    sys.exit(up.main())


class Process:
    """One run of the shop's process."""

    def __init__(self, environment: Mapping[str, str], log: Path) -> None:
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload([__name__])
        arguments = (dict(environment), str(log))
        # A daemon does not outlive us.
        self._process: ForkServerProcess = context.Process(target=serve, args=arguments, daemon=True)
        self._process.start()

    @property
    def runs(self) -> bool:
        """Whether it has not ended."""
        return self._process.exitcode is None

    @property
    def was_killed(self) -> bool:
        """Whether SIGKILL ended it."""
        return self._process.exitcode == -signal.SIGKILL

    def terminate(self) -> None:
        """Ask it to end."""
        self._process.terminate()

    def kill(self) -> None:
        """Take it away."""
        self._process.kill()

    async def ended(self) -> int:
        """Wait for the end; answer the exit code, negative for a signal."""
        loop = asyncio.get_running_loop()
        over = asyncio.Event()
        loop.add_reader(self._process.sentinel, over.set)
        try:
            await over.wait()
        finally:
            loop.remove_reader(self._process.sentinel)
        self._process.join()
        return int(self._process.exitcode or 0)
