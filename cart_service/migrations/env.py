"""Alembic's entry: the kit knows how."""
# ruff: noqa: INP001 - Alembic loads it by path

from mesh.migrate import run_migrations

run_migrations()
