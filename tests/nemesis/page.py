"""The report as one page that needs nothing else: figures, plots, what was found, every fault."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from html import escape

from tests.nemesis.cluster import process_names
from tests.nemesis.record import BUCKET_S, Record, Stroke
from tests.nemesis.schedule import MARIADB, REDIS, FaultKind
from tests.support.page import figures, legend, listing, style
from tests.support.plot import Frame, Span

# Legends and plots: CSS class -> what it is called.
_ENDS = {
    "paid": "paid",
    "rejected": "sold out",
    "declined": "payment failed",
    "cancelled": "cancelled",
    "failed": "calls that failed",
}
_STATES = {"paid": "PAID", "rejected": "REJECTED", "declined": "PAYMENT_FAILED", "cancelled": "CANCELLED"}
_PERCENTILES = {"p50": "median", "p95": "95th percentile"}
_FAULTS = {
    "kill": "killed",
    "stop": "stopped",
    "restart": "restarted",
    "cut": "connections cut or killed",
    "flush": "flushed",
}
_CSS = {
    FaultKind.KILL: "kill",
    FaultKind.STOP: "stop",
    FaultKind.RESTART: "restart",
    FaultKind.FLUSH: "flush",
}


def page(record: Record) -> str:
    """The page as HTML."""
    violations = record.outcome.verdict.violations
    options = record.options
    verdict = "Everything that is promised held." if not violations else f"{len(violations):,} violations."
    return f"""<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>Nemesis: {escape(verdict)}</title><style>{style()}</style>
<h1>Nemesis</h1>
<p class="{"broken" if violations else "holds"}"><strong>{escape(verdict)}</strong></p>
<p class="soft">{options.customers} customers for {options.seconds:.0f} s, at most {options.rate:g} purchases a second;
faults drawn from seed {options.seed}.</p>
{figures(record.figures())}
{listing("Violations", violations)}{listing("Worth a look", record.outcome.verdict.notices)}
<h2>Orders in a second, by how they ended</h2>{legend("rect", _ENDS)}{_throughput(record)}
<h2>Seconds until PlaceOrder answered</h2>{legend("line", _PERCENTILES)}{_latency(record)}
<h2>What was done to whom</h2>{legend("rect", _FAULTS)}{_lanes(record)}
<h2>Seconds from the end of a fault until orders flowed again</h2>{_recoveries(record)}
{_table("Orders by how they ended", record.outcome.verdict.orders)}
{_table("Faults by kind", Counter(f"{one.deed.fault.kind} {one.deed.fault.target}" for one in record.strokes))}
{_table("Failed calls by reason, each repeated", record.outcome.seen.errors)}
{_faults(record.strokes)}
</html>
"""


def _seconds(record: Record) -> float:
    return max(record.outcome.quiet_s, len(record.buckets) * BUCKET_S)


def _throughput(record: Record) -> str:
    buckets = record.buckets
    layers = {css: [one.ends.get(state, 0) / BUCKET_S for one in buckets] for css, state in _STATES.items()}
    layers["failed"] = [one.failed_calls / BUCKET_S for one in buckets]
    totals = [sum(values) for values in zip(*layers.values(), strict=True)]
    frame = Frame(_seconds(record), 240, max([*totals, 1.0]))
    return frame.svg(
        "Orders over time", frame.shades(_spans(record.strokes, "shade")), frame.grid(), frame.stack(BUCKET_S, layers)
    )


def _latency(record: Record) -> str:
    buckets = record.buckets
    frame = Frame(_seconds(record), 180, max([one.p95_s or 0 for one in buckets] + [0.1]))
    middle = BUCKET_S / 2
    lines = [
        frame.line("p50", [(one.at_s + middle, one.p50_s) for one in buckets]),
        frame.line("p95", [(one.at_s + middle, one.p95_s) for one in buckets]),
    ]
    return frame.svg("Latency over time", frame.shades(_spans(record.strokes, "shade")), frame.grid(" s"), *lines)


def _lanes(record: Record) -> str:
    targets = [*process_names(), MARIADB, REDIS]
    frame = Frame(_seconds(record), 22 * len(targets))
    lanes = [
        frame.lane(
            number, len(targets), target, _spans(one for one in record.strokes if one.deed.fault.target == target)
        )
        for number, target in enumerate(targets)
    ]
    return frame.svg("Faults over time", *lanes)


def _recoveries(record: Record) -> str:
    known = [(one, one.recovered_after_s) for one in record.strokes if one.recovered_after_s is not None]
    parts = sorted({_part(one) for one, _ in known})
    frame = Frame(max([seconds for _, seconds in known] + [1.0]) * 1.05, max(22 * len(parts), 22))
    shapes = [frame.lane(number, len(parts), part, []) for number, part in enumerate(parts)]
    shapes += [
        frame.dot(_css(one), seconds, parts.index(_part(one)), len(parts), f"{_named(one)}: {seconds:.1f} s")
        for one, seconds in known
    ]
    return frame.svg("Recovery times", *shapes)


def _spans(strokes: Iterable[Stroke], css: str = "") -> list[Span]:
    return [Span(one.deed.began_s, one.deed.healed_s, css or _css(one), _named(one)) for one in strokes]


def _part(stroke: Stroke) -> str:
    return stroke.deed.fault.target.partition("-")[0]


def _css(stroke: Stroke) -> str:
    return _CSS.get(stroke.deed.fault.kind, "cut")


def _named(stroke: Stroke) -> str:
    deed = stroke.deed
    lasted = f", {deed.healed_s - deed.began_s:.1f} s" if deed.healed_s - deed.began_s >= 0.1 else ""
    return f"{deed.began_s:.1f} s: {deed.fault.kind} {deed.fault.target}{lasted}{deed.note and ', ' + deed.note}"


def _table(title: str, counts: Mapping[str, int]) -> str:
    rows = "".join(
        f'<tr><td>{escape(name)}</td><td class="number">{number:,}</td></tr>'
        for name, number in Counter(counts).most_common()
    )
    return f"<h2>{title}</h2><table>{rows}</table>" if rows else ""


def _faults(strokes: Sequence[Stroke]) -> str:
    rows = "".join(
        f"<tr><td>{escape(_named(one))}</td><td>{_recovered(one.recovered_after_s)}</td></tr>" for one in strokes
    )
    return f"<h2>Every fault</h2><table><tr><th>what</th><th>orders flowed again after</th></tr>{rows}</table>"


def _recovered(seconds: float | None) -> str:
    return "the run was over" if seconds is None else f"{seconds:.1f} s"
