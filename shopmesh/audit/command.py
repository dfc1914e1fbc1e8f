"""The audit as a command: open the books, examine, print, answer the exit code."""

import sys

from rich.console import Console

from mesh.program import misuse
from shopmesh.audit.acknowledged import Told, sort
from shopmesh.audit.books import Books, UnreadableError
from shopmesh.audit.examine import all_checks, examine
from shopmesh.audit.findings import Report
from shopmesh.audit.journal import read_journal
from shopmesh.audit.options import AuditOptions
from shopmesh.audit.report import as_json, print_report


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
    """Examine the databases. Raises UnreadableError when one of them, or the journal, cannot be read."""
    told = _told(options)
    books = await Books.open(options.settings)
    try:
        await books.require(options.settings)
        return await examine(all_checks(books, told), reread_after_s=options.reread_after_s)
    finally:
        await books.close()


def _told(options: AuditOptions) -> Told | None:
    return None if options.journal is None else sort(read_journal(options.journal))
