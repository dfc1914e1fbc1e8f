"""An audit's report: tables for people, JSON for programs."""

import json

from rich.console import Console
from rich.table import Table

from shopmesh.audit.findings import TITLES, Finding, Report

_MOST_ROWS = 50


def print_report(report: Report, console: Console) -> None:
    """Print what was examined, then what was found, the first of it if it is much."""
    table = Table(title="Audit", title_justify="left")
    for name in ("", "invariant"):
        table.add_column(name)
    for name in ("checked", "findings"):
        table.add_column(name, justify="right")
    for invariant, checked, found in report.rows():
        table.add_row(invariant, TITLES[invariant], f"{checked:,}", f"[bold red]{found:,}[/]" if found else "0")
    console.print(table)
    _print_list("Findings", report.findings, console)
    _print_list("For the operator", report.notices, console)
    console.print("[green]clean[/]" if report.clean else f"[bold red]{len(report.findings):,} findings[/]")


def as_json(report: Report) -> str:
    """The whole report as one JSON object."""
    members = {
        "clean": report.clean,
        "invariants": [
            {"id": invariant, "title": TITLES[invariant], "checked": checked, "findings": found}
            for invariant, checked, found in report.rows()
        ],
        "findings": [_members(finding) for finding in report.findings],
        "notices": [_members(finding) for finding in report.notices],
    }
    return json.dumps(members, indent=2)


def _members(finding: Finding) -> dict[str, str]:
    return {
        "invariant": finding.invariant,
        "subject": finding.subject,
        "rule": finding.fault.rule,
        "message": finding.fault.message,
    }


def _print_list(title: str, findings: list[Finding], console: Console) -> None:
    """One line each, however long: an id that is cut in two cannot be searched for."""
    if findings:
        console.print(f"[bold]{title}[/]")
    for finding in findings[:_MOST_ROWS]:
        line = f"{finding.invariant:<4}{finding.subject}  {finding.fault.rule}: {finding.fault.message}"
        console.print(line, soft_wrap=True, markup=False, highlight=False)
    if len(findings) > _MOST_ROWS:
        console.print(f"and {len(findings) - _MOST_ROWS:,} more; --json prints all")
