"""What an audit is told."""

from dataclasses import dataclass
from pathlib import Path

from mesh.config import Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditOptions:
    """`shopmesh audit [--journal FILE] [--since FILE] [--json]`."""

    # Tells where the databases are.
    settings: Settings
    # An emulator's journal: also prove that what was acknowledged is there.
    journal: Path | None = None
    # Look only at what changed since the audit that wrote this file, at everything if there is none; then rewrite it.
    since: Path | None = None
    # Print JSON for programs in place of tables for people.
    as_json: bool = False
    # What looks wrong counts only if it is still there when read again this much later, several times.
    reread_after_s: float = 1.0
