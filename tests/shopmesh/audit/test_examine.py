"""What looks wrong once and then no more was an order on its way, and does not count."""

from collections.abc import Sequence

from shopmesh.audit.examine import Look, Looks, examine
from shopmesh.audit.findings import Fault, Finding, Invariant


class Wavering:
    """A check of one thing that looks wrong in the given ways, one look after the other, the last for ever."""

    covers = (Invariant.COUNTERS,)

    def __init__(self, *looks: Sequence[Fault]) -> None:
        self._looks = list(looks)

    async def looks(self) -> Looks:
        yield Look(self, ["TEA"], examined=1)

    async def judge(self, subjects: Sequence[str]) -> list[Finding]:
        faults = self._looks.pop(0) if len(self._looks) > 1 else self._looks[0]
        return [Finding(Invariant.COUNTERS, subject, fault) for subject in subjects for fault in faults]


_WRONG = Fault("wrong", "3, not 2")
_STILL_WRONG = Fault("wrong", "4, not 2")
_OTHERWISE_WRONG = Fault("otherwise", "5")


async def test_what_has_come_right_when_read_again_does_not_count() -> None:
    report = await examine(Wavering([_WRONG], []).looks(), reread_after_s=0)
    assert report.clean


async def test_what_stays_wrong_counts_once_as_it_was_last_seen() -> None:
    report = await examine(Wavering([_WRONG], [_STILL_WRONG]).looks(), reread_after_s=0)
    assert [finding.fault for finding in report.findings] == [_STILL_WRONG]


async def test_one_fault_that_gives_way_to_another_does_not_count() -> None:
    report = await examine(Wavering([_WRONG], [_OTHERWISE_WRONG]).looks(), reread_after_s=0)
    assert report.clean
