"""`python -m tests.nemesis --seconds 720 --seed 1`: what the shop bears, with a report under build/nemesis/."""

import argparse
import logging
import sys
from pathlib import Path

import uvloop

from shopmesh.audit.journal import read_journal
from tests.nemesis.load import journal_path
from tests.nemesis.record import record
from tests.nemesis.report import say, write
from tests.nemesis.run import Options, run


def main() -> int:
    """Run and answer the exit code: 0 when everything that is promised holds, 1 when not."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    options = _options()
    outcome = uvloop.run(run(options))
    found = record(options, outcome, read_journal(journal_path(options.folder)))
    write(found)
    say(found)
    return int(bool(outcome.verdict.violations))


def _options() -> Options:
    parser = argparse.ArgumentParser(prog="python -m tests.nemesis", description=__doc__)
    parser.add_argument("--seconds", type=float, default=690.0, help="how long customers shop")
    parser.add_argument("--seed", type=int, default=1, help="what faults, when, and what customers")
    parser.add_argument("--customers", type=int, default=192, help="how many shop at the same time")
    parser.add_argument("--rate", type=float, default=60.0, help="purchases begun in a second, if the shop keeps up")
    parser.add_argument("--folder", type=Path, default=Path("build/nemesis"), help="where the report goes")
    return Options(**vars(parser.parse_args()))


if __name__ == "__main__":
    sys.exit(main())
