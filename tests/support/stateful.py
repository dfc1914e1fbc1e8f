"""State machines of hypothesis that drive a real service: each run has a loop and a SQLite database of its own."""

import asyncio
import shutil
import tempfile
from collections.abc import Coroutine
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

from hypothesis.stateful import RuleBasedStateMachine
from sqlalchemy.engine import URL

from mesh.clock import Clock
from mesh.db import Database, open_database
from mesh.migrate import upgrade

T = TypeVar("T")


class ServiceMachine(RuleBasedStateMachine):
    """Subclass it with a `template`, copied for each run. Time stands unless a rule moves `now`."""

    # An empty migrated database.
    template: Path

    def __init__(self) -> None:
        super().__init__()
        self.now = datetime(2026, 1, 1, tzinfo=UTC)
        self.clock = Clock(now=lambda: self.now)
        self._folder = Path(tempfile.mkdtemp())
        self._runner = asyncio.Runner()
        self.run(self.open())

    async def open(self) -> None:
        """Start the service."""
        raise NotImplementedError

    async def close(self) -> None:
        """Stop it."""
        raise NotImplementedError

    async def database(self) -> Database:
        """A copy of the template."""
        path = self._folder / "service.db"
        shutil.copy(self.template, path)
        return await open_database(_url(path), clock=self.clock)

    def run(self, call: Coroutine[Any, Any, T]) -> T:
        """The answer of a call, made on this run's loop."""
        return self._runner.run(call)

    def teardown(self) -> None:
        """Leave nothing behind."""
        self.run(self.close())
        self._runner.close()
        shutil.rmtree(self._folder)


def make_template(path: Path, migrations: Path) -> Path:
    """An empty SQLite database with the schema of `migrations`."""
    asyncio.run(upgrade(_url(path), migrations))
    return path


def _url(path: Path) -> URL:
    return URL.create("sqlite+aiosqlite", database=str(path))
