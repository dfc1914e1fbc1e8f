"""The report shows what was, and needs nothing but itself."""

import json
import re
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from shopmesh.audit.journal import ORDER, Entry
from tests.nemesis.load import Seen
from tests.nemesis.nemesis import Deed
from tests.nemesis.page import page
from tests.nemesis.record import Record, record
from tests.nemesis.report import write
from tests.nemesis.run import Options, Outcome
from tests.nemesis.schedule import Fault, FaultKind
from tests.nemesis.verdict import Verdict

_BEGAN = 1_800_000_000.0


def order(number: int, at_s: float, state: str = "PAID") -> Entry:
    time = f"2027-01-15T08:00:{at_s:09.6f}+00:00"
    return Entry(kind=ORDER, customer="c", time=time, order_id=f"order-{number}", state=state)


def a_record(folder: Path, *, violations: list[str] | None = None) -> Record:
    """Twenty seconds at two orders a second, of which checkout-1 was stopped for five."""
    times = [at / 2 for at in range(40) if not 12 <= at < 24]
    seen = Seen(
        began=_BEGAN,
        ended=_BEGAN + 20,
        purchases_broken_off=0,
        asked_again=28,
        differences=[],
        refusals={},
        errors={"PlaceOrder UNAVAILABLE": 1},
        calls=[*[(_BEGAN + at, 0.1, True) for at in times], (_BEGAN + 7, 5.0, False)],
    )
    deeds = [
        Deed(Fault(6.0, FaultKind.STOP, "checkout-1", 5.0), 6.0, 11.0),
        Deed(Fault(15.0, FaultKind.CUT_IN_COMMIT, "mariadb"), 15.0, 15.0, "3 times"),
    ]
    verdict = Verdict(rest_after_s=1.5, violations=violations or [], orders={"PAID": 28}, epochs={"1": 26, "2": 2})
    options = Options(seconds=20, seed=1, customers=4, rate=2, folder=folder)
    outcome = Outcome(deeds, {"while it is under way": 3}, 20.0, seen, verdict)
    return record(options, outcome, [order(number, at) for number, at in enumerate(times)])


def test_orders_are_counted_when_their_end_was_first_told(tmp_path: Path) -> None:
    whole = a_record(tmp_path)
    assert [bucket.rate for bucket in whole.buckets[:4]] == [2.0, 2.0, 2.0, 0.0]
    assert whole.buckets[3].failed_calls == 1
    assert (whole.buckets[0].p50_s, whole.buckets[3].p50_s) == (0.1, None)
    assert whole.usual_rate == 2.0


def test_a_shop_has_recovered_when_orders_flow_again(tmp_path: Path) -> None:
    assert [stroke.recovered_after_s for stroke in a_record(tmp_path).strokes] == [1.0, 0.0]


def test_figures_and_data_agree_with_the_run(tmp_path: Path) -> None:
    whole = a_record(tmp_path)
    write(whole)
    data = json.loads((tmp_path / "report.json").read_text())
    assert data["figures"] == whole.figures()
    assert data["figures"]["orders"] == "28"
    assert data["figures"]["sagas that changed hands"] == "2"
    assert [fault["deed"]["fault"]["target"] for fault in data["faults"]] == ["checkout-1", "mariadb"]
    assert (tmp_path / "index.html").read_text() == page(whole)


def test_the_page_needs_nothing_else_and_its_plots_are_well_formed(tmp_path: Path) -> None:
    html = page(a_record(tmp_path))
    assert not re.search(r"https?:|<script|<link|<img|url\(", html)
    plots = re.findall(r"<svg .*?</svg>", html, flags=re.DOTALL)
    assert len(plots) >= 4
    for plot in plots:
        ET.fromstring(plot)  # noqa: S314 - our own


@pytest.mark.parametrize(("violations", "said"), [([], "Everything that is promised held."), (["<b>"], "1 violations")])
def test_the_page_says_first_whether_the_promises_held(tmp_path: Path, violations: list[str], said: str) -> None:
    html = page(a_record(tmp_path, violations=violations))
    assert said in html
    assert "<b>" not in html
