"""Alembic's entry; the connection and the transaction come from mesh.migrate."""

from mesh.migrate import run_migrations

run_migrations()
