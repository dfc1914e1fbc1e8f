"""An audit in a process of its own, so that what it takes is all its own: python -m ... CHECKPOINT.

The databases are those of SHOP_*_DB_URL. Prints one JSON object; `measured` runs it and answers that.
"""

import asyncio
import json
import os
import resource
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from mesh.config import Settings, load
from shopmesh.audit import AuditOptions
from shopmesh.audit.command import run


@dataclass(frozen=True, slots=True)
class Measured:
    """What an audit found and what it took. The processor's seconds are ours, not the database's."""

    clock_s: float
    cpu_s: float
    peak_mib: float
    findings: int
    notices: int
    # By invariant.
    checked: dict[str, int]


async def measured(settings: Settings, checkpoint: Path) -> Measured:
    """Audit in increments, as a program of its own."""
    program = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", __name__, str(checkpoint)),
        stdout=asyncio.subprocess.PIPE,
        env=os.environ | settings.per_service,
    )
    told, _ = await program.communicate()
    assert program.returncode == 0
    return Measured(**json.loads(told))


async def _audit(checkpoint: Path) -> Measured:
    options = AuditOptions(settings=load(Settings), since=checkpoint, reread_after_s=0)
    clock, cpu = time.monotonic(), time.process_time()
    report = await run(options)
    return Measured(
        clock_s=time.monotonic() - clock,
        cpu_s=time.process_time() - cpu,
        peak_mib=_peak_kib() / 1024,
        findings=len(report.findings),
        notices=len(report.notices),
        checked={str(invariant): number for invariant, number in report.checked.items()},
    )


def _peak_kib() -> int:
    """Of this program alone: getrusage would add what the process held that began it."""
    status = Path("/proc/self/status")
    if not status.exists():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    lines = dict(line.split(":", 1) for line in status.read_text().splitlines())
    return int(lines["VmHWM"].split()[0])


if __name__ == "__main__":
    sys.stdout.write(json.dumps(asdict(asyncio.run(_audit(Path(sys.argv[1]))))))
