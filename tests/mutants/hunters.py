"""Who is sent after a planted bug: the simulation, the crash matrix, a crowd; each a program of its own on a copy."""

import os
import re
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

# A simulation that finds nothing in so many seeds is not going to.
SEEDS = 250
_TIMEOUT_S = 300.0


@dataclass(frozen=True, slots=True)
class Catch:
    """What a hunter came back with: nothing, or what it saw first."""

    hunter: str
    caught: bool
    what: str


_PYTEST = ["-m", "pytest", "-q", "-x", "-p", "no:cacheprovider"]
HUNTERS: Mapping[str, list[str]] = {
    "simulation": ["-m", "tests.sim", "--seeds", str(SEEDS), "--jobs", "1", "--give-up-after", "1"],
    "matrix": [*_PYTEST, "tests/chaos/test_slice.py"],
    # Deadlocks need a database with row locks, which the simulation has not.
    "contention": [*_PYTEST, "tests/inventory_service/test_concurrency.py"],
}
# How each of them tells what was violated.
_TOLD = re.compile(r"^(?:\s*VIOLATED|E) +(.+)$", re.MULTILINE)


def hunt(hunter: str, folder: Path) -> Catch:
    """Send a hunter after the copy in `folder`."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("SHOP_")}
    # Also for the processes that a hunter starts: the copy comes before what is installed.
    environment |= {"PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1"}
    try:
        done = subprocess.run(
            [sys.executable, *HUNTERS[hunter]],
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
            timeout=_TIMEOUT_S,
        )
    except subprocess.TimeoutExpired:
        return Catch(hunter, caught=True, what=f"no end within {_TIMEOUT_S:.0f} s")
    if done.returncode == 0:
        return Catch(hunter, caught=False, what="nothing seen")
    told = _TOLD.search(done.stdout) or _TOLD.search(done.stderr)
    what = told[1] if told else (done.stderr.strip() or done.stdout.strip() or "no words").splitlines()[-1]
    return Catch(hunter, caught=True, what=what)
