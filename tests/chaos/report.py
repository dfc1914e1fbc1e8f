"""What a run of the matrix has shown: a table for people, and figures."""

import statistics
import sys
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from mesh.failpoint import Mode
from tests.chaos.matrix import Outcome, Result

_WIDTH = 150
_PROGRESS_EVERY = 50


def print_progress(result: Result, played: int) -> None:
    """A line for a case that broke a promise; for those that held one in fifty."""
    if result.problems:
        sys.stdout.write(f"BROKEN {result.database} {result.case} ({result.case.phase})\n")
        sys.stdout.writelines(f"    {problem}\n" for problem in result.problems)
    if played % _PROGRESS_EVERY == 0:
        sys.stdout.write(f"{played} cases played\n")
    sys.stdout.flush()


def print_outcome(outcome: Outcome, databases: Sequence[str]) -> None:
    """The table: a row for each failpoint, a column for each mode; the figures; what is wrong."""
    console = Console(width=_WIDTH, highlight=False)
    table = Table(title=f"seconds until all was well again, on {' / '.join(databases)}", title_justify="left")
    table.add_column("failpoint")
    table.add_column("struck")
    for mode in Mode:
        table.add_column(str(mode), justify="right")
    for failpoint in sorted({result.case.failpoint for result in outcome.results}):
        of_it = [result for result in outcome.results if result.case.failpoint == failpoint]
        phases = ", ".join(sorted({str(result.case.phase) for result in of_it}))
        table.add_row(failpoint, phases, *(_cell(of_it, mode, databases) for mode in Mode))
    console.print(table)
    for sentence in figures(outcome):
        console.print(sentence)
    for problem in outcome.problems:
        console.print(problem, style="red", markup=False)
    console.print("[green]every promise was kept[/]" if outcome.holds else "[bold red]promises were broken[/]")


def figures(outcome: Outcome) -> list[str]:
    """What was done, in sentences."""
    results = outcome.results
    struck = {result.case.failpoint for result in results}
    broken = sum(bool(result.problems) for result in results)
    lines = [
        f"{len(results)} cases of {len(struck)} failpoints in {outcome.seconds:.0f} s, {broken} broken",
        f"{sum(result.deaths for result in results)} processes died and were started again",
        f"{outcome.orders} orders ended, {sum(result.repetitions for result in results)} requests were repeated",
        f"{outcome.audits} audits",
    ]
    crashes = [result.seconds for result in results if result.deaths]
    if crashes:
        lines.append(f"a case with a crash: median {statistics.median(crashes):.1f} s, longest {max(crashes):.1f} s")
    return lines


def _cell(results: Sequence[Result], mode: Mode, databases: Sequence[str]) -> str:
    return " / ".join(_ending(results, mode, database) for database in databases)


def _ending(results: Sequence[Result], mode: Mode, database: str) -> str:
    found = [result for result in results if result.case.mode is mode and result.database.startswith(database)]
    if not found:
        return "-"
    return "[bold red]BROKEN[/]" if found[0].problems else f"{found[0].seconds:.1f}"
