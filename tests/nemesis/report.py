"""What is left of a run: a page for people, JSON for programs, and a few lines on the terminal."""

import json
import sys
from pathlib import Path

from tests.nemesis.page import page
from tests.nemesis.record import Record

_MOST_SAID = 20


def write(record: Record) -> Path:
    """Write `report.json` and `index.html` into the run's folder; answers where the page is."""
    folder = record.options.folder
    (folder / "report.json").write_text(json.dumps(record.as_json(), indent=1))
    path = folder / "index.html"
    path.write_text(page(record))
    return path


def say(record: Record) -> None:
    """Print the figures and the first violations."""
    violations = record.outcome.verdict.violations
    lines = [f"{name:>40}  {value}" for name, value in record.figures().items()]
    lines += [f"violation: {violation}" for violation in violations[:_MOST_SAID]]
    lines.append(f"the report is in {record.options.folder}")
    sys.stdout.write("\n".join(lines) + "\n")
