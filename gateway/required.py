"""Fields that proto2 requires: a message that lacks one cannot be sent, and no reader looks for it."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import Any, cast

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

from gateway.encode import JsonForm
from gateway.fields import is_map, is_repeated, message_of, reaches
from gateway.findings import Findings, Path


@lru_cache(maxsize=4096)
def may_lack(message: Descriptor) -> bool:
    """Whether a message of this type can lack a required field, of its own or of one that it holds."""
    # Extensions are not among the fields, and may require some.
    return reaches(message, lambda kind: kind.is_extendable or any(field.is_required for field in kind.fields))


def find_missing(message: Message, path: Path, form: JsonForm, found: Findings) -> None:
    """Note each required field that a message lacks; `path` is the way to it."""
    descriptor = cast("Descriptor", message.DESCRIPTOR)
    if not may_lack(descriptor) or message.IsInitialized():
        return
    for field in descriptor.fields:
        if field.is_required and not message.HasField(field.name):
            found.add((path, form.member(field)), "is missing")
    for field, value in message.ListFields():
        for where, held in _held(field, value, (path, form.member(field))):
            find_missing(held, where, form, found)


def _held(field: FieldDescriptor, value: Any, path: Path) -> Iterator[tuple[Path, Message]]:
    """The messages that a field holds, and the way to each."""
    if field.message_type is None:
        return
    if is_map(field):
        if message_of(field).fields_by_name["value"].message_type is not None:
            for key, one in value.items():
                yield (path, f"[{str(key).lower() if isinstance(key, bool) else key}]"), one
    elif is_repeated(field):
        yield from (((path, index), one) for index, one in enumerate(value))
    else:
        yield path, value
