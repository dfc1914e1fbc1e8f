"""What a run looked like: live, and as tables at its end."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from shopmesh.emulator.meter import Meter

_REFRESH_S = 0.2
_MOST_ROWS = 30


class Live:
    """A bar of customers who are through, with the meter's numbers beside it."""

    def __init__(self, meter: Meter, customers: int, console: Console) -> None:
        columns = (
            TextColumn("customers"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[numbers]}"),
            TimeElapsedColumn(),
        )
        self._progress = Progress(*columns, console=console)
        self._task = self._progress.add_task("", total=customers, numbers="")
        self._meter = meter
        self._through = 0

    def customer_through(self) -> None:
        """One more is done."""
        self._through += 1

    @asynccontextmanager
    async def shown(self) -> AsyncIterator[None]:
        """Show it, up to date, while the block runs."""
        with self._progress:
            task = asyncio.create_task(self._follow(), name="progress")
            try:
                yield
            finally:
                task.cancel()
                await asyncio.wait({task})
                self._update()

    async def _follow(self) -> None:
        while True:
            self._update()
            await asyncio.sleep(_REFRESH_S)

    def _update(self) -> None:
        meter = self._meter
        refused, errors = meter.refusals.total(), meter.errors.total()
        numbers = f"{meter.calls:,} calls, {meter.orders:,} orders, {refused:,} refused, {errors:,} errors"
        self._progress.update(self._task, completed=self._through, numbers=numbers)


def print_tables(meter: Meter, ends: Mapping[str, int], *, seconds: float, console: Console) -> None:
    """Orders by how they ended, rates, latencies by kind of call, refusals and errors by reason."""
    console.print(_counts("Orders", ends))
    orders = sum(ends.values())
    console.print(
        f"{seconds:.1f} s, {orders / seconds:.1f} orders/s, {meter.calls:,} calls, {meter.calls / seconds:.0f} calls/s"
    )
    console.print(_latencies(meter))
    if meter.refusals:
        console.print(_counts("Refused, as may happen", _named(meter.refusals)))
    if meter.errors:
        console.print(_counts("Errors", _named(meter.errors), style="bold red"))


def print_differences(differences: Sequence[str], console: Console) -> None:
    """What is not as it was told, the first of it if it is much."""
    for difference in differences[:_MOST_ROWS]:
        console.print(f"[red]difference[/] {difference}", highlight=False)
    if len(differences) > _MOST_ROWS:
        console.print(f"and {len(differences) - _MOST_ROWS:,} more differences")


def _latencies(meter: Meter) -> Table:
    table = Table(title="Latencies in ms", title_justify="left")
    table.add_column("call")
    for name in ("count", "p50", "p95", "p99"):
        table.add_column(name, justify="right")
    for method, spread in meter.latencies().items():
        times = (f"{seconds * 1000:.0f}" for seconds in (spread.p50, spread.p95, spread.p99))
        table.add_row(method, f"{spread.count:,}", *times)
    return table


def _counts(title: str, counts: Mapping[str, int], *, style: str = "") -> Table:
    table = Table(title=title, title_justify="left")
    table.add_column("")
    table.add_column("count", justify="right")
    for name, count in Counter(counts).most_common():
        table.add_row(name, f"{count:,}", style=style)
    return table


def _named(counts: Mapping[tuple[str, str], int]) -> dict[str, int]:
    return {f"{method} {reason}": count for (method, reason), count in counts.items()}
