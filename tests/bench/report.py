"""What is left of a bench: JSON for programs, a page and a table for people."""

import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tests.bench.bars import BARS
from tests.bench.bench import Record
from tests.bench.figure import Figure, median_cpu
from tests.bench.page import page
from tests.bench.sample import Measured
from tests.bench.sweep import Sweep

_LEAST_TOLD_MS = 0.005


def write(record: Record, folder: Path) -> None:
    """Write `report.json` and `report.html`."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "report.json").write_text(json.dumps(as_json(record), indent=1))
    (folder / "report.html").write_text(page(record))


def failures(record: Record) -> list[str]:
    """What is not as it has to be, a sentence each: checks that do not hold, ratios that miss their bar."""
    slack = record.options.slack
    found = [f"{check.what}: {check.found}" for check in record.checks if not check.holds]
    for key, ratio in record.ratios.items():
        if not BARS[key].is_met(ratio, slack=slack):
            found.append(f"{key} is {ratio:.2f}, its bar {BARS[key].told(slack=slack)}")
    return found


def say(record: Record, folder: Path) -> None:
    """Print everything as text."""
    sys.stdout.write("\n".join(_lines(record)) + f"\nthe report is in {folder}\n")


def as_json(record: Record) -> dict[str, Any]:
    """Everything, for programs; the ratios under `ratios`."""
    return {
        "ratios": record.ratios,
        "bars": {key: asdict(bar) for key, bar in BARS.items()},
        "failures": failures(record),
        "conditions": dict(record.conditions),
        "options": asdict(record.options),
        "seconds": record.seconds,
        "figures": {name: _figure(figure) for name, figure in record.figures.items()},
        "checks": [asdict(check) for check in record.checks],
        "ends": dict(record.ends),
        "rows": None if record.rows is None else asdict(record.rows),
        **_swept(record.sweep),
    }


def _lines(record: Record) -> Iterator[str]:
    options = record.options
    yield from (f"{name:>24}  {value}" for name, value in record.conditions.items())
    yield f"{'windows':>24}  {options.rounds} of {options.window_s:g} s for each side, the sides in turn"
    yield ""
    for name, figure in record.figures.items():
        yield from _figure_lines(name, figure)
    yield from _row_lines(record)
    yield f"orders through REST ended: {dict(record.ends)}"
    yield from (f"{'ok' if check.holds else 'WRONG':>6}  {check.what}: {check.found}" for check in record.checks)
    yield ""
    yield f"{'ratio':>30}  {'found':>6}  bar"
    for key, ratio in record.ratios.items():
        missed = "" if BARS[key].is_met(ratio, slack=options.slack) else "  MISSED"
        yield f"{key:>30}  {ratio:6.2f}  {BARS[key].told(slack=options.slack)}{missed}"
    yield f"took {record.seconds:.0f} s"


def _row_lines(record: Record) -> Iterator[str]:
    if record.rows is None:
        return
    yield "rows left for an order: table, mesh, monolith"
    for table, number in record.rows.monolith.items():
        if number or record.rows.mesh[table]:
            yield f"{table:>30}  {record.rows.mesh[table]:5.2f}  {number:5.2f}"


def _figure_lines(name: str, figure: Figure) -> Iterator[str]:
    yield f"{name}, {figure.unit}"
    for side, values in figure.values.items():
        rounds = "  ".join(f"{value:9.2f}" for value in values)
        cost = f"   cpu ms each: {_cpu(figure.sides[side])}" if side in figure.sides else ""
        yield f"{side:>14}  {rounds}{cost}"


def _cpu(rounds: Sequence[Measured]) -> str:
    return ", ".join(f"{name} {each:.2f}" for name, each in median_cpu(rounds).items() if each >= _LEAST_TOLD_MS)


def _figure(figure: Figure) -> dict[str, Any]:
    return {
        "unit": figure.unit,
        "values": dict(figure.values),
        "ratios": dict(figure.ratios),
        "sides": {side: [_measured(one) for one in measured] for side, measured in figure.sides.items()},
    }


def _measured(measured: Measured) -> dict[str, Any]:
    return {**asdict(measured.sample), "cpu_s_by_process": dict(measured.cpu_s), "commits": measured.commits}


def _swept(sweep: Sweep | None) -> dict[str, Any]:
    if sweep is None:
        return {}
    throughput = {
        side: {str(number): measured.sample.rate for number, measured in by_connections.items()}
        for side, by_connections in sweep.by_connections.items()
    }
    batches = {
        name: {str(bound): number for bound, number in sizes.counts.items()} for name, sizes in sweep.batches.items()
    }
    return {"throughput": throughput, "batches": batches}
