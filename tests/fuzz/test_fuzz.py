"""A short run of the fuzzer; `make fuzz` is the whole one."""

from pathlib import Path

import pytest

from tests.fuzz.fuzz import fuzz


@pytest.mark.timeout(120)
async def test_spoilt_requests_are_refused_and_nothing_breaks(tmp_path: Path) -> None:
    report = await fuzz(tmp_path, requests=4_000, seed=20261128)

    assert report.problems == []
    # Not everything is spoilt beyond use, and not everything is let through.
    assert report.requests == 4_000
    assert min(report.codes["200"], report.codes["400"], report.codes["404"]) > 100
