"""The audit as a command: open the books, examine, print, answer the exit code."""

import sys

from rich.console import Console

from mesh.program import misuse
from shopmesh.audit.acknowledged import Told, sort
from shopmesh.audit.books import Books, UnreadableError
from shopmesh.audit.changes import Changes
from shopmesh.audit.checkpoint import Checkpoint, settled_times, where
from shopmesh.audit.examine import Checks, examine, looks_at_told
from shopmesh.audit.findings import Report
from shopmesh.audit.journal import read_journal
from shopmesh.audit.options import AuditOptions
from shopmesh.audit.report import as_json, print_report
from shopmesh.audit.sweep import Sweep


async def audit(options: AuditOptions) -> int:
    """Examine the databases and print what was found. Answers 0 for clean, 1 for findings, 2 for unreadable books."""
    try:
        report = await run(options)
    except UnreadableError as error:
        return misuse([str(error)])
    if options.as_json:
        sys.stdout.write(as_json(report) + "\n")
    else:
        print_report(report, Console())
    return 0 if report.clean else 1


async def run(options: AuditOptions) -> Report:
    """Examine the databases. Raises UnreadableError when one of them, the journal or the checkpoint cannot be read."""
    told = _told(options)
    since = None if options.since is None else Checkpoint.read(options.since, options.settings)
    books = await Books.open(options.settings)
    try:
        return await _examine(books, told, since, options)
    finally:
        await books.close()


async def _examine(books: Books, told: Told | None, since: Checkpoint | None, options: AuditOptions) -> Report:
    checks, times = Checks(books), await settled_times(books)
    scope = (
        Sweep(books, checks, settled_before=times["inventory"])
        if since is None
        else Changes(books, checks, since, settled_before=times["inventory"])
    )
    journal = [] if told is None else [looks_at_told(books, told)]
    report = await examine(scope.looks(), *journal, reread_after_s=options.reread_after_s)
    if options.since is not None:
        Checkpoint(
            databases=where(options.settings, times),
            times=times,
            sums=dict(scope.sums),
            subjects={check: sorted(subjects) for check, subjects in report.wrong.items()},
        ).write(options.since)
    return report


def _told(options: AuditOptions) -> Told | None:
    return None if options.journal is None else sort(read_journal(options.journal))
