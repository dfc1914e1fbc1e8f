"""What is wrong in one body, and where.

A path is told only where something is wrong, so readers hand down a chain of steps and not a text.
"""

from __future__ import annotations

from typing import Any

from gateway.errors import Violation

MAX_DEPTH = 100
"""How deep a body may nest, as deep as protobuf's own parsers go."""

MOST_VIOLATIONS = 100

Path = tuple[Any, "str | int"] | None
"""The path of what it stands in, and the step from there: a member, "[key]" or an index. None is the body."""


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

    def is_object(self, value: Any, path: Path, depth: int) -> bool:
        """Whether a value can be a message or a map at this depth; notes why not."""
        if type(value) is not dict:
            self.add(path, "must be an object")
        elif depth >= MAX_DEPTH:
            self.add(path, "nests too deep")
        else:
            return True
        return False


def _text(path: Path) -> str:
    steps: list[str] = []
    while path is not None:
        path, step = path
        steps.append(f"[{step}]" if isinstance(step, int) else step if step.startswith("[") else f".{step}")
    return "".join(reversed(steps)).removeprefix(".") or "body"
