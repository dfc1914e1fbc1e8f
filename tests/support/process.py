"""Processes of the shop that start at once: forked from one that has imported everything.

Importing takes longer than all the rest of a start, and nemesis and bench start processes all the time. A fork is as
real a process as any other: it has its own memory, files and sockets, and signals do to it what they do to any.
"""

import multiprocessing
import os
import sys
from collections.abc import Callable, Mapping
from multiprocessing.context import ForkServerProcess
from pathlib import Path

import alembic.command
import alembic.runtime.migration  # noqa: F401 - imported for those who are forked

from shopmesh import edge, migrate, seed, serve
from shopmesh.parts import PARTS
from tests.e2e.running_shop import clean_environment

APPS = tuple(part.app for part in PARTS)
COMMANDS: Mapping[str, Callable[..., int]] = {
    "gateway": edge.main,
    "migrate": migrate.main,
    "seed": seed.main,
    "serve": serve.main,
}
Command = str | Callable[..., int]
_END_S = 60.0


class CommandError(Exception):
    """A command failed; the text is what it wrote."""


class Process:
    """`shopmesh <command> <arguments>` with nothing of SHOP_* in its environment but what is given.

    In place of a command's name, a function of a module may be given: it is called with the arguments, and answers the
    exit code.
    """

    def __init__(self, log: Path, environment: Mapping[str, str], command: Command, *arguments: str) -> None:
        self._log = log
        self._arguments = (dict(clean_environment(environment)), str(log), command, *arguments)
        self._process: ForkServerProcess | None = None

    @property
    def pid(self) -> int:
        """The process id, for signals."""
        return self._started.pid or 0

    @property
    def output(self) -> str:
        """All that it has written so far, over all its starts."""
        return self._log.read_text(errors="replace") if self._log.exists() else ""

    def launch(self) -> None:
        """Start the process; do not wait."""
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload([__name__])
        self._process = context.Process(target=be, args=self._arguments, daemon=True)
        self._process.start()

    def run(self) -> None:
        """Start a command that ends by itself, and wait for it. Raises CommandError when it fails."""
        self.launch()
        self._started.join(_END_S)
        if self._started.exitcode != 0:
            self.remove()
            raise CommandError(self.output[-4000:])

    def kill(self) -> None:
        """Take it away (SIGKILL), as a crash would, and wait until it is gone."""
        self._started.kill()
        self._started.join()

    def remove(self) -> None:
        """Make sure that nothing runs any more."""
        if self._process is not None and not self.has_ended():
            self.kill()

    def has_ended(self) -> bool:
        """Whether it has ended, by itself or not."""
        return self._started.exitcode is not None

    @property
    def _started(self) -> ForkServerProcess:
        assert self._process is not None, "never launched"
        return self._process


def be(environment: Mapping[str, str], log: str, command: Command, *arguments: str) -> None:
    """What the forked process does: be that command, in this environment, writing to `log`."""
    file = os.open(log, os.O_CREAT | os.O_APPEND | os.O_WRONLY)
    os.dup2(file, 1)
    os.dup2(file, 2)
    os.environ.clear()
    os.environ.update(environment)
    main = COMMANDS[command] if isinstance(command, str) else command
    sys.exit(main(*arguments))
