"""A whole bench: everything in one run, on servers of its own."""

import logging
import shutil
import tempfile
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from tests.bench.conditions import conditions
from tests.bench.figure import Figure
from tests.bench.figures import FIGURES
from tests.bench.mesh import Servers
from tests.bench.rows import Written, count_rows
from tests.bench.sell_out import sell_out
from tests.bench.stage import Check, Options, Stage, staged
from tests.bench.sweep import Sweep, sweep
from tests.support.servers import MariaDb, Redis

Answer = TypeVar("Answer")
SWEEP, SELL_OUT, ROWS = "sweep", "sell_out", "rows"
PARTS = (ROWS, *FIGURES, SWEEP, SELL_OUT)

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """What came of a bench."""

    options: Options
    conditions: Mapping[str, str]
    figures: Mapping[str, Figure]
    checks: tuple[Check, ...]
    # How orders that came through REST ended.
    ends: Mapping[str, int]
    rows: Written | None
    sweep: Sweep | None
    seconds: float

    @property
    def ratios(self) -> dict[str, float]:
        """All ratios, by key."""
        return {key: ratio for figure in self.figures.values() for key, ratio in figure.ratios.items()}


def run(options: Options, folder: Path, parts: Collection[str] = PARTS) -> Record:
    """Measure these parts. The logs of the mesh stay under `folder`. Raises when the experiment itself fails."""
    began = time.monotonic()
    shutil.rmtree(folder / "logs", ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix="bench-") as data:
        mariadb, redis = MariaDb(Path(data) / "mariadb"), Redis(Path(data) / "redis")
        with mariadb, redis, staged(options, Servers(mariadb, redis, folder / "logs")) as stage:
            found = conditions(stage.cursor)
            rows = _part(ROWS, parts, lambda: count_rows(stage))
            figures = {name: figure for name in FIGURES if (figure := _figure(name, parts, stage)) is not None}
            swept = _part(SWEEP, parts if options.connections else (), lambda: sweep(stage, options.connections))
            _part(SELL_OUT, parts, lambda: sell_out(stage))
            _logged("audit", lambda: _audit(stage))
    return Record(
        options=options,
        conditions=found,
        figures=figures,
        checks=tuple(stage.checks),
        ends=dict(stage.ends),
        rows=rows,
        sweep=swept,
        seconds=time.monotonic() - began,
    )


def _part(name: str, parts: Collection[str], measure: Callable[[], Answer]) -> Answer | None:
    if name not in parts:
        return None
    return _logged(name, measure)


def _figure(name: str, parts: Collection[str], stage: Stage) -> Figure | None:
    return _part(name, parts, lambda: FIGURES[name](stage))


def _audit(stage: Stage) -> None:
    stage.take_back_reservations()
    stage.audit(stage.mesh)


def _logged(name: str, do: Callable[[], Answer]) -> Answer:
    """Do it, and log how long it took."""
    began = time.monotonic()
    _log.info("%s", name)
    answer = do()
    _log.info("  took %.0f s", time.monotonic() - began)
    return answer
