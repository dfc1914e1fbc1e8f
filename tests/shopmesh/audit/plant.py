"""What it is to spoil a sound shop in one way."""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Column, Executable, Table, delete, insert, update

# Invariant, subject, rule.
Named = tuple[str, str, str]


@dataclass(frozen=True, slots=True)
class Plant:
    """One change behind the services' back, and the findings that it has to lead to, others allowed."""

    name: str
    database: str
    statements: tuple[Executable, ...]
    findings: tuple[Named, ...]
    # Whether the tables' own constraints allow it.
    checked: bool = True


def changed(key: Column[Any], value: str, **values: Any) -> Executable:
    """The row under a key with other values."""
    return update(key.table).where(key == value).values(**values)


def lost(key: Column[Any], value: str) -> Executable:
    """The rows under a key gone."""
    return delete(key.table).where(key == value)


def added(table: Table, **values: Any) -> Executable:
    """A row too many."""
    return insert(table).values(**values)
