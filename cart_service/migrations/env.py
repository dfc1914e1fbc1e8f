"""Alembic's entry: the kit knows how."""

from mesh.migrate import run_migrations

run_migrations()
