"""Counting: percentiles are times that were measured, refusals that may happen are no errors."""

import pytest

from mesh.errors import Failure, Kind
from shopmesh.emulator.meter import Latencies, Meter, distribution


def test_percentiles_are_by_nearest_rank() -> None:
    assert distribution([float(number) for number in range(100, 0, -1)]) == Latencies(100, 50.0, 95.0, 99.0)


@pytest.mark.parametrize("seconds", [[0.5], [0.5, 0.5]])
def test_percentiles_of_few_are_among_them(seconds: list[float]) -> None:
    assert distribution(seconds) == Latencies(len(seconds), 0.5, 0.5, 0.5)


def test_calls_are_counted_by_name_whatever_came_of_them() -> None:
    meter = Meter()
    meter.answered("PlaceOrder", 0.2)
    meter.answered("PlaceOrder", 0.1)
    meter.answered("GetCart", 0.3)
    assert (meter.calls, meter.orders) == (3, 2)
    assert list(meter.latencies()) == ["GetCart", "PlaceOrder"]


def test_what_was_to_be_expected_is_no_error() -> None:
    meter = Meter()
    meter.failed("AddItem", Failure(Kind.FAILED_PRECONDITION, "OUT_OF_STOCK", ""), expected=True)
    meter.failed("AddItem", Failure(Kind.INTERNAL, "INTERNAL", ""), expected=False)
    assert meter.refusals == {("AddItem", "OUT_OF_STOCK"): 1}
    assert meter.errors == {("AddItem", "INTERNAL"): 1}
