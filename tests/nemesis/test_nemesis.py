"""A minute of what `make nemesis` does for twelve: real processes, a real load, a fault every two seconds."""

from pathlib import Path

import pytest

from shopmesh.audit.journal import read_journal
from tests.nemesis.load import journal_path
from tests.nemesis.record import record
from tests.nemesis.report import say, write
from tests.nemesis.run import Options, run

# The machine may be busy with other tests; faults and load are few enough for it.
_SECONDS = 22.0
_SEED = 5


@pytest.mark.alone
@pytest.mark.timeout(300)
async def test_whatever_the_nemesis_does_every_promise_holds_and_all_is_at_rest_soon_after(tmp_path: Path) -> None:
    options = Options(seconds=_SECONDS, seed=_SEED, customers=24, rate=8, folder=tmp_path / "run")
    outcome = await run(options)
    found = record(options, outcome, read_journal(journal_path(options.folder)))
    write(found)
    say(found)
    assert outcome.verdict.violations == []
    assert outcome.verdict.rest_after_s is not None
    assert outcome.verdict.orders["PAID"] >= 5
    assert len(outcome.deeds) >= 8
