"""What a case of the table is, and the reading of table/*.yaml.

A file is a list of sections. A section has `cases`, and beside them whatever its cases have in common; what a case says
goes before what its section does. In a body, `!hex 00ff` are bytes, `!repeat [text, times]` is a long text, `!join
[...]` puts such together, and `!gzip text` compresses.
"""

from __future__ import annotations

import gzip
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

TABLE = Path(__file__).parent / "table"


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One request, and what the specification says of its answer."""

    id: str
    source: str
    """Which specification says so, and where."""
    request: str
    """The method and the target, as they go over the wire."""
    headers: Mapping[str, str | Sequence[str]] = field(default_factory=dict)
    body: str | bytes = b""
    """Of the type application/json, unless `headers` tell another; "" there is none."""
    chunked: bool = False
    form: str = "usual"
    """Which gateway is asked: see FORMS in test_table.py."""

    replies: Sequence[str] | None = None
    """What upstream answers, in protobuf's text format; without it, what came."""
    fails: Mapping[str, Any] = field(default_factory=dict)
    hangs: bool = False

    rpc: str = ""
    """Which method upstream was called."""
    sees: Any = None
    """The request message in JSON, only with what is set; a list of a stream's."""
    metadata: Mapping[str, str | None] = field(default_factory=dict)
    """What of metadata came; null for what did not. `left_s`: at most so many seconds were left."""
    left_s: float | None = None

    status: int = 200
    answer_headers: Mapping[str, str | None] = field(default_factory=dict)
    """null for one that is not there."""
    allow: Sequence[str] | None = None
    """The methods that the header Allow lists, in any order."""
    json: Any = field(default=...)
    """The whole body."""
    has: Any = field(default=...)
    """A part of it: members may be missing here, elements of lists may not."""
    without: Sequence[str] = ()
    """Members that are not there."""
    text: str | None = None
    lacks: Sequence[str] = ()
    """Texts that stand nowhere in the body."""
    content: bytes | None = None
    lines: Sequence[Any] | None = None
    """NDJSON; each line as by `has`. So are the next two."""
    events: Sequence[Any] | None = None
    """Server-sent events as objects of their fields, `data` as JSON."""
    unclosed: Sequence[Any] | None = None
    """The elements of an array that has no end."""
    broken: bool = False
    """The connection breaks off in the answer."""
    error: Mapping[str, Any] = field(default_factory=dict)
    """A part of the error, by AIP-193; its form is looked at wherever a status is 400 or more."""
    reason: str = ""
    """Of the ErrorInfo."""
    violations: Sequence[str] | None = None
    """The fields that the BadRequest names, in any order."""

    deviates: str = ""
    """Why the gateway does not hold to this yet."""

    @property
    def method(self) -> str:
        """Of HTTP."""
        return self.request.split(" ", 1)[0]

    @property
    def target(self) -> str:
        """Path and query, or whatever stands there."""
        return self.request.split(" ", 1)[1]


def load() -> list[Case]:
    """All cases of all files. Raises TypeError for a key that no case has, ValueError for an id that stands twice."""
    cases = [case for file in sorted(TABLE.glob("*.yaml")) for case in _cases(file)]
    ids = [case.id for case in cases]
    twice = sorted({one for one in ids if ids.count(one) > 1})
    if twice:
        raise ValueError(f"ids that stand twice: {', '.join(twice)}")
    return cases


def _cases(file: Path) -> Iterator[Case]:
    for section in yaml.load(file.read_text(), _Loader):  # noqa: S506 - it extends the safe one
        common = {name: value for name, value in section.items() if name != "cases"}
        for own in section["cases"]:
            yield Case(**(common | own | {"id": f"{file.stem}-{own['id']}"}))


class _Loader(yaml.CSafeLoader):
    """The safe one, and the tags of bodies."""


def _tag(name: str, make: Callable[[Any], Any]) -> None:
    def construct(loader: Any, node: yaml.Node) -> Any:
        if isinstance(node, yaml.SequenceNode):
            return make(loader.construct_sequence(node, deep=True))
        return make(loader.construct_scalar(node))

    _Loader.add_constructor(name, construct)


def _joined(parts: Sequence[str | bytes]) -> bytes:
    return b"".join(part.encode() if isinstance(part, str) else part for part in parts)


_tag("!hex", bytes.fromhex)
_tag("!repeat", lambda pair: pair[0] * pair[1])
_tag("!join", _joined)
_tag("!gzip", lambda parts: gzip.compress(_joined(parts if isinstance(parts, list) else [parts]), mtime=0))
