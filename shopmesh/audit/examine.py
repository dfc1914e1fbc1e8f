"""Runs checks. Orders move while an audit reads, so what looks wrong is looked at again before it counts."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from shopmesh.audit.acknowledged import CartsTold, KeysTold, OrdersTold, Told
from shopmesh.audit.books import Books, chunks
from shopmesh.audit.findings import Finding, Invariant, Report
from shopmesh.audit.keys import KeyCheck
from shopmesh.audit.ledger import LedgerCheck
from shopmesh.audit.orders import OrderCheck
from shopmesh.audit.provider import ProviderCheck
from shopmesh.audit.stock import StockCheck

_REREADS = 3


class Check(Protocol):
    """Looks at things of one kind."""

    @property
    def covers(self) -> tuple[Invariant, ...]:
        """The invariants that each thing is examined for."""

    async def judge(self, subjects: Sequence[str]) -> list[Finding]:
        """What is wrong, at this moment, with the things of these ids. May be asked again."""


@dataclass(frozen=True, slots=True)
class Look:
    """Things that one check is to look at. `examined` counts them with those that needed no closer look."""

    check: Check
    subjects: Sequence[str]
    examined: int = 0


Looks = AsyncIterator[Look]


class Checks:
    """One check for each kind of thing."""

    def __init__(self, books: Books) -> None:
        self.orders = OrderCheck(books)
        self.keys = KeyCheck(books)
        self.ledger = LedgerCheck(books)
        self.stock = StockCheck(books)
        self.provider = ProviderCheck(books)


async def looks_at_told(books: Books, told: Told) -> Looks:
    """What customers were told, all of it."""
    for check, subjects in (
        (OrdersTold(books, told), told.orders),
        (KeysTold(books, told), told.keys),
        (CartsTold(books, told), told.carts),
    ):
        for chunk in chunks(sorted(subjects)):
            yield Look(check, chunk, examined=len(chunk))


async def examine(*sources: Looks, reread_after_s: float) -> Report:
    """Look at everything. Only what is still found after each of several re-readings stands in the report."""
    report = Report()
    suspects = await _first_look(sources, report)
    for _ in range(_REREADS):
        if not suspects:
            break
        await asyncio.sleep(reread_after_s)
        looked = [(check, await _look_again(check, found)) for check, found in suspects.items()]
        suspects = {check: found for check, found in looked if found}
    for check, found in suspects.items():
        report.add(type(check).__name__, found)
    return report


async def _first_look(sources: Sequence[Looks], report: Report) -> dict[Check, list[Finding]]:
    found: dict[Check, list[Finding]] = {}
    for source in sources:
        async for look in source:
            report.checked.update(dict.fromkeys(look.check.covers, look.examined))
            for chunk in chunks(look.subjects):
                findings = await look.check.judge(chunk)
                if findings:
                    found.setdefault(look.check, []).extend(findings)
    return found


async def _look_again(check: Check, suspects: Sequence[Finding]) -> list[Finding]:
    known = {finding.identity for finding in suspects}
    subjects = sorted({finding.subject for finding in suspects})
    found = [finding for chunk in chunks(subjects) for finding in await check.judge(chunk)]
    return [finding for finding in found if finding.identity in known]
