"""One route's way from an HTTP request to a request message, and from the reply to a response body.

What the path binds, what the body holds and what the query says are three disjoint parts of one message. A part that
repeats another must agree with it; what belongs to none is refused by name.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import grpc
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import DecodeError, Message

from gateway import codec, conditions
from gateway.accept import weighed
from gateway.codec import Codec, JsonForm
from gateway.decode import BadJsonError, GivenTwiceError
from gateway.descriptors import message_class
from gateway.errors import JSON, HttpError, Violation, invalid
from gateway.fields import FIELD_MASK, HTTP_BODY, has_text, message_of, resolve
from gateway.findings import Findings
from gateway.query import NOT_UTF_8, Parameters
from gateway.required import find_missing, may_lack
from gateway.routes import Route
from gateway.scalars import BadValueError
from gateway.splitting import Array, Bytes, Lines, Splitter
from gateway.streams import NDJSON
from gateway.template import Variable

_KEY_FIELD = "request_id"
_MASK_FIELD = "update_mask"
PROTOBUF = b"application/x-protobuf"
_PROTOBUF = frozenset({PROTOBUF.decode(), "application/protobuf", "application/vnd.google.protobuf"})
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
    # The `etag` that the resource must have for the request to be fulfilled; empty for any.
    guard: str | None = None
    # Which of many.
    where: str = ""


@dataclass(frozen=True, slots=True)
class _PathField:
    variable: Variable
    fields: tuple[FieldDescriptor, ...]
    # What violations call it.
    told: str
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
        self._parameters = Parameters(route, messages)
        self._raw_body = _raw_body(route)
        self._body_field = method.input.fields_by_name.get(rule.body) if rule.body not in ("", "*") else None
        self._key = _key_of(route, messages.form)
        self._mask = derives_mask(route)
        self._may_lack = may_lack(method.input)
        self._guard = conditions.guard_of(route)
        self._tag = conditions.tag_of(route)
        self._answers_raw = _answers_raw(route)
        self._write = _writer(route, messages)
        self._write_binary = _binary_writer(route)

    @property
    def answers_raw(self) -> bool:
        """Whether replies are passed on as they are, which is what google.api.HttpBody is for."""
        return self._answers_raw

    @property
    def takes_body(self) -> bool:
        """Whether the route reads a body at all."""
        return bool(self._route.rule.body)

    def tag(self, reply: Any) -> str:
        """The `etag` of a reply, empty if it has none."""
        return self._tag(reply) if self._tag is not None else ""

    def retold(self, path: str) -> str:
        """What JSON calls a field of the request that an upstream names by the proto's names."""
        return self._messages.form.retold(self._route.method.input, path)

    def read(self, request: HttpRequest, *, is_whole: bool = True) -> Message:
        """The request message. Raises HttpError: 415, or INVALID_ARGUMENT with every field that is wrong.

        If it `is_whole`, and nothing is wrong, that is every field which proto2 requires and which is missing.
        """
        message = self._new()
        violations: list[Violation] = []
        members = self._read_body(request, message, violations)
        self._read_path(request.segments, message, violations)
        if request.query:
            self._parameters.read(request.query, message, violations)
        if request.idempotency_key and self._key:
            _set_key(message, request.idempotency_key, self._key, violations)
        if request.guard is not None:
            self._set_guard(message, request.guard, violations)
        if violations:
            raise _refusal(request, violations)
        if self._mask:
            self._derive_mask(members, message)
        if self._may_lack and is_whole:
            # Only now, since what is wrong is not in the message, and yet not missing.
            found = Findings()
            find_missing(message, None, self._messages.form, found)
            if found.violations:
                raise _refusal(request, found.violations)
        return message

    def splitter(self, content_type: str, *, max_bytes: int) -> Splitter:
        """What takes the body of a method that takes many messages apart, each of at most so many bytes.

        Raises HttpError 415.
        """
        if self._raw_body is not None:
            return Bytes(max_bytes)
        if _kind(content_type) in _LINES:
            return Lines(max_bytes)
        _check_json(content_type, JSON, NDJSON)
        return Array(max_bytes)

    def read_one(self, request: HttpRequest, text: bytes, number: int) -> Message:
        """One of many request messages. Path and query are part of each. Raises HttpError as `read` does."""
        if self._raw_body is not None:
            return self.read(replace(request, body=text))
        return self.read(replace(request, content_type="", body=text, where=f"[{number}]"))

    def write(self, reply: Message, *, accept: str = "") -> tuple[bytes, bytes]:
        """The content type and the bytes of a response body: JSON, unless the client prefers protobuf's own form."""
        if "protobuf" in accept and self._write_binary is not None and _prefers_binary(accept):
            return PROTOBUF, self._write_binary(reply)
        return self._write(reply)

    def _read_body(self, request: HttpRequest, message: Any, violations: list[Violation]) -> Any:
        """Fill in the body; answer its JSON value, or as much of one as shows which members it has."""
        if not self.takes_body:
            return _NO_BODY
        if self._raw_body is not None:
            target = self._raw_body(message)
            target.content_type, target.data = request.content_type, request.body
            return _NO_BODY
        if not request.body:
            return _NO_BODY
        if _kind(request.content_type) in _PROTOBUF:
            return self._read_binary(request, message)
        _check_json(request.content_type, JSON, PROTOBUF)
        value = _parsed(request)
        if self._body_field is None:
            violations += self._messages.reader.read(value, message)
        else:
            violations += self._messages.reader.read_field(value, message, self._body_field)
        return value

    def _read_binary(self, request: HttpRequest, message: Any) -> Any:
        target = message if self._body_field is None else getattr(message, self._body_field.name)
        if not isinstance(target, Message):
            raise _unsupported(JSON)
        try:
            target.MergeFromString(request.body)
        except DecodeError as error:
            wrong = Violation("body", f"is not a {target.DESCRIPTOR.full_name} in protobuf's binary form")
            raise invalid([wrong], "MALFORMED_PROTOBUF") from error
        target.SetInParent()
        return {field.name: _NO_BODY for field, _ in target.ListFields()}

    def _read_path(self, segments: Sequence[str], message: Any, violations: list[Violation]) -> None:
        for bound in self._path:
            parent = message
            for field in bound.fields[:-1]:
                parent = getattr(parent, field.name)
            last = bound.fields[-1]
            name = last.name
            # What is not set may have a default of its own.
            is_given = self.takes_body and (not last.has_presence or parent.HasField(name))
            given = getattr(parent, name) if is_given else None
            try:
                bound.set_text(parent, bound.variable.value(segments))
            except (BadValueError, UnicodeDecodeError) as error:
                violations.append(Violation(bound.told, _say(error)))
                continue
            if given and given != getattr(parent, name):
                violations.append(Violation(bound.told, "differs between the path and the body"))

    def _set_guard(self, message: Any, guard: str, violations: list[Violation]) -> None:
        """Put the state that the client relies on where the upstream looks for it."""
        if self._guard is None:
            violations.append(Violation("if-match", "this method compares no etag"))
            return
        if not guard:
            return
        fields, of_resource = self._guard
        target = of_resource(message)
        if target.etag not in ("", guard):
            told = self._messages.form.path(fields)
            violations.append(Violation(told, "differs from the header If-Match"))
        else:
            target.etag = guard

    def _derive_mask(self, members: Any, message: Any) -> None:
        """Without a mask, what the body names is what changes; the name of the resource and its guard are no change."""
        body = self._body_field
        if body is None or not isinstance(members, dict) or message.update_mask.paths:
            return
        fields = message_of(body).fields
        names = {field.json_name: field.name for field in fields} | {field.name: field.name for field in fields}
        fixed = {path.removeprefix(f"{body.name}.") for path in self._bound} | {conditions.FIELD}
        message.update_mask.paths.extend(names[member] for member in members if names[member] not in fixed)


def derives_mask(route: Route) -> bool:
    """Whether a request without a mask changes what its body names."""
    field = route.method.input.fields_by_name.get(_MASK_FIELD)
    is_mask = field is not None and field.message_type is not None and field.message_type.full_name == FIELD_MASK
    return is_mask and route.rule.http_method == "PATCH" and route.rule.body not in ("", "*")


def _path_field(route: Route, variable: Variable, messages: Codec) -> _PathField:
    fields = resolve(route.method.input, variable.path)
    told = messages.form.path(fields)
    return _PathField(variable=variable, fields=fields, told=told, set_text=messages.text_setter(fields[-1]))


def _raw_body(route: Route) -> Callable[[Any], Any] | None:
    """Where a body goes that is taken as it comes, or None if it is JSON."""
    body, message = route.rule.body, route.method.input
    if body == "*" and message.full_name == HTTP_BODY:
        return lambda request: request
    field = message.fields_by_name.get(body)
    if field is not None and field.message_type is not None and field.message_type.full_name == HTTP_BODY:
        return lambda request: getattr(request, body)
    return None


def _key_of(route: Route, form: JsonForm) -> str:
    """What violations call the field that an idempotency key fills; empty without one."""
    request = route.method.input
    return form.member(request.fields_by_name[_KEY_FIELD]) if has_text(request, _KEY_FIELD) else ""


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


def _binary_writer(route: Route) -> Callable[[Any], bytes] | None:
    """How a reply is written in protobuf's own form; None where no message is answered, or bytes as they are."""
    name = route.rule.response_body
    if _answers_raw(route):
        return None
    if not name:
        return lambda reply: bytes(reply.SerializeToString())
    field = route.method.output.fields_by_name[name]
    if field.is_repeated or field.message_type is None:
        return None
    return lambda reply: bytes(getattr(reply, name).SerializeToString())


def _prefers_binary(accept: str) -> bool:
    """Whether protobuf is liked better than JSON, or as much and named before it."""
    best, is_binary = 0.0, False
    for name, weight in weighed(accept):
        if weight > best and (name in _PROTOBUF or name in ("application/json", "application/*", "*/*")):
            best, is_binary = weight, name in _PROTOBUF
    return is_binary


def _raw(body: Any) -> tuple[bytes, bytes]:
    content_type = body.content_type if body.content_type.isprintable() and body.content_type.isascii() else ""
    return content_type.encode() or b"application/octet-stream", body.data


def _parsed(request: HttpRequest) -> Any:
    try:
        return codec.parse(request.body)
    except GivenTwiceError as error:
        # The reader names them, with the way to each.
        return error.value
    except BadJsonError as error:
        wrong = _within(request, Violation(error.field or "body", str(error)))
        raise invalid([wrong], "MALFORMED_JSON") from error


def _refusal(request: HttpRequest, violations: Sequence[Violation]) -> HttpError:
    return invalid([_within(request, violation) for violation in violations])


def _within(request: HttpRequest, violation: Violation) -> Violation:
    return replace(violation, field=f"{request.where}.{violation.field}") if request.where else violation


def _kind(content_type: str) -> str:
    return content_type.partition(";")[0].strip().lower()


def _check_json(content_type: str, *supported: bytes) -> None:
    kind = _kind(content_type)
    parameters = (one.strip() for one in content_type.lower().split(";")[1:])
    charsets = {one.partition("=")[2].strip(' "') for one in parameters if one.startswith("charset=")}
    if not charsets <= {"utf-8", "utf8"} or not (
        kind in ("", "application/json") or (kind.startswith("application/") and kind.endswith("+json"))
    ):
        raise _unsupported(*supported)


def _unsupported(*supported: bytes) -> HttpError:
    return HttpError(
        grpc.StatusCode.INVALID_ARGUMENT,
        "UNSUPPORTED_MEDIA_TYPE",
        "the body must be application/json in UTF-8",
        http_code=415,
        headers=[(b"accept", b", ".join(supported))],
    )


def _set_key(message: Any, key: str, told: str, violations: list[Violation]) -> None:
    given = message.request_id
    if given and given != key:
        violations.append(Violation(told, "differs from the header Idempotency-Key"))
    else:
        message.request_id = key


def _say(error: Exception) -> str:
    return NOT_UTF_8 if isinstance(error, UnicodeDecodeError) else str(error)
