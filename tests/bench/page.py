"""The report as one page that needs nothing else: ratios against their bars, plots, conditions."""

from collections.abc import Iterable, Mapping
from html import escape
from math import log2

from tests.bench.bars import BARS
from tests.bench.bench import Record
from tests.bench.figure import Figure, median_cpu
from tests.bench.sample import PERCENTS, Measured
from tests.support.page import figures, legend, listing, style
from tests.support.plot import Frame, round_values

_SIDES = {"mesh": "the mesh", "monolith": "the monolith"}
# Of a process, its CSS class and its name; the load's own time is shown as well.
_PROCESSES = {
    "gateway": "gateway",
    "checkout": "checkout",
    "inventory": "inventory",
    "cart": "cart",
    "identity": "identity",
    "mariadb": "MariaDB",
    "redis": "Redis",
    "monolith": "monolith",
    "load": "generator of the load",
}
# Figure, side, and what that is called where the cost of an order is shown.
_COSTS = (
    ("checkout_vs_monolith", "mesh", "spread"),
    ("hot_vs_spread", "hot", "hot"),
    ("cost_at_300k_vs_3k_orders", "many", "many orders"),
    ("cost_at_300k_vs_3k_orders", "few", "few orders"),
    ("checkout_vs_monolith", "monolith", "monolith"),
)
_BUCKETS = 9


def page(record: Record) -> str:
    """The page as HTML."""
    options = record.options
    wrong = [f"{check.what}: {check.found}" for check in record.checks if not check.holds]
    return f"""<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>Bench</title><style>{style()}</style>
<h1>Bench</h1>
<p class="soft">{options.rounds} rounds of {options.window_s:g} s, the sides in turn; medians.</p>
{_ratios(record)}
{listing("Not as it has to be", wrong)}
<h2>Orders in a second over connections</h2>{legend("line", _SIDES)}{_throughput(record)}
<h2>How many of a hundred orders were answered within</h2>{legend("line", _SIDES)}{_latencies(record)}
<h2>Milliseconds of processor time for an order, by process</h2>{legend("rect", _PROCESSES)}{_costs(record)}
<h2>Sizes of batches with the most connections, by batch</h2>{_batches(record)}
<h2>Every round</h2>{_rounds(record.figures)}
<h2>Conditions</h2>{figures(record.conditions)}
</html>
"""


def _ratios(record: Record) -> str:
    rows = []
    for key, ratio in record.ratios.items():
        bar = BARS[key]
        css = "" if not bar.binds else "holds" if bar.is_met(ratio) else "broken"
        rows.append(
            f'<tr><td>{key}</td><td>{escape(bar.what)}</td><td class="number {css}">{ratio:.2f}</td>'
            f"<td>{escape(bar.told())}</td></tr>"
        )
    return f"<table><tr><th>ratio</th><th>of what</th><th>found</th><th>bar</th></tr>{''.join(rows)}</table>"


def _throughput(record: Record) -> str:
    if record.sweep is None:
        return _nothing("It was not measured in this run.")
    sides = record.sweep.by_connections
    numbers = sorted(sides["mesh"])
    most = max(one.sample.rate for measured in sides.values() for one in measured.values())
    ticks = {log2(number): f"{number}" for number in numbers}
    frame = Frame(max(log2(numbers[-1]), 1), 240, most, ticks)
    lines = [
        frame.line(side, [(log2(number), one.sample.rate) for number, one in measured.items()])
        for side, measured in sides.items()
    ]
    return frame.svg("Throughput over connections", frame.grid(), *lines)


def _latencies(record: Record) -> str:
    figure = record.figures.get("checkout_vs_monolith")
    if figure is None:
        return _nothing("It was not measured in this run.")
    typical = {side: _typical(measured) for side, measured in figure.sides.items()}
    longest = max(one.sample.latencies_s[-1] for one in typical.values()) * 1000
    frame = Frame(longest, 200, 100, {at: f"{at:g} ms" for at in (0, *round_values(longest))})
    lines = [
        frame.line(side, [(s * 1000, percent) for s, percent in zip(one.sample.latencies_s, PERCENTS, strict=True)])
        for side, one in typical.items()
    ]
    return frame.svg("Distribution of latencies", frame.grid(), *lines)


def _costs(record: Record) -> str:
    bars = {name: median_cpu(record.figures[key].sides[side]) for key, side, name in _COSTS if key in record.figures}
    if not bars:
        return _nothing("It was not measured in this run.")
    most = max(sum(costs.values()) for costs in bars.values())
    frame = Frame(len(bars), 260, most, {number + 0.5: name for number, name in enumerate(bars)})
    layers = {process: [costs.get(process, 0.0) for costs in bars.values()] for process in _PROCESSES}
    return frame.svg("Processor time for an order", frame.grid(" ms"), frame.stack(1, layers))


def _batches(record: Record) -> str:
    if record.sweep is None or not record.sweep.batches:
        return _nothing("The mesh does not tell the sizes of its batches (no histogram batch_items under /metrics).")
    plots = []
    for name, sizes in sorted(record.sweep.batches.items()):
        counts = {bound: number for bound, number in sizes.counts.items() if number}
        frame = Frame(_BUCKETS + 1, 60, max(counts.values()), {n + 0.5: f"{2**n}" for n in range(_BUCKETS)})
        bars = [counts.get(float(2**n), 0.0) for n in range(_BUCKETS)]
        plots.append(f"<p>{escape(name)}</p>{frame.svg(name, frame.stack(1, {'mesh': bars}))}")
    return "".join(plots)


def _rounds(found: Mapping[str, Figure]) -> str:
    rows = "".join(
        f"<tr><td>{name}</td><td>{escape(side)}</td><td>{escape(figure.unit)}</td>"
        f'<td class="number">{", ".join(f"{value:,.2f}" for value in values)}</td></tr>'
        for name, figure in found.items()
        for side, values in figure.values.items()
    )
    return f"<table><tr><th>figure</th><th>side</th><th>unit</th><th>rounds</th></tr>{rows}</table>"


def _typical(measured: Iterable[Measured]) -> Measured:
    """The one with the median rate."""
    ordered = sorted(measured, key=lambda one: one.sample.rate)
    return ordered[len(ordered) // 2]


def _nothing(why: str) -> str:
    return f'<p class="soft">{escape(why)}</p>'
