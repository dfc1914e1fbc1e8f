"""JSON <-> message, and the text of a URL -> message: the one door to the readers and writers.

What stands behind it may change; what it promises may not: see decode.py, encode.py and scalars.py.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from google.protobuf import descriptor_pool
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from gateway import scalars
from gateway.decode import JsonReader, parse
from gateway.encode import DEFAULT_FORM, JsonForm, JsonWriter
from gateway.fields import FIELD_MASK, WRAPPERS, message_of
from gateway.texts import read_paths

__all__ = ["Codec", "JsonForm", "parse"]

Setter = Callable[[Any, str], None]


class Codec:
    """Reads and writes messages of one pool."""

    def __init__(self, pool: descriptor_pool.DescriptorPool, form: JsonForm = DEFAULT_FORM) -> None:
        self.form = form
        self.reader = JsonReader(pool, form)
        self.writer = JsonWriter(pool, form)
        self._setters: dict[FieldDescriptor, Setter] = {}

    def text_setter(self, field: FieldDescriptor) -> Setter:
        """A function (parent message, text) that sets or, if repeated, extends a field which a URL can carry.

        It raises BadValueError.
        """
        setter = self._setters.get(field)
        if setter is None:
            setter = self._setters[field] = self._setter(field)
        return setter

    def _setter(self, field: FieldDescriptor) -> Setter:
        if field.message_type is not None:
            return self._message_setter(field)
        name, convert = field.name, scalars.from_text(field)
        if field.is_repeated:
            return lambda message, text: getattr(message, name).append(convert(text))
        return lambda message, text: setattr(message, name, convert(text))

    def _message_setter(self, field: FieldDescriptor) -> Setter:
        name, fill = field.name, self._filler(field)

        def set_(message: Any, text: str) -> None:
            slot = getattr(message, name)
            target = slot.add() if field.is_repeated else slot
            if not field.is_repeated:
                target.SetInParent()
            fill(target, text)

        return set_

    def _filler(self, field: FieldDescriptor) -> Setter:
        kind = message_of(field)
        if kind.full_name in WRAPPERS:
            convert = scalars.from_text(kind.fields_by_name["value"])
            return lambda message, text: setattr(message, "value", convert(text))
        if kind.full_name == FIELD_MASK:
            return lambda message, text: message.paths.extend(read_paths(text))
        return self._from_json_text

    def _from_json_text(self, message: Message, text: str) -> None:
        violations = self.reader.read(text, message)
        if violations:
            raise scalars.BadValueError(violations[0].description)
