"""Conditional requests (RFC 9110, section 13) over `etag` fields (AIP-154).

A reply's `etag` is its entity tag. If-None-Match spares a client what it has; If-Match guards a change, by the field
that the upstream compares.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import grpc
from google.protobuf.descriptor import FieldDescriptor

from gateway.coding import CODINGS, Coding
from gateway.errors import JSON, HttpError, Violation, invalid
from gateway.fields import has_text, message_of
from gateway.routes import Route

ANY = "*"
FIELD = "etag"
"""Of a reply, of a request, or of the resource in a request."""
_TAG = re.compile(r'[\t ]*(W/)?"([\x21\x23-\x7e]*)"[\t ]*(?:,|$)')
_QUOTED = re.compile(r'(W/)?"([\x21\x23-\x7e]+)"')
_TEXT = re.compile(r"[\x21\x23-\x7e]+")
_SAFE = frozenset({"GET", "HEAD"})
# Tells the entity tags of one state in several forms and codings apart.
_MARK = "--"
_BINARY = "protobuf"
_MARKS = frozenset({*CODINGS, _BINARY, *(f"{_BINARY}-{name}" for name in CODINGS)})


def guard_of(route: Route) -> tuple[tuple[FieldDescriptor, ...], Callable[[Any], Any]] | None:
    """Where the upstream looks for the state that a change is guarded by: in the request, or in its resource.

    The way to that field, and what holds it.
    """
    if route.rule.http_method in _SAFE:
        return None
    request = route.method.input
    if has_text(request, FIELD):
        return (request.fields_by_name[FIELD],), lambda request: request
    body = route.rule.body
    found = [field for field in request.fields if body in ("*", field.name) and _holds_tag(field)]
    # Of several resources none is the one that is meant.
    if len(found) != 1:
        return None
    resource, name = found[0], found[0].name
    return (resource, message_of(resource).fields_by_name[FIELD]), lambda request: getattr(request, name)


def _holds_tag(field: FieldDescriptor) -> bool:
    return not field.is_repeated and field.message_type is not None and has_text(message_of(field), FIELD)


def tag_of(route: Route) -> Callable[[Any], str] | None:
    """How to read the `etag` of what is answered, if that has one."""
    name = route.rule.response_body
    if not name:
        return (lambda reply: str(reply.etag)) if has_text(route.method.output, FIELD) else None
    if not _holds_tag(route.method.output.fields_by_name[name]):
        return None
    return lambda reply: str(getattr(reply, name).etag)


def entity_tag(etag: str, content_type: bytes, coding: Coding | None) -> bytes:
    """The header of one representation of a state; empty when the field's text cannot be a tag."""
    own = _own(etag)
    if own is None:
        return b""
    weak, text = own
    if coding is None and content_type == JSON:
        return f'{weak}"{text}"'.encode()
    form = [_BINARY] if content_type.endswith(_BINARY.encode()) else []
    mark = "-".join([*form, *([coding.name] if coding is not None else [])])
    return f'{weak}"{text}{_MARK}{mark}"'.encode() if mark else f'{weak}"{text}"'.encode()


def has(if_none_match: str, etag: str) -> bool:
    """Whether the client has this state already. The comparison is weak, as it should be here."""
    own = _own(etag)
    if own is None:
        return False
    return if_none_match.strip() == ANY or any(text == own[1] for _, text in _tags("if-none-match", if_none_match))


def matches(if_match: str, etag: str) -> bool:
    """Whether the state is one that the client asks for."""
    own = _own(etag)
    # A weak tag matches nothing, not even itself.
    return if_match.strip() == ANY or (own is not None and not own[0] and own in _tags("if-match", if_match))


def guard(if_match: str) -> str:
    """The one `etag` that a change is to be compared with by the upstream; empty for `*`.

    Raises HttpError: 412 for a weak tag, which never matches, 400 for several.
    """
    if if_match.strip() == ANY:
        return ""
    tags = _tags("if-match", if_match)
    if len(tags) > 1:
        raise invalid([Violation("if-match", "must be one entity tag or *")], "BAD_HEADER")
    weak, text = tags[0]
    # An `etag` that is empty is none, so it is nobody's.
    if weak or not text:
        raise failed()
    return text


def failed() -> HttpError:
    """The state is not the one that the client asks for."""
    return HttpError(grpc.StatusCode.ABORTED, "ETAG_MISMATCH", "the resource is not as If-Match says", http_code=412)


def as_failed(error: HttpError) -> HttpError:
    """What an upstream said to a guarded request. HTTP has a code of its own for the ABORTED of AIP-154."""
    if error.status is grpc.StatusCode.ABORTED:
        error.code = 412
    return error


def _own(etag: str) -> tuple[str, str] | None:
    """The tag that a field's text stands for, with or without the quotes that AIP-154 would have in it."""
    quoted = _QUOTED.fullmatch(etag)
    if quoted is not None:
        return quoted[1] or "", quoted[2]
    return ("", etag) if _TEXT.fullmatch(etag) else None


def _tags(header: str, value: str) -> list[tuple[str, str]]:
    """The tags, weak ones marked, without what tells forms and codings apart."""
    tags, at = [], 0
    # Empty elements of a list are none.
    while (at := at + len(value[at:]) - len(value[at:].lstrip(" \t,"))) < len(value):
        found = _TAG.match(value, at)
        if found is None:
            raise invalid([Violation(header, 'must be entity tags such as "xyzzy", or *')], "BAD_HEADER")
        stem, mark, coding = found[2].rpartition(_MARK)
        tags.append((found[1] or "", stem if mark and coding in _MARKS else found[2]))
        at = found.end()
    if not tags:
        raise invalid([Violation(header, 'must be entity tags such as "xyzzy", or *')], "BAD_HEADER")
    return tags
