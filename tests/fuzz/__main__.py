"""`python -m tests.fuzz`: spoilt requests to a real shim, 200,000 unless told otherwise.

Exit code 0 when no answer is wrong, 1 when one is.
"""

import argparse
import asyncio
import sys
import tempfile
from pathlib import Path

from tests.fuzz.fuzz import fuzz


def main() -> int:
    """Parse, run, print."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--requests", type=int, default=200_000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
        report = asyncio.run(fuzz(Path(folder), requests=options.requests, seed=options.seed))
    codes = ", ".join(f"{count} {code}" for code, count in sorted(report.codes.items()))
    sys.stdout.write(f"{report.requests} requests of seed {options.seed} in {report.seconds:.0f} s: {codes}\n")
    sys.stdout.write(f"memory grew by {report.growth_kib} KiB\n")
    sys.stdout.writelines(f"PROBLEM {problem}\n" for problem in report.problems)
    return 1 if report.problems else 0


if __name__ == "__main__":
    sys.exit(main())
