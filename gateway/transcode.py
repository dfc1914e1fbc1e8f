"""One route's way from an HTTP request to a request message, and from the reply to a response body.

What the path binds, what the body holds and what the query says are three disjoint parts of one message. A part that
repeats another must agree with it; what belongs to none is refused by name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import unquote_to_bytes

import grpc
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from gateway import codec
from gateway.codec import Codec
from gateway.decode import BadJsonError
from gateway.descriptors import message_class
from gateway.errors import JSON, HttpError, Violation, invalid
from gateway.fields import FIELD_MASK, HTTP_BODY, FieldPathError, message_of, resolve, takes_text
from gateway.routes import Route
from gateway.scalars import BadValueError
from gateway.streams import NDJSON, lines_of
from gateway.template import Variable

_KEY_FIELD = "request_id"
_MASK_FIELD = "update_mask"
_GUARD_FIELD = "etag"
_NO_BODY = object()
_LINES = frozenset({NDJSON.decode(), "application/jsonl"})

Setter = Callable[[Any, str], None]


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """What a request message is made of. `segments` and `query` are raw; an empty `content_type` means JSON."""

    segments: Sequence[str]
    query: bytes = b""
    content_type: str = ""
    body: bytes = b""
    idempotency_key: str = ""
    # Of many: which, and its JSON value if it is parsed already.
    where: str = ""
    value: Any = _NO_BODY


@dataclass(frozen=True, slots=True)
class _PathField:
    variable: Variable
    fields: tuple[FieldDescriptor, ...]
    set_text: Setter


class Transcoder:
    """Reads requests and writes replies of one route. Keeps no state between them."""

    def __init__(self, route: Route, messages: Codec) -> None:
        rule, method = route.rule, route.method
        self._route = route
        self._messages = messages
        self._new = message_class(method.input)
        self._path = [_path_field(route, variable, messages) for variable in route.template.variables]
        self._bound = {field.variable.path for field in self._path}
        self._raw_body = _raw_body(route)
        self._body_field = method.input.fields_by_name.get(rule.body) if rule.body not in ("", "*") else None
        self._key = _has_key(route)
        self._mask = _derives_mask(route)
        self._answers_raw = _answers_raw(route)
        self._write = _writer(route, messages)

    @property
    def answers_raw(self) -> bool:
        """Whether replies are passed on as they are, which is what google.api.HttpBody is for."""
        return self._answers_raw

    @property
    def takes_body(self) -> bool:
        """Whether the route reads a body at all."""
        return bool(self._route.rule.body)

    def read(self, request: HttpRequest) -> Message:
        """The request message. Raises HttpError: 415, or INVALID_ARGUMENT with every field that is wrong."""
        message = self._new()
        violations: list[Violation] = []
        members = self._read_body(request, message, violations)
        self._read_path(request.segments, message, violations)
        if request.query:
            self._read_query(request.query, message, violations)
        if request.idempotency_key and self._key:
            _set_key(message, request.idempotency_key, violations)
        if violations:
            raise invalid([_within(request, violation) for violation in violations])
        if self._mask:
            self._derive_mask(members, message)
        return message

    def read_many(self, request: HttpRequest) -> list[Message]:
        """The request messages of a method that takes many: of the lines of NDJSON, or of an array's elements.

        Path and query are part of each. Raises HttpError as `read`, naming which of them is wrong.
        """
        if _kind(request.content_type) in _LINES:
            numbered = enumerate(lines_of(request.body))
            return [
                self.read(replace(request, content_type="", body=line, where=f"[{number}]"))
                for number, line in numbered
            ]
        _check_json(request.content_type)
        values = _parsed(request) if request.body else []
        if not isinstance(values, list):
            raise invalid([Violation("body", "must be an array of messages, or lines of application/x-ndjson")])
        return [self.read(replace(request, value=value, where=f"[{number}]")) for number, value in enumerate(values)]

    def write(self, reply: Message) -> tuple[bytes, bytes]:
        """The content type and the bytes of a response body."""
        return self._write(reply)

    def _read_body(self, request: HttpRequest, message: Any, violations: list[Violation]) -> Any:
        """Fill in the body; answer its JSON value."""
        if not self.takes_body:
            return _NO_BODY
        if self._raw_body is not None:
            target = self._raw_body(message)
            target.content_type, target.data = request.content_type, request.body
            return _NO_BODY
        value = request.value
        if value is _NO_BODY:
            if not request.body:
                return _NO_BODY
            _check_json(request.content_type)
            value = _parsed(request)
        if self._body_field is None:
            violations += self._messages.reader.read(value, message)
        else:
            violations += self._messages.reader.read_field(value, message, self._body_field)
        return value

    def _read_path(self, segments: Sequence[str], message: Any, violations: list[Violation]) -> None:
        for bound in self._path:
            parent = message
            for field in bound.fields[:-1]:
                parent = getattr(parent, field.name)
            name = bound.fields[-1].name
            given = getattr(parent, name) if self.takes_body and parent.ByteSize() else None
            try:
                bound.set_text(parent, bound.variable.value(segments))
            except (BadValueError, UnicodeDecodeError) as error:
                violations.append(Violation(bound.variable.path, _say(error)))
                continue
            if given and given != getattr(parent, name):
                violations.append(Violation(bound.variable.path, "differs between the path and the body"))

    def _read_query(self, query: bytes, message: Any, violations: list[Violation]) -> None:
        seen: set[str] = set()
        for name, text in _pairs(query, violations):
            try:
                fields = self._query_field(name)
                path = ".".join(field.name for field in fields)
                if path in seen and not fields[-1].is_repeated:
                    violations.append(Violation(path, "is given more than once"))
                    continue
                seen.add(path)
                parent = message
                for field in fields[:-1]:
                    parent = getattr(parent, field.name)
                self._messages.text_setter(fields[-1])(parent, text)
            except (BadValueError, FieldPathError) as error:
                violations.append(Violation(name, str(error)))

    def _query_field(self, name: str) -> tuple[FieldDescriptor, ...]:
        rule = self._route.rule
        try:
            fields = resolve(self._route.method.input, name)
        except FieldPathError as error:
            raise FieldPathError("is not a parameter of this method") from error
        path = ".".join(field.name for field in fields)
        if rule.body == "*" or path in self._bound or (rule.body and fields[0].name == rule.body):
            raise FieldPathError("is not a parameter of this method: the path or the body holds it")
        if not takes_text(fields[-1]):
            raise FieldPathError("cannot be given as a parameter")
        return fields

    def _derive_mask(self, members: Any, message: Any) -> None:
        """Without a mask, what the body names is what changes; the name of the resource and its guard are no change."""
        body = self._body_field
        if body is None or not isinstance(members, dict) or message.update_mask.paths:
            return
        fields = message_of(body).fields
        names = {field.json_name: field.name for field in fields} | {field.name: field.name for field in fields}
        fixed = {path.removeprefix(f"{body.name}.") for path in self._bound} | {_GUARD_FIELD}
        message.update_mask.paths.extend(names[member] for member in members if names[member] not in fixed)


def _path_field(route: Route, variable: Variable, messages: Codec) -> _PathField:
    fields = resolve(route.method.input, variable.path)
    return _PathField(variable=variable, fields=fields, set_text=messages.text_setter(fields[-1]))


def _raw_body(route: Route) -> Callable[[Any], Any] | None:
    """Where a body goes that is taken as it comes, or None if it is JSON."""
    body, message = route.rule.body, route.method.input
    if body == "*" and message.full_name == HTTP_BODY:
        return lambda request: request
    field = message.fields_by_name.get(body)
    if field is not None and field.message_type is not None and field.message_type.full_name == HTTP_BODY:
        return lambda request: getattr(request, body)
    return None


def _has_key(route: Route) -> bool:
    field = route.method.input.fields_by_name.get(_KEY_FIELD)
    return field is not None and field.type == FieldDescriptor.TYPE_STRING and not field.is_repeated


def _derives_mask(route: Route) -> bool:
    field = route.method.input.fields_by_name.get(_MASK_FIELD)
    is_mask = field is not None and field.message_type is not None and field.message_type.full_name == FIELD_MASK
    return is_mask and route.rule.http_method == "PATCH" and route.rule.body not in ("", "*")


def _answers_raw(route: Route) -> bool:
    field = route.method.output.fields_by_name.get(route.rule.response_body)
    kind = route.method.output if field is None else field.message_type
    return kind is not None and kind.full_name == HTTP_BODY and not (field is not None and field.is_repeated)


def _writer(route: Route, messages: Codec) -> Callable[[Any], tuple[bytes, bytes]]:
    output, name = route.method.output, route.rule.response_body
    field = output.fields_by_name.get(name)
    if _answers_raw(route):
        return lambda reply: _raw(reply if field is None else getattr(reply, name))
    to_text = messages.writer.text if field is None else messages.writer.field(field)
    return lambda reply: (JSON, to_text(reply))


def _raw(body: Any) -> tuple[bytes, bytes]:
    content_type = body.content_type if body.content_type.isprintable() and body.content_type.isascii() else ""
    return content_type.encode() or b"application/octet-stream", body.data


def _parsed(request: HttpRequest) -> Any:
    try:
        return codec.parse(request.body)
    except BadJsonError as error:
        wrong = _within(request, Violation(error.field or "body", str(error)))
        raise invalid([wrong], "MALFORMED_JSON") from error


def _within(request: HttpRequest, violation: Violation) -> Violation:
    return replace(violation, field=f"{request.where}.{violation.field}") if request.where else violation


def _kind(content_type: str) -> str:
    return content_type.partition(";")[0].strip().lower()


def _check_json(content_type: str) -> None:
    kind = _kind(content_type)
    parameters = content_type.lower().partition(";")[2]
    charset = parameters.partition("charset=")[2].strip(' "')
    if charset not in ("", "utf-8", "utf8") or not (
        kind in ("", "application/json") or (kind.startswith("application/") and kind.endswith("+json"))
    ):
        raise HttpError(
            grpc.StatusCode.INVALID_ARGUMENT,
            "UNSUPPORTED_MEDIA_TYPE",
            "the body must be application/json in UTF-8",
            http_code=415,
            headers=[(b"accept", JSON)],
        )


def _pairs(query: bytes, violations: list[Violation]) -> Iterable[tuple[str, str]]:
    for part in query.replace(b"+", b" ").split(b"&"):
        if not part:
            continue
        name, _, text = part.partition(b"=")
        try:
            yield unquote_to_bytes(name).decode(), unquote_to_bytes(text).decode()
        except UnicodeDecodeError as error:
            violations.append(Violation("query", _say(error)))


def _set_key(message: Any, key: str, violations: list[Violation]) -> None:
    given = message.request_id
    if given and given != key:
        violations.append(Violation(_KEY_FIELD, "differs from the header Idempotency-Key"))
    else:
        message.request_id = key


def _say(error: Exception) -> str:
    return "is not percent-encoded UTF-8" if isinstance(error, UnicodeDecodeError) else str(error)
