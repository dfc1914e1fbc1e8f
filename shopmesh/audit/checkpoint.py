"""What an audit leaves for the next, so that it need only look at what changed: a small JSON file."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Self

from mesh.config import Settings, database_url
from shopmesh.audit.books import Books, UnreadableError, read_now
from shopmesh.audit.stock import SETTLED_AFTER

_VERSION = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """What was known when an audit began, and what it found."""

    # Which databases were audited.
    databases: Mapping[str, str]
    # By database, by its clock: what was written since may not have been seen.
    times: Mapping[str, datetime]
    # The ledger's sums by SKU of what was written before that time.
    sums: Mapping[str, int]
    # By check, the ids of what was wrong, to be looked at again.
    subjects: Mapping[str, Sequence[str]]

    @property
    def settled_before(self) -> datetime:
        """Up to when the sums go."""
        return self.times["inventory"]

    @classmethod
    def read(cls, path: Path, settings: Settings) -> Self | None:
        """The checkpoint in this file; None if there is none yet.

        Raises UnreadableError for a file that is no checkpoint, or one of other databases.
        """
        try:
            members: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            if members.pop("version") != _VERSION:
                raise UnreadableError(f"{path} is a checkpoint of another version; remove it to audit everything.")
            times = {name: datetime.fromisoformat(time) for name, time in members.pop("times").items()}
            checkpoint = cls(times=times, **members)
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            raise UnreadableError(f"{path} is no checkpoint of an audit: {error}") from error
        if checkpoint.databases != where(settings, checkpoint.times):
            raise UnreadableError(f"{path} is the checkpoint of other databases; remove it to audit everything.")
        return checkpoint

    def write(self, path: Path) -> None:
        """Put it into the file, whole or not at all."""
        members = {**asdict(self), "times": {name: time.isoformat() for name, time in self.times.items()}}
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = path.with_name(f"{path.name}.new")
        draft.write_text(json.dumps({"version": _VERSION, **members}, indent=1), encoding="utf-8")
        draft.replace(path)


async def settled_times(books: Books) -> dict[str, datetime]:
    """By database, a time by its clock from before which every write has come to light."""
    return {name: await read_now(database) - SETTLED_AFTER for name, database in books.all().items()}


def where(settings: Settings, names: Mapping[str, object]) -> dict[str, str]:
    """Where these databases are, without passwords."""
    return {name: database_url(settings, name).render_as_string() for name in sorted(names)}
