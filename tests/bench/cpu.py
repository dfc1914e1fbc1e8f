"""What processes take of the processors."""

import os
from collections.abc import Mapping
from pathlib import Path

_TICKS_IN_SECOND = os.sysconf("SC_CLK_TCK")
# Of /proc/<pid>/stat, counted behind the name, which may hold anything: proc(5), utime and stime.
_UTIME, _STIME = 11, 12


def cpu_s(pids: Mapping[str, int]) -> dict[str, float]:
    """Seconds that each process has run so far, all its threads, to a hundredth; by the name that it is given here."""
    return {name: _ticks(pid) / _TICKS_IN_SECOND for name, pid in pids.items()}


def _ticks(pid: int) -> int:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[_UTIME]) + int(fields[_STIME])
