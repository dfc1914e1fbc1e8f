"""`python -m tests.bench`: how fast the mesh is, measured against peers in the same run; the report is under bench/.

Exits with 0 when every ratio reaches its bar and everything that has to be so is so, with 1 when not.
"""

import argparse
import logging
import sys
from dataclasses import replace
from pathlib import Path

from tests.bench.bars import SHORT_SLACK
from tests.bench.bench import PARTS, run
from tests.bench.report import failures, say, write
from tests.bench.stage import Options

FULL = Options(
    # The speed of a shared machine changes within seconds: more and shorter windows see more of the same of it.
    rounds=5,
    # Of whole seconds, as wrk wants it.
    window_s=3.0,
    warm_s=0.8,
    many_orders=300_000,
    sell_out=10_000,
    connections=(1, 4, 16, 64, 128, 256),
    slack=1.0,
)
SHORT = Options(
    rounds=3,
    window_s=1.5,
    warm_s=0.5,
    many_orders=20_000,
    sell_out=500,
    connections=(),
    slack=SHORT_SLACK,
)
FOLDER = Path("bench")


def main() -> int:
    """Run, write and print; answer the exit code."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    asked = _asked()
    base = SHORT if asked.short else FULL
    options = replace(base, rounds=asked.rounds or base.rounds, window_s=asked.seconds or base.window_s)
    record = run(options, FOLDER, asked.only or PARTS)
    write(record, FOLDER)
    say(record, FOLDER)
    return int(bool(failures(record)))


def _asked() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("--short", action="store_true", help="two minutes, against looser bars")
    parser.add_argument("--only", action="append", choices=PARTS, metavar="PART", help=f"of {', '.join(PARTS)}")
    parser.add_argument("--rounds", type=int, help="how often each side is measured")
    parser.add_argument("--seconds", type=float, help="how long each time")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
