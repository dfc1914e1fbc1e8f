"""Schedules come from their seed alone, leave nothing out, and let faults meet."""

from itertools import pairwise

import pytest

from tests.nemesis.schedule import FaultKind, draw


def test_the_same_seed_draws_the_same_faults() -> None:
    assert draw(7, 600) == draw(7, 600)
    assert draw(7, 600) != draw(8, 600)


@pytest.mark.parametrize("seed", range(5))
def test_a_long_run_leaves_no_fault_out(seed: int) -> None:
    faults = draw(seed, 690)
    every_one = {(fault.kind, fault.target) for faults in map(draw, range(3), [3000] * 3) for fault in faults}
    assert {(fault.kind, fault.target) for fault in faults} == every_one
    assert {fault.kind for fault in faults} == set(FaultKind)
    assert any(fault.kind is FaultKind.STOP and fault.target == "checkout-1" for fault in faults)


@pytest.mark.parametrize("seconds", [15, 30, 690])
def test_all_is_healed_when_the_load_ends(seconds: float) -> None:
    faults = draw(1, seconds)
    assert len(faults) >= 8
    assert all(fault.at_s > 0 and fault.at_s + fault.lasts_s <= seconds for fault in faults)
    assert faults == sorted(faults, key=lambda fault: fault.at_s)


def test_faults_meet() -> None:
    assert any(fault.at_s + fault.lasts_s > later.at_s for fault, later in pairwise(draw(1, 690)))
