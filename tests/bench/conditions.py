"""Under what conditions the figures came about."""

import os
import platform
import subprocess
from pathlib import Path

from pymysql.cursors import Cursor  # type: ignore[import-untyped]

_SETTINGS = ("version", "innodb_flush_log_at_trx_commit", "innodb_buffer_pool_size", "log_bin")


def conditions(cursor: Cursor) -> dict[str, str]:
    """The machine, the versions and the settings that matter, for people."""
    database = {name: _setting(cursor, name) for name in _SETTINGS}
    mebibytes = int(database["innodb_buffer_pool_size"]) >> 20
    return {
        "processors": f"{os.cpu_count()}, {_processor()}, shared by everything",
        "load before": f"{os.getloadavg()[0]:.2f} in the last minute",
        "kernel": platform.release(),
        "Python": platform.python_version(),
        "MariaDB": database["version"],
        "MariaDB's settings": (
            f"innodb_flush_log_at_trx_commit = {database['innodb_flush_log_at_trx_commit']}, buffer pool"
            f" {mebibytes} MiB, binary log {database['log_bin']}; all others as delivered"
        ),
        "Redis": _told("redis-server", "--version").split()[2].removeprefix("v="),
        "wrk": _told("wrk", "--version").split()[1],
        "commit": _told("git", "rev-parse", "--short", "HEAD"),
        "processes of the mesh": "identity, inventory, cart, checkout, gateway; two carts more while carts are read",
        "beside the mesh": (
            "a service that echoes what is posted, with the rules of every service in front; `python -m gateway`, one"
            " process with what is on by default, in front of it, and two in front of inventory for what is kept or"
            " not; inventory, this service and gateways before them once more, with calls taken in as grpc.aio does it"
        ),
        "other processes": "MariaDB, Redis, and the load: wrk with one thread, or a client of ours on uvloop",
        "scheduling": "SCHED_BATCH for the mesh, loads and peers; MariaDB and Redis as they come",
    }


def _setting(cursor: Cursor, name: str) -> str:
    cursor.execute("SHOW VARIABLES LIKE %s", (name,))
    return str(cursor.fetchone()[1])


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")


def _told(*command: str) -> str:
    # wrk tells its version and then fails.
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return (done.stdout or done.stderr).strip()
