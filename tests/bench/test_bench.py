"""Two minutes of what `make bench` does in a quarter of an hour, against bars that noise does not tear down."""

from pathlib import Path

import pytest

from tests.bench.__main__ import SHORT
from tests.bench.bars import BARS
from tests.bench.bench import run
from tests.bench.report import failures, say, write


@pytest.mark.alone
@pytest.mark.timeout(600)
def test_every_ratio_comes_near_its_bar_and_nothing_is_lost_on_the_way(tmp_path: Path) -> None:
    record = run(SHORT, tmp_path)
    write(record, tmp_path)
    say(record, tmp_path)
    assert failures(record) == []
    assert record.ratios.keys() == BARS.keys()
