"""`make chaos`: the whole crash matrix, on SQLite and on MariaDB with Redis.

    python -m tests.chaos --only transact.saga_steps --mode crash_after --database sqlite

Prints a table of what was struck and how it ended, and exits with 1 if a promise was broken, or if the source has a
failpoint that nothing hits.
"""

import argparse
import asyncio
import contextlib
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

from mesh.failpoint import Mode
from tests.chaos.boundaries import failpoints
from tests.chaos.matrix import Case, Outcome, cases
from tests.chaos.report import print_outcome, print_progress
from tests.chaos.stage import Databases, Stage
from tests.e2e.running_shop import own_databases
from tests.support.servers import MariaDb, Redis

SQLITE, MARIADB = "sqlite", "mariadb"


def main() -> int:
    """Play, print, answer the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description="Play the crash matrix.")
    parser.add_argument("--only", action="append", help="only failpoints whose name contains this")
    parser.add_argument("--mode", action="append", choices=[str(mode) for mode in Mode])
    parser.add_argument("--database", action="append", choices=[SQLITE, MARIADB])
    parser.add_argument("--shops", type=int, default=2, help="how many shops at once on each database")
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="chaos-"))
    with _servers(folder, options.database or [SQLITE, MARIADB]) as databases:
        outcome = asyncio.run(_play(folder, databases, options))
    print_outcome(outcome, list(databases))
    if not outcome.holds:
        sys.stdout.write(f"logs and databases: {folder}\n")
        return 1
    shutil.rmtree(folder)
    return 0


async def _play(folder: Path, databases: Mapping[str, Databases], options: argparse.Namespace) -> Outcome:
    started = time.monotonic()
    outcome = Outcome()
    wanted = [name for name in failpoints() if any(part in name for part in options.only or [""])]
    modes = [Mode(mode) for mode in options.mode or Mode]
    async with asyncio.TaskGroup() as group:
        for name, own in databases.items():
            matrix = Matrix(name, folder, own, outcome)
            group.create_task(matrix.play(wanted, modes, shops=options.shops))
    outcome.seconds = time.monotonic() - started
    return outcome


class Matrix:
    """All cases on one kind of database.

    First in shops that are paid by the simulator, then, for what only that hits, in shops with a provider behind HTTP.
    """

    def __init__(self, name: str, folder: Path, databases: Databases, outcome: Outcome) -> None:
        self._name = name
        self._folder = folder
        self._databases = databases
        self._outcome = outcome

    async def play(self, wanted: Sequence[str], modes: Sequence[Mode], *, shops: int) -> None:
        """Strike all these failpoints in all these modes, in so many shops at once."""
        left = set(wanted)
        for pays_over_http in (False, True):
            if left:
                left -= await self._play_in_shops(sorted(left), modes, shops=shops, pays_over_http=pays_over_http)
        self._outcome.problems += [f"{self._name}: {name} was never hit" for name in sorted(left)]

    async def _play_in_shops(
        self, wanted: Sequence[str], modes: Sequence[Mode], *, shops: int, pays_over_http: bool
    ) -> frozenset[str]:
        """Strike what is hit here, and answer what that is."""
        kind = f"{self._name}-http" if pays_over_http else self._name
        stages = [
            Stage(f"{kind}-{number}", self._folder, self._databases, pays_over_http=pays_over_http)
            for number in range(shops)
        ]
        try:
            seen = await stages[0].explore()
            found = list(cases(wanted, seen, modes=modes))
            # So that kinds of cases take turns, in the same way each time.
            random.Random(0).shuffle(found)  # noqa: S311 - an order, not a secret
            waiting = iter(found)
            async with asyncio.TaskGroup() as group:
                for stage in stages:
                    group.create_task(self._play_in(stage, waiting))
        finally:
            for stage in stages:
                await stage.close()
        return seen.found()

    async def _play_in(self, stage: Stage, waiting: Iterator[Case]) -> None:
        for case in waiting:
            result = await stage.play(case)
            self._outcome.results.append(result)
            print_progress(result, len(self._outcome.results))
        self._outcome.problems += await stage.last_audit()
        self._outcome.audits += stage.audits
        self._outcome.orders += stage.orders


@contextlib.contextmanager
def _servers(folder: Path, names: Sequence[str]) -> Iterator[dict[str, Databases]]:
    """What makes databases on each kind of server."""
    found: dict[str, Databases] = {}
    with contextlib.ExitStack() as stack:
        if SQLITE in names:
            found[SQLITE] = _data_folder
        if MARIADB in names:
            mariadb = stack.enter_context(MariaDb(folder / "mariadb"))
            redis = stack.enter_context(Redis(folder / "redis"))
            found[MARIADB] = partial(own_databases, mariadb.url, redis.url)
        yield found


@contextlib.contextmanager
def _data_folder() -> Iterator[Mapping[str, str]]:
    """Nothing to say: SQLite's files lie in the shop's own folder."""
    yield {}


if __name__ == "__main__":
    sys.exit(main())
