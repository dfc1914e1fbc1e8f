"""What the query of a request says: parameters that name fields of its message, or entries of its maps."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any
from urllib.parse import unquote_to_bytes

from google.protobuf.descriptor import FieldDescriptor

from gateway.codec import Codec
from gateway.descriptors import message_class
from gateway.errors import Violation
from gateway.fields import FieldPathError, is_map, message_of, resolve, takes_entries, takes_text
from gateway.routes import Route
from gateway.scalars import BadValueError

NOT_UTF_8 = "is not percent-encoded UTF-8"
# A parameter that names an entry of a map.
_ENTRY = re.compile(r"([^\[\]]+)\[([^\[\]]*)\]")


class Parameters:
    """Those of one route. Keeps no state between requests."""

    def __init__(self, route: Route, messages: Codec) -> None:
        self._input = route.method.input
        self._body = route.rule.body
        self._bound = {variable.path for variable in route.template.variables}
        self._messages = messages

    def read(self, query: bytes, message: Any, violations: list[Violation]) -> None:
        """Set what the query says, and add what is wrong with it to the violations."""
        seen: set[str] = set()
        chosen: dict[tuple[str, str], str] = {}
        for name, text in _pairs(query, violations):
            entry = _ENTRY.fullmatch(name)
            try:
                fields = self._field_of(entry[1] if entry else name, is_entry=entry is not None)
            except FieldPathError as error:
                violations.append(Violation(name, str(error)))
                continue
            told = self._messages.form.path(fields) + (f"[{entry[2]}]" if entry else "")
            if told in seen and (entry is not None or not fields[-1].is_repeated):
                violations.append(Violation(told, "is given more than once"))
                continue
            seen.add(told)
            rival = _rival(fields, told, chosen)
            if rival:
                violations.append(Violation(told, f"is given beside {rival}, and only one of them may be"))
                continue
            try:
                self._set(message, fields, entry[2] if entry else None, text)
            except BadValueError as error:
                violations.append(Violation(told, str(error)))

    def _set(self, message: Any, fields: Sequence[FieldDescriptor], key: str | None, text: str) -> None:
        """Set the last of these fields, each in the one before it, or the entry of that key in it."""
        for field in fields[:-1]:
            message = getattr(message, field.name)
        if key is None:
            self._messages.text_setter(fields[-1])(message, text)
        else:
            self._set_entry(message, fields[-1], key, text)

    def _set_entry(self, parent: Any, field: FieldDescriptor, key: str, text: str) -> None:
        """Set one entry of a map."""
        kind = message_of(field)
        of_key, of_value = kind.fields_by_name["key"], kind.fields_by_name["value"]
        entry: Any = message_class(kind)()
        self._messages.text_setter(of_key)(entry, key)
        self._messages.text_setter(of_value)(entry, text)
        items = getattr(parent, field.name)
        if of_value.message_type is None:
            items[entry.key] = entry.value
        else:
            items[entry.key].CopyFrom(entry.value)

    def _field_of(self, name: str, *, is_entry: bool) -> tuple[FieldDescriptor, ...]:
        try:
            fields = resolve(self._input, name)
        except FieldPathError as error:
            raise FieldPathError("is not a parameter of this method") from error
        path = ".".join(field.name for field in fields)
        if self._body == "*" or path in self._bound or (self._body and fields[0].name == self._body):
            raise FieldPathError("is not a parameter of this method: the path or the body holds it")
        last = fields[-1]
        if is_map(last) != is_entry:
            raise FieldPathError("is a map: give its entries, each as name[key]" if is_map(last) else "is no map")
        if not (takes_entries(last) if is_entry else takes_text(last)):
            raise FieldPathError("cannot be given as a parameter")
        return fields


def _rival(fields: Sequence[FieldDescriptor], path: str, chosen: dict[tuple[str, str], str]) -> str:
    """The path of what was chosen already in the oneof of the last of these fields; this one, from now on, if nothing.

    Empty if there is no rival.
    """
    oneof = fields[-1].containing_oneof
    if oneof is None:
        return ""
    standing = chosen.setdefault((path.rpartition(".")[0], oneof.name), path)
    return "" if standing == path else standing


def _pairs(query: bytes, violations: list[Violation]) -> Iterable[tuple[str, str]]:
    for part in query.replace(b"+", b" ").split(b"&"):
        if not part:
            continue
        name, _, text = part.partition(b"=")
        try:
            yield unquote_to_bytes(name).decode(), unquote_to_bytes(text).decode()
        except UnicodeDecodeError:
            violations.append(Violation("query", NOT_UTF_8))
