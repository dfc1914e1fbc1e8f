"""What a run looked like in numbers: what the report shows, made of the journal, the calls and the deeds."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from statistics import median
from typing import Any

from checkout_service.domain import ANSWERING
from shopmesh.audit.journal import ORDER, Entry
from shopmesh.emulator.meter import distribution
from tests.nemesis.nemesis import Deed
from tests.nemesis.run import Options, Outcome

# Wide enough for percentiles, narrow enough to show a fault of a few seconds.
BUCKET_S = 2.0
_RECOVERED = 0.5


@dataclass(frozen=True, slots=True)
class Bucket:
    """BUCKET_S seconds of a run. Latencies are those of the calls of PlaceOrder that brought an order, in seconds."""

    at_s: float
    # How many orders customers learnt the end of, by state.
    ends: Mapping[str, int]
    failed_calls: int
    p50_s: float | None
    p95_s: float | None

    @property
    def rate(self) -> float:
        """Orders in a second."""
        return sum(self.ends.values()) / BUCKET_S


@dataclass(frozen=True, slots=True)
class Stroke:
    """A deed, and how many seconds after its end orders ended again at half the usual rate; None for never."""

    deed: Deed
    recovered_after_s: float | None


@dataclass(frozen=True, slots=True)
class Record:
    """One run. Times are seconds since the load began."""

    options: Options
    outcome: Outcome
    buckets: Sequence[Bucket]
    strokes: Sequence[Stroke]
    # Orders in a second, in the median.
    usual_rate: float

    def figures(self) -> dict[str, str]:
        """The run in a dozen numbers, for people."""
        verdict, seen = self.outcome.verdict, self.outcome.seen
        orders = sum(verdict.orders.values())
        answered = [seconds for _, seconds, brought_order in seen.calls if brought_order]
        spread = distribution(answered) if answered else None
        rest = "not in time" if verdict.rest_after_s is None else f"{verdict.rest_after_s:.1f} s"
        taken_over = sum(number for epoch, number in verdict.epochs.items() if epoch != "1")
        return {
            "orders": f"{orders:,}",
            "orders in a second": f"{orders / self.outcome.quiet_s:.1f}; {self.usual_rate:.1f} in the median",
            "PlaceOrder": f"p50 {spread.p50 * 1000:.0f} ms, p95 {spread.p95:.2f} s, p99 {spread.p99:.2f} s"
            if spread
            else "",
            "calls that failed and were repeated": f"{sum(seen.errors.values()):,}",
            "purchases given up": f"{seen.purchases_broken_off:,}",
            "faults": f"{len(self.strokes):,}",
            "COMMITs cut": ", ".join(f"{number} {where}" for where, number in self.outcome.cuts.items()) or "0",
            "sagas that changed hands": f"{taken_over:,}",
            "all sagas at rest after the last fault": rest,
            "asked again, same answer": f"{seen.asked_again:,} orders",
            "violations": f"{len(verdict.violations):,}",
        }

    def as_json(self) -> dict[str, Any]:
        """Everything, for programs."""
        seen = {name: value for name, value in asdict(self.outcome.seen).items() if name != "calls"}
        return {
            "figures": self.figures(),
            "options": {**asdict(self.options), "folder": str(self.options.folder)},
            "verdict": asdict(self.outcome.verdict),
            "cuts": self.outcome.cuts,
            "seen": seen,
            "faults": [asdict(stroke) for stroke in self.strokes],
            "bucket_s": BUCKET_S,
            "buckets": [asdict(bucket) for bucket in self.buckets],
        }


def record(options: Options, outcome: Outcome, journal: Iterable[Entry]) -> Record:
    """Put the record together."""
    buckets = _buckets(outcome, journal)
    usual_rate = median([bucket.rate for bucket in buckets if bucket.at_s < options.seconds])
    good = [bucket.at_s for bucket in buckets if bucket.rate >= usual_rate * _RECOVERED]
    strokes = [Stroke(deed, _recovery(deed, good)) for deed in outcome.deeds]
    return Record(options, outcome, buckets, strokes, usual_rate)


def _buckets(outcome: Outcome, journal: Iterable[Entry]) -> list[Bucket]:
    seen = outcome.seen
    ends: defaultdict[int, Counter[str]] = defaultdict(Counter)
    for at, state in _ends(journal):
        ends[_bucket(at - seen.began)][state] += 1
    seconds: defaultdict[int, list[float]] = defaultdict(list)
    failed: Counter[int] = Counter()
    for at, call_s, brought_order in seen.calls:
        if brought_order:
            seconds[_bucket(at - seen.began)].append(call_s)
        else:
            failed[_bucket(at - seen.began)] += 1
    return [
        _one_bucket(number, ends[number], failed[number], seconds[number])
        for number in range(_bucket(seen.ended - seen.began) + 1)
    ]


def _one_bucket(number: int, ends: Counter[str], failed: int, seconds: list[float]) -> Bucket:
    spread = distribution(seconds) if seconds else None
    p50, p95 = (spread.p50, spread.p95) if spread else (None, None)
    return Bucket(number * BUCKET_S, dict(ends), failed, p50, p95)


def _ends(journal: Iterable[Entry]) -> Iterable[tuple[float, str]]:
    """When somebody first learnt how an order ended, and how."""
    known: set[str] = set()
    for entry in journal:
        if entry.kind == ORDER and entry.state in ANSWERING and entry.order_id not in known:
            known.add(entry.order_id)
            yield datetime.fromisoformat(entry.time).timestamp(), entry.state


def _bucket(at_s: float) -> int:
    return max(0, int(at_s // BUCKET_S))


def _recovery(deed: Deed, good: Sequence[float]) -> float | None:
    """Until the first good bucket that had not ended when the deed had."""
    after = [at_s for at_s in good if at_s + BUCKET_S > deed.healed_s]
    return max(0.0, after[0] - deed.healed_s) if after else None
