"""Runs checks. Orders move while an audit reads, so what looks wrong is looked at again before it counts."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Protocol

from shopmesh.audit.acknowledged import CartsTold, KeysTold, OrdersTold, Told
from shopmesh.audit.books import Books, chunks
from shopmesh.audit.findings import Finding, Invariant, Report
from shopmesh.audit.orders import OrderCheck
from shopmesh.audit.stock import StockCheck
from shopmesh.audit.strays import orphans, strays

_REREADS = 3


class Check(Protocol):
    """Looks at all things of one kind."""

    @property
    def covers(self) -> tuple[Invariant, ...]:
        """The invariants that each thing is examined for."""

    def pages(self) -> AsyncIterator[Sequence[str]]:
        """The ids of all things, a page at a time."""

    async def judge(self, subjects: Sequence[str]) -> list[Finding]:
        """What is wrong, at this moment, with the things of these ids. May be asked again."""


def all_checks(books: Books, told: Told | None = None) -> list[Check]:
    """Every check that the databases allow; with a journal, sorted, also those of what was told."""
    checks: list[Check] = [StockCheck(books), OrderCheck(books), *strays(books), *orphans(books)]
    if told is not None:
        checks += [OrdersTold(books, told), KeysTold(books, told), CartsTold(books, told)]
    return checks


async def examine(checks: Sequence[Check], *, reread_after_s: float) -> Report:
    """Run the checks. Only what is still found after each of several re-readings stands in the report."""
    report = Report()
    suspects = [(check, await _first_look(check, report)) for check in checks]
    for _ in range(_REREADS):
        suspects = [(check, found) for check, found in suspects if found]
        if not suspects:
            break
        await asyncio.sleep(reread_after_s)
        suspects = [(check, await _look_again(check, found)) for check, found in suspects]
    for _, found in suspects:
        report.add(found)
    return report


async def _first_look(check: Check, report: Report) -> list[Finding]:
    found = []
    async for page in check.pages():
        report.checked.update(dict.fromkeys(check.covers, len(page)))
        found += await check.judge(page)
    return found


async def _look_again(check: Check, suspects: Sequence[Finding]) -> list[Finding]:
    known = {finding.identity for finding in suspects}
    subjects = sorted({finding.subject for finding in suspects})
    found = [finding for chunk in chunks(subjects) for finding in await check.judge(chunk)]
    return [finding for finding in found if finding.identity in known]
