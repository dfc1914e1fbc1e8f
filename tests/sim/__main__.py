"""`python -m tests.sim`: run many seeds, one process each, and print figures; a seed that fails tells its story.

Exit code 0 when nothing was violated, 1 when something was, 2 for wrong use.
"""

import argparse
import os
import sys
from pathlib import Path

from tests.sim.profiles import PROFILES

# Sets of strings come in one order in all runs.
_HASH_SEED = "0"


def main() -> int:
    """Parse, run, print."""
    options = _parser().parse_args()
    from tests.sim.runner import replay, run  # noqa: PLC0415 - not before it is known that this process stays

    seeds = range(options.start, options.start + options.seeds)
    if options.replay is not None:
        return replay(options.replay, profile=options.profile, folder=options.folder, whole=options.whole)
    return run(
        seeds,
        profile=options.profile,
        folder=options.folder,
        jobs=options.jobs,
        again=options.again,
        give_up_after=options.give_up_after,
    )


def _parser() -> argparse.ArgumentParser:
    shared_memory = Path("/dev/shm")  # noqa: S108 - files that need no disk, where there is such a place
    folder = (shared_memory if shared_memory.is_dir() else Path(".simulation")) / f"shopmesh-{os.getpid()}"
    parser = argparse.ArgumentParser(prog="python -m tests.sim", description=__doc__)
    parser.add_argument("--seeds", type=int, default=100, help="how many seeds to run")
    parser.add_argument("--start", type=int, default=0, help="the first seed")
    parser.add_argument(
        "--profile", choices=sorted(PROFILES), default="", help="the faults; by default the seed decides"
    )
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="how many processes at a time")
    parser.add_argument("--again", type=int, default=0, help="how many of the seeds to run twice and compare")
    parser.add_argument("--give-up-after", type=int, default=10, help="stop after so many seeds that failed")
    parser.add_argument("--replay", type=int, help="run this one seed and tell its story")
    parser.add_argument("--whole", action="store_true", help="with --replay: every event, not only the relevant ones")
    parser.add_argument("--folder", type=Path, default=folder, help="where databases are made, and removed again")
    return parser


if __name__ == "__main__":
    if os.environ.get("PYTHONHASHSEED") != _HASH_SEED:
        os.environ["PYTHONHASHSEED"] = _HASH_SEED
        os.execv(sys.executable, [sys.executable, "-m", "tests.sim", *sys.argv[1:]])  # noqa: S606 - this very program
    sys.exit(main())
