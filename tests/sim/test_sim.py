"""A hundred simulations hold, and the same seed is the same simulation; `make sim` runs many more."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
_AT_ONCE = 25


@pytest.mark.timeout(600)
@pytest.mark.parametrize("start", range(0, 100, _AT_ONCE))
def test_whatever_goes_wrong_every_promise_is_kept_and_a_seed_replays_bit_for_bit(start: int, tmp_path: Path) -> None:
    done = _simulate("--seeds", str(_AT_ONCE), "--start", str(start), "--again", "3", "--folder", str(tmp_path))

    assert done.returncode == 0, done.stdout + done.stderr
    assert "run twice: 3, different: none" in done.stdout
    assert "failed: none" in done.stdout


@pytest.mark.timeout(300)
def test_the_order_of_sets_means_nothing(tmp_path: Path) -> None:
    code = (
        "import asyncio, gc, os, pathlib, sys; gc.disable()\n"
        "from tests.sim.world import make_templates, simulate\n"
        "folder = pathlib.Path(sys.argv[1])\n"
        "asyncio.run(make_templates(folder / 'templates'))\n"
        "result = simulate(7, templates=folder / 'templates', folder=folder / 'seed')\n"
        "print(result.digest, flush=True)\n"
        "os._exit(0)\n"
    )
    digests = {
        _python("-c", code, str(tmp_path / hash_seed), PYTHONHASHSEED=hash_seed).stdout for hash_seed in ("1", "2")
    }

    assert len(digests) == 1
    assert digests != {""}


def _simulate(*arguments: str) -> subprocess.CompletedProcess[str]:
    return _python("-m", "tests.sim", "--jobs", "1", *arguments)


def _python(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *arguments]
    return subprocess.run(
        command, cwd=ROOT, env=os.environ | environment, capture_output=True, text=True, check=False, timeout=590
    )
