"""What is wrong in one body, and where.

A path is told only where something is wrong, so readers hand down a chain of steps and not a text.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from gateway.errors import Violation
from gateway.json_text import Twice

MAX_DEPTH = 100
"""How deep a body may nest, as deep as protobuf's own parsers go."""

MOST_VIOLATIONS = 100

Path = tuple[Any, "str | int"] | None
"""The path of what it stands in, and the step from there: a member, "[key]" or an index. None is the body."""


def _entry(name: str) -> str:
    return f"[{name}]"


class Findings:
    """The violations of one body, of which at most MOST_VIOLATIONS are kept."""

    def __init__(self) -> None:
        self.violations: list[Violation] = []
        self.count = 0

    def add(self, path: Path, description: str) -> None:
        """Note one violation."""
        self.count += 1
        if self.count <= MOST_VIOLATIONS:
            self.violations.append(Violation(_text(path), description))

    def add_members(self, path: Path, wrong: Iterable[tuple[str, str]]) -> None:
        """Note what is wrong with members of one object."""
        for name, description in wrong:
            self.add((path, name), description)

    def is_object(self, value: Any, path: Path, depth: int, *, step: Callable[[str], str] = _entry) -> bool:
        """Whether a value can be a message or a map at this depth; notes why not, and members that are given twice.

        `step` leads to one of its members; they are entries of a map if it is not given.
        """
        if type(value) is Twice:
            self.add_members(path, ((step(name), "is given more than once") for name in value.names))
        elif type(value) is not dict:
            self.add(path, "must be an object")
            return False
        if depth >= MAX_DEPTH:
            self.add(path, "nests too deep")
            return False
        return True


def _text(path: Path) -> str:
    steps: list[str] = []
    while path is not None:
        path, step = path
        steps.append(f"[{step}]" if isinstance(step, int) else step if step.startswith("[") else f".{step}")
    return "".join(reversed(steps)).removeprefix(".") or "body"
