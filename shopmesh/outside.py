"""`shopmesh emulate` and `shopmesh audit`: the mesh as it looks from outside, to its customers and to an auditor."""

from typing import Any

from mesh import log
from mesh.run import run
from shopmesh.audit import AuditOptions, audit
from shopmesh.emulator import EmulateOptions, emulate
from shopmesh.parts import read_settings


def main(command: str, **options: Any) -> int:
    """Run the emulator or the audit with these options and answer its exit code. Raises ConfigError for wrong use."""
    settings = read_settings().common
    log.set_up(settings.log_level)
    if command == "emulate":
        return run(emulate(EmulateOptions(settings=settings, **options)))
    return run(audit(AuditOptions(settings=settings, **options)))
