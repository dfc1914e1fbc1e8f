"""Schema changes: Alembic run from code, one service at a time, safe when several replicas start at once.

A service's migrations/ holds env.py (two lines that call `run_migrations`) and versions/. Changes expand, migrate, then
contract, so that old and new programs can run beside each other.
"""

from functools import cache
from pathlib import Path

from alembic import command, context
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text
from sqlalchemy.engine import URL
from sqlalchemy.exc import DatabaseError

from mesh.db import Database, create_database, open_engine
from mesh.errors import Failure, unavailable

_LOCK_WAIT_S = 60


async def upgrade(url: URL, migrations: Path) -> None:
    """Bring the database at `url` to the newest schema of `migrations`, making the database first. Idempotent.

    One transaction on SQLite; on MySQL, whose DDL commits by itself, replicas take turns. Alembic's context is one for
    the whole process: upgrade one database after the other. Raises Failure UNAVAILABLE when it cannot be reached.
    """
    try:
        await create_database(url)
        await _upgrade(url, migrations)
    except (DatabaseError, OSError) as error:
        raise unavailable("DATABASE_UNAVAILABLE", f"Cannot migrate {url.render_as_string()}: {error}") from error


async def is_current(database: Database, migrations: Path) -> bool:
    """Whether the database can be reached and has the schema that this program expects."""
    head = _head(migrations)
    try:
        return await database.transact(
            "schema",
            lambda connection: connection.run_sync(lambda sync: _revision(sync) == head),
            read_only=True,
        )
    except (Failure, DatabaseError):
        return False


def run_migrations() -> None:
    """What each env.py calls: migrate on the connection that `upgrade` opened."""
    connection = context.config.attributes["connection"]
    context.configure(connection=connection, transaction_per_migration=False)
    with context.begin_transaction():
        context.run_migrations()


async def _upgrade(url: URL, migrations: Path) -> None:
    engine = open_engine(url, pool_size=1)
    config = _config(migrations)

    def run(connection: Connection) -> None:
        config.attributes["connection"] = connection
        command.upgrade(config, "head")

    try:
        async with engine.begin() as connection:
            if engine.dialect.name != "sqlite":
                # DDL commits by itself on MySQL: a named lock, not the transaction, keeps replicas apart.
                await connection.execute(text("SELECT GET_LOCK(:name, :wait)"), _lock(url) | {"wait": _LOCK_WAIT_S})
            await connection.run_sync(run)
            if engine.dialect.name != "sqlite":
                await connection.execute(text("SELECT RELEASE_LOCK(:name)"), _lock(url))
    finally:
        await engine.dispose()


@cache
def _head(migrations: Path) -> str | None:
    return ScriptDirectory.from_config(_config(migrations)).get_current_head()


def _lock(url: URL) -> dict[str, object]:
    return {"name": f"migrate {url.database}"[:64]}


def _config(migrations: Path) -> Config:
    config = Config()
    config.set_main_option("script_location", str(migrations))
    config.set_main_option("path_separator", "os")
    return config


def _revision(connection: Connection) -> str | None:
    return MigrationContext.configure(connection).get_current_revision()
