"""wrk as the load over REST."""

import json
import resource
import subprocess
import tempfile
from collections.abc import Sequence
from math import ceil
from pathlib import Path
from typing import Any

from mesh.run import wait_for_ones_turn
from tests.bench.sample import Load, Sample

_FOLDER = Path(__file__).parent
# The script ends wrk when what is under way when the window closes has its answer; this is the longest it waits.
_END_S = 30.0
_START_S = 30.0


class WrkError(Exception):
    """wrk could not do its work, or requests of its were not answered as they have to be."""


def get(url: str, load: Load) -> Sample:
    """Ask for the same again and again. Raises WrkError when anything but a 2xx is answered."""
    return _again_and_again(url, load, "get.lua")


def post(url: str, load: Load, body: str) -> Sample:
    """Post the same JSON again and again. Raises WrkError as `get` does."""
    return _again_and_again(url, load, "post.lua", body)


def place_orders(url: str, load: Load, cart_ids: Sequence[str]) -> Sample:
    """Order these carts by PlaceOrder, each once, as long as there are any. Raises WrkError as `get` does."""
    with tempfile.NamedTemporaryFile("w", prefix="carts-") as file:
        file.write("".join(f"{cart_id}\n" for cart_id in cart_ids))
        file.flush()
        arguments = [file.name, str(load.warm_s), str(load.window_s), str(load.in_flight)]
        seconds = ceil(load.warm_s + load.window_s + _END_S)
        told, cpu_s = _run(url, load, "orders.lua", arguments, seconds=seconds)
    if told["answered"] != told["sent"]:
        raise WrkError(f"of {told['sent']} orders {told['answered']} were answered")
    window_s = (told["closed_us"] - told["opens_us"]) / 1e6
    if window_s < load.window_s / 2:
        raise WrkError(f"{len(cart_ids)} carts were too few for a window of {load.window_s} s")
    return _sample(told, counted=told["counted"], window_s=window_s, cpu_s=cpu_s)


def _again_and_again(url: str, load: Load, script: str, *arguments: str) -> Sample:
    told, cpu_s = _run(url, load, script, arguments, seconds=ceil(load.window_s))
    return _sample(told, counted=told["requests"], window_s=told["duration_us"] / 1e6, cpu_s=cpu_s)


def _run(url: str, load: Load, script: str, arguments: Sequence[str], *, seconds: int) -> tuple[dict[str, Any], float]:
    """What the script told in the end, and the processor time that wrk took."""
    options = ["--threads", "1", "--connections", str(load.in_flight), "--duration", f"{seconds}s", "--timeout", "30s"]
    before = _children_s()
    done = subprocess.run(
        ["wrk", *options, "--script", script, url, "--", *arguments],
        cwd=_FOLDER,
        # As `apart` does.
        preexec_fn=wait_for_ones_turn,
        capture_output=True,
        text=True,
        check=False,
        timeout=seconds + _START_S,
    )
    cpu_s = _children_s() - before
    lines = done.stdout.splitlines()
    if done.returncode or not lines or not lines[-1].startswith("{"):
        raise WrkError(f"wrk failed:\n{done.stdout}\n{done.stderr}")
    return json.loads(lines[-1]), cpu_s


def _sample(told: dict[str, Any], *, counted: int, window_s: float, cpu_s: float) -> Sample:
    if told["bad_status"] or told["broken"]:
        raise WrkError(f"{told['bad_status']} answers were errors, {told['broken']} requests broke: {told}")
    return Sample(
        counted=counted,
        window_s=window_s,
        answered=told["requests"],
        refused=0,
        latencies_s=tuple(microseconds / 1e6 for microseconds in told["percentiles_us"]),
        cpu_s=cpu_s,
    )


def _children_s() -> float:
    """Of those that have ended; nobody but wrk ends meanwhile."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime
