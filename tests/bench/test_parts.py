"""What the bench makes of what it measured; the measuring itself is tests.bench.test_bench."""

import re
from xml.etree import ElementTree as ET

import pytest

from tests.bench.bars import BARS
from tests.bench.batches import Sizes, sizes_in
from tests.bench.bench import Record
from tests.bench.figure import Figure, compare, interleaved
from tests.bench.page import page
from tests.bench.report import as_json, failures
from tests.bench.sample import Measured, Sample, percentiles
from tests.bench.stage import Check, Options
from tests.bench.sweep import Sweep

_METRICS = """\
# TYPE batch_items histogram
batch_items_bucket{batch="orders",le="1.0"} 3
batch_items_bucket{batch="orders",le="2.0"} 3
batch_items_bucket{batch="orders",le="4.0"} 10
batch_items_bucket{batch="orders",le="+Inf"} 10
"""


def measured(rate: float) -> Measured:
    sample = Sample(
        counted=int(rate * 2), window_s=2, answered=int(rate * 3), refused=0, latencies_s=(0.01,) * 99, cpu_s=0.5
    )
    return Measured(sample=sample, cpu_s={"checkout": 2.0, "mariadb": 1.0, "load": 0.5}, commits=300)


def compared(mesh: float, monolith: float) -> Figure:
    sides = {"mesh": [measured(mesh)], "monolith": [measured(monolith)]}
    return compare({"checkout_vs_monolith": ("mesh", "monolith")}, sides, unit="orders/s")


def a_record(figure: Figure, *checks: Check, slack: float = 1.0) -> Record:
    options = Options(rounds=1, window_s=2, warm_s=1, many_orders=10, sell_out=10, connections=(1, 128), slack=slack)
    swept = {side: {1: measured(20), 128: measured(200)} for side in ("mesh", "monolith")}
    return Record(
        options=options,
        conditions={"kernel": "<6>"},
        figures={"checkout_vs_monolith": figure},
        checks=checks,
        ends={"PAID": 600},
        rows=None,
        sweep=Sweep(swept, {"checkout: orders": Sizes({1.0: 3, 4.0: 7})}),
        seconds=12.0,
    )


def test_sides_are_measured_in_turn() -> None:
    turns: list[str] = []

    def side(name: str) -> Measured:
        turns.append(name)
        return measured(100)

    found = interleaved({"a": lambda: side("a"), "b": lambda: side("b")}, rounds=2)
    assert turns == ["a", "b", "a", "b"]
    assert {name: len(rounds) for name, rounds in found.items()} == {"a": 2, "b": 2}


def test_a_ratio_is_that_of_the_medians() -> None:
    sides = {"mesh": [measured(rate) for rate in (90, 30, 80)], "monolith": [measured(rate) for rate in (100, 900, 5)]}
    figure = compare({"checkout_vs_monolith": ("mesh", "monolith")}, sides, unit="orders/s")
    assert figure.ratios == {"checkout_vs_monolith": 0.8}


def test_cost_is_told_for_each_answer_the_loads_own_apart() -> None:
    one = measured(100)
    assert one.cpu_ms_each["checkout"] == pytest.approx(2000 / 300)
    assert one.served_cpu_ms_each == pytest.approx(3000 / 300)


def test_percentiles_are_values_that_were_measured() -> None:
    assert percentiles([3.0, 1.0, 2.0])[::49] == (1.0, 2.0, 3.0)
    assert percentiles([]) == ()


def test_a_batch_counts_in_the_first_bound_that_it_fits() -> None:
    sizes = sizes_in(_METRICS)["orders"]
    assert sizes.counts == {1.0: 3, 2.0: 0, 4.0: 7, float("inf"): 0}
    assert (sizes - Sizes({1.0: 1})).batches == 9


@pytest.mark.parametrize(("mesh", "slack", "misses"), [(70, 1.0, 0), (60, 1.0, 1), (60, 0.7, 0), (48, 0.7, 1)])
def test_a_ratio_that_misses_its_bar_is_a_failure(mesh: float, slack: float, misses: int) -> None:
    assert len(failures(a_record(compared(mesh, 100), slack=slack))) == misses


def test_what_must_be_so_and_is_not_is_a_failure_however_fast_it_was() -> None:
    record = a_record(compared(200, 100), Check("units sold", holds=False, found="11"))
    assert failures(record) == ["units sold: 11"]
    assert as_json(record)["ratios"] == {"checkout_vs_monolith": 2.0}


def test_an_upper_bound_widens_with_slack() -> None:
    bar = BARS["commits_per_checkout"]
    assert (bar.is_met(0.25), bar.is_met(0.3), bar.is_met(0.3, slack=0.7)) == (True, False, True)


def test_the_page_needs_nothing_else_and_its_plots_are_well_formed() -> None:
    html = page(a_record(compared(80, 100), Check("units <sold>", holds=False, found="11")))
    assert not re.search(r"https?:|<script|<link|<img|url\(|<6>|<sold>", html)
    plots = re.findall(r"<svg viewBox=\"0 0 1080.*?</svg>", html, flags=re.DOTALL)
    assert len(plots) == 4
    for plot in plots:
        ET.fromstring(plot)  # noqa: S314 - our own
