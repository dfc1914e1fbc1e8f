"""The comments of protos, by full name, from the source info of their files."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

_FILE = {4: "message_type", 5: "enum_type", 6: "service"}
_MESSAGE = {2: "field", 3: "nested_type", 4: "enum_type"}
_MEMBERS = {"message_type": _MESSAGE, "nested_type": _MESSAGE, "enum_type": {2: "value"}, "service": {2: "method"}}


def comments(files: Iterable[Any]) -> Mapping[str, str]:
    """Leading comments of messages, fields, enums, values, services and methods: full name -> text.

    A value of an enum is named below its enum, `pkg.Enum.VALUE`. Empty for a set without source info.
    """
    found = {}
    for file in files:
        for location in file.source_code_info.location:
            text = location.leading_comments.strip()
            name = _name(file, location.path) if text else None
            if name is not None:
                found[name] = _unwrap(text)
    return found


def _name(file: Any, path: Iterable[int]) -> str | None:
    """The full name of what a path of (field number, index) pairs leads to; None for what has none."""
    steps = list(path)
    if not steps or len(steps) % 2:
        return None
    parent, kinds, names = file, _FILE, [file.package] if file.package else []
    for number, index in zip(steps[::2], steps[1::2], strict=True):
        kind = kinds.get(number)
        if kind is None:
            return None
        parent = getattr(parent, kind)[index]
        names.append(parent.name)
        kinds = _MEMBERS.get(kind, {})
    return ".".join(names)


def _unwrap(text: str) -> str:
    """One line per paragraph, without the comment's indentation."""
    paragraphs = "\n".join(line.strip() for line in text.splitlines()).split("\n\n")
    return "\n\n".join(" ".join(paragraph.split("\n")) for paragraph in paragraphs)
