"""A good answer as the client wants to have it."""

from __future__ import annotations

from gateway import coding, conditions
from gateway.head import Head

OK = 200
NOT_MODIFIED = 304
SAFE = frozenset({"GET", "HEAD"})
"""The methods that only read."""


def presented(
    method: str, head: Head, content_type: bytes, data: bytes, etag: str
) -> tuple[int, list[tuple[bytes, bytes]], bytes]:
    """An answer compressed, or not at all if the client has it already. Raises HttpError (412) where If-Match fails."""
    headers = [(b"content-type", content_type)]
    used = None
    if len(data) >= coding.LEAST_BYTES and coding.is_compressible(content_type):
        headers.append((b"vary", b"accept-encoding"))
        used = coding.choose(head.accept_encoding) if head.accept_encoding else None
    tag = conditions.entity_tag(etag, content_type, used)
    if tag:
        headers.append((b"etag", tag))
    if method in SAFE:
        if head.if_match and not conditions.matches(head.if_match, etag):
            raise conditions.failed()
        if tag and head.if_none_match and conditions.has(head.if_none_match, etag):
            return NOT_MODIFIED, headers[1:], b""
    if used is not None:
        headers.append((b"content-encoding", used.name.encode()))
        data = used.compress(data)
    return OK, headers, data
