"""Runs seeds, each in a process of its own that is forked from one in which everything is warm.

So no seed leaves anything to the next, and what a killed node left behind is never cleaned up: its process just ends.
"""

import asyncio
import gc
import multiprocessing
import shutil
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from tests.sim.database import shared_statements
from tests.sim.story import headline, tell
from tests.sim.world import Result, make_templates, simulate

# Between them they compile nearly every statement that there is.
_WARM_UP = ((0, "calm"), (6, "nasty"), (8, "crashes"))
_HOUR_S = 3600
_TOLD_EVERY = 100
# The first ones say enough.
_STORIES = 3


@dataclass(slots=True)
class Figures:
    """What many seeds came to."""

    seeds: int = 0
    failed: list[Result] = field(default_factory=list)
    differ: list[int] = field(default_factory=list)
    compared: int = 0
    virtual_s: float = 0.0
    steps: int = 0
    slowest_s: float = 0.0
    counts: Counter[str] = field(default_factory=Counter)
    ends: Counter[str] = field(default_factory=Counter)
    profiles: Counter[str] = field(default_factory=Counter)

    def add(self, result: Result, digest_again: str, wall_s: float) -> None:
        """Take one seed in."""
        self.seeds += 1
        self.virtual_s += result.virtual_s
        self.steps += result.steps
        self.slowest_s = max(self.slowest_s, wall_s)
        self.counts.update(result.counts)
        self.ends.update(result.ends)
        self.profiles[result.profile] += 1
        if digest_again:
            self.compared += 1
            if digest_again != result.digest:
                self.differ.append(result.seed)
        if result.violations:
            self.failed.append(result)


def run(seeds: Sequence[int], *, profile: str, folder: Path, jobs: int, again: int, give_up_after: int) -> int:
    """Run the seeds, the first `again` of them twice. Print figures and the first stories; answer the exit code."""
    began = time.monotonic()
    figures = Figures()
    with _warm(folder) as templates:
        one = partial(
            _one, templates=templates, folder=folder, profile=profile, twice=range(seeds[0], seeds[0] + again)
        )
        context = multiprocessing.get_context("fork")
        with context.Pool(jobs, maxtasksperchild=1) as pool:
            for result, story, digest_again, wall_s in pool.imap_unordered(one, seeds):
                figures.add(result, digest_again, wall_s)
                if story:
                    sys.stdout.write((story if len(figures.failed) <= _STORIES else headline(result)) + "\n")
                    sys.stdout.flush()
                if figures.seeds % _TOLD_EVERY == 0:
                    sys.stdout.write(f"{figures.seeds} seeds, {len(figures.failed)} of them failed\n")
                    sys.stdout.flush()
                if len(figures.failed) >= give_up_after:
                    pool.terminate()
                    break
    _print(figures, wall_s=time.monotonic() - began)
    return 1 if figures.failed or figures.differ else 0


def replay(seed: int, *, profile: str, folder: Path, whole: bool) -> int:
    """Run one seed and tell its story; every event of it if asked. Answers the exit code."""
    with _warm(folder) as templates, multiprocessing.get_context("fork").Pool(1) as pool:
        known = {"templates": templates, "folder": folder, "profile": profile, "whole": whole}
        result, story, _, _ = pool.apply(_one, (seed,), known)
    sys.stdout.write(f"{story}\nseed {seed} ({result.profile}): {len(result.violations)} violated, {result.digest}\n")
    return 1 if result.violations else 0


@contextmanager
def _warm(folder: Path) -> Iterator[Path]:
    """Templates, and a process that has compiled its statements."""
    templates = folder / "templates"
    try:
        asyncio.run(make_templates(templates))
        # Nothing is ever collected: what a killed node left would be cleaned up with effect, perhaps on the next seed.
        gc.disable()
        with shared_statements():
            for seed, profile in _WARM_UP:
                simulate(seed, templates=templates, folder=folder / "warm-up", profile=profile)
            gc.freeze()
            yield templates
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _one(
    seed: int, *, templates: Path, folder: Path, profile: str, twice: Sequence[int] = (), whole: bool = False
) -> tuple[Result, str, str, float]:
    """A seed's result without its events, its story if it failed, the digest of its second run, its seconds."""
    began = time.monotonic()
    result = simulate(seed, templates=templates, folder=folder / f"seed-{seed}", profile=profile)
    wall_s = time.monotonic() - began
    story = tell(result, whole=whole) if result.violations or whole else ""
    digest_again = ""
    if seed in twice:
        digest_again = simulate(seed, templates=templates, folder=folder / f"seed-{seed}", profile=profile).digest
    return replace(result, events=[]), story, digest_again, wall_s


def _print(figures: Figures, *, wall_s: float) -> None:
    lines = [
        f"{figures.seeds} seeds in {wall_s:.0f} s, the slowest {figures.slowest_s:.1f} s",
        f"{figures.virtual_s / _HOUR_S:.1f} virtual hours, {figures.steps:,} steps",
        "profiles: " + _listed(figures.profiles),
        f"orders: {sum(figures.ends.values()):,}: " + _listed(figures.ends),
        "faults: " + _listed(figures.counts),
        f"run twice: {figures.compared}, different: {figures.differ or 'none'}",
        f"failed: {sorted(result.seed for result in figures.failed) or 'none'}",
    ]
    sys.stdout.write("\n".join(lines) + "\n")


def _listed(counts: Counter[str]) -> str:
    return ", ".join(f"{number:,} {name}" for name, number in counts.most_common()) or "none"
