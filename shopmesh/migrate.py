"""`shopmesh migrate`: every database to this version's schema. Idempotent; replicas that do it at once take turns."""

import os
import sys
from functools import partial

from mesh import log
from mesh.errors import ConfigError, Failure
from mesh.run import run
from shopmesh.parts import PARTS, MeshSettings, read_settings
from shopmesh.patience import patiently

EXIT_FAILED = 1


def main() -> int:
    """Migrate and answer the exit code: 1 when a database cannot be reached in 60 s."""
    settings = read_settings()
    if problems := data_folder_problems(settings):
        raise ConfigError(problems)
    log.set_up(settings.common.log_level)
    return run(_migrate(settings))


def data_folder_problems(settings: MeshSettings) -> list[str]:
    """Make the folder that embedded databases live in; say what is wrong where that cannot be done."""
    if not settings.common.embedded:
        return []
    folder = settings.common.data_dir
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        return [f"SHOP_DATA_DIR: {folder}: {os.strerror(error.errno or 0)}"]
    return [] if os.access(folder, os.W_OK | os.X_OK) else [f"SHOP_DATA_DIR: {folder}: cannot be written to"]


async def migrate_all(settings: MeshSettings) -> None:
    """Migrate the databases of all parts, one after the other. Raises Failure UNAVAILABLE after 60 s without one."""
    for part in PARTS:
        await patiently(partial(part.migrate, settings), waiting_for=f"the database of {part.package}")


async def _migrate(settings: MeshSettings) -> int:
    try:
        await migrate_all(settings)
    except Failure as failure:
        sys.stderr.write(f"shopmesh: {failure.message}\n")
        return EXIT_FAILED
    sys.stdout.write(f"migrated: {', '.join(part.package for part in PARTS)}\n")
    return 0
