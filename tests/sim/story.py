"""A failed seed as a story: what was violated, what happened to those concerned, and how to see it again."""

import re
from typing import Any

from tests.sim.log import Event
from tests.sim.transport import Answer, Flight
from tests.sim.world import Result

_MOST_EVENTS = 120
_MOST_WORDS = 240
# Ids of orders, carts and SKUs, as they stand in messages and statements.
_ID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}|sku-\d+")
_ALWAYS = (
    "is killed",
    "is paused",
    "goes on",
    "starts",
    "stops",
    "reaches",
    "reached",
    "database",
    "quiet",
    "commits lost",
    "logs",
)


def tell(result: Result, *, whole: bool = False) -> str:
    """The story of one seed; with every event if asked."""
    if whole:
        return "\n".join(_told(event) for event in result.events)
    concerned = sorted({name for violation in result.violations for name in _ID.findall(violation)})
    relevant = [event for event in result.events if _is_relevant(event, concerned)]
    lines = [
        headline(result),
        f"  the last of {len(relevant)} events about {', '.join(concerned) or 'faults'}:",
        *(f"  {_told(event)}" for event in relevant[-_MOST_EVENTS:]),
    ]
    return "\n".join(lines)


def headline(result: Result) -> str:
    """What was violated, and how to see it again."""
    lines = [
        f"seed {result.seed} ({result.profile}): {len(result.violations)} violated, digest {result.digest}",
        *(f"  VIOLATED {violation}" for violation in result.violations),
        f"  again: python -m tests.sim --replay {result.seed} --profile {result.profile}",
    ]
    return "\n".join(lines)


def _is_relevant(event: Event, concerned: list[str]) -> bool:
    if any(word in event.what for word in _ALWAYS):
        return True
    text = event.what + _searchable(event.detail)
    return any(name in text for name in concerned)


def _searchable(detail: Any) -> str:
    if isinstance(detail, Flight):
        return detail.data.decode("latin-1")
    if isinstance(detail, tuple):
        flight, answer = detail
        return str(flight.data.decode("latin-1")) + str(answer.data.decode("latin-1"))
    return str(detail) if detail is not None else ""


def _told(event: Event) -> str:
    """The event, with the readable part of what it carries."""
    if event.what.startswith("commit "):
        verbs = " ".join(sql for sql, _ in event.detail)
        tables = re.findall(r"(INSERT INTO|UPDATE|DELETE FROM) (\w+)", verbs)
        return f"{event}: {', '.join(f'{verb.split()[0].lower()} {table}' for verb, table in tables)}"
    if isinstance(event.detail, tuple) and isinstance(event.detail[1], Answer):
        return f"{event} {event.detail[1].details}"[:_MOST_WORDS]
    return str(event)[:_MOST_WORDS]
