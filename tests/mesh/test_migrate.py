import asyncio
import sys
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.engine import URL

from mesh.db import Database, open_database
from mesh.errors import Failure, Kind
from mesh.migrate import is_current, upgrade

ENV = "from mesh.migrate import run_migrations\n\nrun_migrations()\n"
MIGRATION = """
import sqlalchemy as sa
from alembic import op

revision = "{revision}"
down_revision = {before}

def upgrade():
    op.create_table("things_{revision}", sa.Column("id", sa.Integer, primary_key=True))
    op.execute("INSERT INTO things_{revision} (id) VALUES (1)")
"""
PROGRAM = """
import asyncio, pathlib, sys
from sqlalchemy.engine import make_url
from mesh.migrate import upgrade
sys.stdin.readline()
asyncio.run(upgrade(make_url(sys.argv[1]), pathlib.Path(sys.argv[2])))
"""


def write(folder: Path, *revisions: str) -> Path:
    """A service's migrations, one after the other."""
    (folder / "versions").mkdir(parents=True, exist_ok=True)
    (folder / "env.py").write_text(ENV)
    before = None
    for revision in revisions:
        migration = MIGRATION.format(revision=revision, before=repr(before))
        (folder / "versions" / f"{revision}.py").write_text(migration)
        before = revision
    return folder


async def rows(database: Database, table: str) -> int:
    statement = text(f"SELECT count(*) FROM {table}")  # noqa: S608 - a name of our own
    return int(await database.transact("count", lambda connection: connection.scalar(statement)) or 0)


async def test_a_database_is_made_and_brought_to_the_newest_schema(database_url: URL, tmp_path: Path) -> None:
    migrations = write(tmp_path / "migrations", "0001", "0002")
    database = await open_database(database_url)
    before = await is_current(database, migrations)

    await upgrade(database_url, migrations)
    await upgrade(database_url, migrations)

    assert (before, await is_current(database, migrations)) == (False, True)
    assert (await rows(database, "things_0001"), await rows(database, "things_0002")) == (1, 1)
    await database.close()


async def test_a_program_newer_than_the_schema_is_not_current(database_url: URL, tmp_path: Path) -> None:
    await upgrade(database_url, write(tmp_path / "old", "0001"))
    newer = write(tmp_path / "new", "0001", "0002")
    database = await open_database(database_url)

    before = await is_current(database, newer)
    await upgrade(database_url, newer)

    assert (before, await is_current(database, newer)) == (False, True)
    await database.close()


async def test_programs_that_start_at_once_migrate_once(database_url: URL, tmp_path: Path) -> None:
    migrations = write(tmp_path / "migrations", *(f"{number:04}" for number in range(1, 9)))
    command = (sys.executable, "-c", PROGRAM, database_url.render_as_string(hide_password=False), str(migrations))
    pipe = asyncio.subprocess.PIPE
    programs = [await asyncio.create_subprocess_exec(*command, stdin=pipe, stderr=pipe) for _ in range(2)]

    outputs = await asyncio.gather(*(program.communicate(b"go\n") for program in programs))

    assert [program.returncode for program in programs] == [0, 0], outputs
    database = await open_database(database_url)
    assert await is_current(database, migrations)
    assert [await rows(database, f"things_{number:04}") for number in (1, 8)] == [1, 1]
    await database.close()


async def test_a_failing_migration_on_sqlite_leaves_the_schema_as_it_was(tmp_path: Path) -> None:
    url = URL.create("sqlite+aiosqlite", database=str(tmp_path / "mesh.db"))
    good = write(tmp_path / "good", "0001")
    await upgrade(url, good)
    bad = write(tmp_path / "bad", "0001", "0002")
    (bad / "versions" / "0002.py").write_text(
        MIGRATION.format(revision="0002", before="'0001'") + '    raise LookupError("broken")\n'
    )

    with pytest.raises(LookupError):
        await upgrade(url, bad)
    await upgrade(url, write(tmp_path / "repaired", "0001", "0002"))

    database = await open_database(url)
    assert await rows(database, "things_0002") == 1
    await database.close()


async def test_a_server_that_is_away_is_unavailable_and_not_current(tmp_path: Path) -> None:
    url = URL.create("mysql+aiomysql", "shop", "hunter2", host="127.0.0.1", port=1, database="mesh")
    migrations = write(tmp_path / "migrations", "0001")
    database = await open_database(url)

    with pytest.raises(Failure) as caught:
        await upgrade(url, migrations)

    assert caught.value.kind is Kind.UNAVAILABLE
    assert "hunter2" not in str(caught.value)
    assert not await is_current(database, migrations)
    await database.close()
