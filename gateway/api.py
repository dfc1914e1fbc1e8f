"""The request path: one ASGI callable from bytes to bytes, with nothing of Starlette in between.

What happens to a request, in order: route, headers, body, message, call, answer. Everything that fails does so by
raising HttpError; what nobody foresaw is logged once and answered as INTERNAL.
"""

from __future__ import annotations

import asyncio
import logging
import math
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, MutableMapping
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any

import grpc
from google.protobuf.message import Message

from gateway import coding, conditions
from gateway.body import read_body
from gateway.breaker import Breaker
from gateway.cache import ResponseCache
from gateway.errors import (
    HttpError,
    UpstreamErrors,
    Violation,
    answer_of,
    internal,
    invalid,
    method_not_allowed,
    not_found,
    stopping,
)
from gateway.head import MAX_METADATA_BYTES, PASSED_HEADERS, TRACING, Head, new_head, read_head, timeout_s
from gateway.inflow import ClientGoneError, Inflow
from gateway.limits import Limits
from gateway.metrics import CLIENT_GONE, UNMATCHED, Meter
from gateway.presented import NOT_MODIFIED, OK, SAFE, presented
from gateway.query import NOT_UTF_8
from gateway.routes import MethodNotAllowedError, Router
from gateway.streams import AnswerStream, choose
from gateway.tokens import Tokens
from gateway.trace import new_trace
from gateway.transcode import HttpRequest, Transcoder
from gateway.upstream import Call

if TYPE_CHECKING:
    # Only where there is a collector.
    from gateway.spans import Spans

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

ON_DISCONNECT = "gateway.on_disconnect"
"""ASGI extension of our server: a callable that takes what to call when the client has gone."""
UNHURRIED = "gateway.unhurried"
"""ASGI extension of our server: a callable that says that this request's body may take as long as it likes."""
AT_ONCE = "gateway.at_once"
"""ASGI extension of our server: a callable that takes the send of a request, and a whole answer, and tells whether it
has sent that: not if somebody between has put a send of their own in its place, or where sending has to wait."""
_FORWARDED_FOR = "x-forwarded-for"
_OPTIONS = "OPTIONS"

# Of the time that a call may take: who answers before has not let it pass.
_HANGS = 0.9
_KNOWN_PATHS = 4096
_KNOWN_LENGTH = 256

# What a proxy says may be anything.
_ADDRESS = re.compile(r"[0-9A-Fa-f.:]{2,45}")
logger = logging.getLogger("gateway")


class AskedForOptions(Exception):  # noqa: N818 - no error
    """The client asked what a path is served with, and no route answers that itself."""

    def __init__(self, allow: list[str]) -> None:
        super().__init__()
        self.allow = allow


@dataclass(frozen=True, slots=True)
class Endpoint:
    """What a route leads to."""

    transcoder: Transcoder
    call: Call
    breaker: Breaker
    meter: Meter
    # What is called, as gRPC names it.
    rpc: str = ""
    takes_many: bool = False
    answers_many: bool = False
    # How long a call may take at most, in seconds.
    most_s: float = math.inf
    # For how long an answer may be given to others who ask for the same.
    cache_s: float = 0
    # What is said of its good answers to who may keep them on the way; nothing if empty.
    cache_control: bytes = b""
    # Who may call, in the words of policy/v1.
    access: str = ""


class Api:
    """Serves all routes. Stateless between requests."""

    def __init__(
        self,
        router: Router[Endpoint],
        errors: UpstreamErrors,
        *,
        forward_headers: tuple[str, ...],
        max_body_bytes: int,
        max_metadata_bytes: int = MAX_METADATA_BYTES,
        cache: ResponseCache,
        tokens: Tokens | None = None,
        limits: Limits | None = None,
        spans: Spans | None = None,
        tells_address: bool = False,
    ) -> None:
        """Upstreams learn the client's address, as the server knows it, if `tells_address`."""
        self._tells_address = tells_address
        self._cache = cache
        self._tokens = tokens
        self._limits = limits
        self._spans = spans
        self._router = router
        # Most paths are asked for again.
        self._known = lru_cache(_KNOWN_PATHS)(router.match)
        self._errors = errors
        names = (*PASSED_HEADERS, *forward_headers)
        self._passed: Mapping[bytes, str] = {
            name.lower().encode(): name.lower() for name in names if name.lower() not in TRACING
        }
        # What makes a difference to an answer that others on the way may keep, too.
        ours = (*names, "accept", "accept-encoding", "origin")
        self._varies = ", ".join(sorted({name.lower() for name in ours} - TRACING)).encode()
        self._max_body_bytes = max_body_bytes
        self._max_metadata_bytes = max_metadata_bytes
        self._unmatched = Meter(UNMATCHED)
        self._loop = asyncio.get_running_loop()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        started = time.perf_counter()
        head = new_head(scope["headers"], self._unmatched)
        if self._spans is not None:
            head.span = self._spans.start(scope, head.trace or new_trace())
            head.trace = head.span.trace
        try:
            answer = await self._answer(scope, receive, head)
        except ClientGoneError:
            _done(scope, head, CLIENT_GONE, started)
            return
        except AskedForOptions as asked:
            answer = OK, [(b"allow", ", ".join(asked.allow).encode())], b""
        except HttpError as error:
            answer = answer_of(error)
        except asyncio.CancelledError:
            answer = answer_of(stopping())
        except Exception:
            logger.exception("request failed", extra=head.ids)
            answer = answer_of(internal())
        if isinstance(answer, AnswerStream):
            status = await answer.send(send, head.request_id, head.answer_headers)
            _done(scope, head, status, started, sent=OK)
            return
        status, headers, body = answer
        if status != NOT_MODIFIED:
            headers.append((b"content-length", b"%d" % len(body)))
        headers.append((b"x-request-id", head.request_id.encode()))
        headers += head.answer_headers
        at_once = scope.get("extensions", {}).get(AT_ONCE)
        if at_once is None or not at_once(send, status, headers, body):
            await send({"type": "http.response.start", "status": status, "headers": headers})
            await send({"type": "http.response.body", "body": body})
        # Nobody waits for it: behind what is sent at the end of this turn.
        self._loop.call_soon(_done, scope, head, status, started)

    async def _answer(
        self, scope: Scope, receive: Receive, head: Head
    ) -> tuple[int, list[tuple[bytes, bytes]], bytes] | AnswerStream:
        read_head(scope["headers"], head, self._passed, max_metadata_bytes=self._max_metadata_bytes)
        client = scope.get("client") if self._tells_address else None
        if client and _ADDRESS.fullmatch(client[0]):
            head.metadata = (*head.metadata, (_FORWARDED_FOR, client[0]))
        if self._limits is not None:
            address = scope["client"][0] if scope.get("client") else ""
            head.answer_headers = self._limits.count(address, head.authorization or "")
        endpoint, segments = self._route(scope)
        head.meter = endpoint.meter
        transcoder = endpoint.transcoder
        if self._tokens is not None:
            await self._tokens.check(head.authorization or "", endpoint.access)
        if head.if_none_match and scope["method"] not in SAFE:
            # To pass over it would let through what it is to keep out.
            raise invalid([Violation("if-none-match", "is for what is read: this method compares no etag")])
        if endpoint.cache_s and _may_share(scope["method"], head):
            return await self._shared(scope, endpoint, segments, head)
        message = await self._message(scope, receive, endpoint, segments, head)
        if endpoint.answers_many:
            return await self._stream(scope, endpoint, message, head)
        reply = await self._call(scope, endpoint, message, head)
        content_type, data = transcoder.write(reply, accept=head.accept)
        etag = transcoder.tag(reply)
        if len(data) < coding.LEAST_BYTES and not etag and not head.if_match:
            status, headers = OK, [(b"content-type", content_type)]
        else:
            status, headers, data = presented(scope["method"], head, content_type, data, etag)
        if endpoint.cache_control:
            headers = self._for_caches(headers, endpoint.cache_control)
        return status, headers, data

    async def _shared(
        self, scope: Scope, endpoint: Endpoint, segments: list[str], head: Head
    ) -> tuple[int, list[tuple[bytes, bytes]], bytes]:
        """An answer that is kept, or is from now on."""
        key = endpoint.meter, scope["raw_path"], scope["query_string"], head.varies, _form_of(head.accept)
        asks_anew = bool({"no-cache", "max-age=0"} & head.directives)
        kept = None if asks_anew else self._cache.get(key, ttl_s=endpoint.cache_s)
        if kept is None:
            request = HttpRequest(segments=segments, query=scope["query_string"])
            message = endpoint.transcoder.read(request)

            async def make() -> tuple[bytes, bytes, str]:
                endpoint.breaker.check()
                reply = await self._reply(endpoint, _call(endpoint, message, head, timeout=math.inf), head)
                return *endpoint.transcoder.write(reply, accept=head.accept), endpoint.transcoder.tag(reply)

            kept = await self._cache.ask(key, make)
        if head.if_none_match or head.if_match or (head.accept_encoding and len(kept.data) >= coding.LEAST_BYTES):
            status, headers, data = presented(scope["method"], head, kept.content_type, kept.data, kept.etag)
        else:
            status, headers, data = OK, list(kept.headers), kept.data
        # Others subtract the age from it.
        headers = self._for_caches(headers, endpoint.cache_control or b"public, max-age=%d" % endpoint.cache_s)
        headers.append((b"age", b"%d" % self._cache.age_s(kept)))
        return status, headers, data

    async def _message(
        self, scope: Scope, receive: Receive, endpoint: Endpoint, segments: list[str], head: Head
    ) -> Any:
        """What the call takes: a message, or what many come from."""
        transcoder = endpoint.transcoder
        flows = endpoint.takes_many and transcoder.takes_body
        body = await self._body(scope, receive, endpoint, head) if head.has_body and not flows else b""
        request = HttpRequest(
            segments=segments,
            query=scope["query_string"],
            content_type=head.content_type,
            body=body,
            idempotency_key=head.idempotency_key,
            guard=conditions.guard(head.if_match) if head.if_match and scope["method"] not in SAFE else None,
        )
        # What flows must have good path and query, too, before anything of it comes.
        message = transcoder.read(request, is_whole=not flows)
        if flows:
            return await self._inflow(scope, receive, endpoint, request, head)
        return _only(message) if endpoint.takes_many else message

    async def _inflow(
        self, scope: Scope, receive: Receive, endpoint: Endpoint, request: HttpRequest, head: Head
    ) -> Inflow:
        """The request's messages, once those that come with its head are read."""
        transcoder = endpoint.transcoder
        unhurried = scope.get("extensions", {}).get(UNHURRIED)
        if unhurried is not None:
            unhurried()
        inflow = Inflow(
            receive,
            transcoder.splitter(request.content_type, max_bytes=self._max_body_bytes),
            partial(transcoder.read_one, request),
            coding.expander(head.content_encoding) if head.has_body else None,
        )
        await inflow.first()
        return inflow

    def _for_caches(self, headers: list[tuple[bytes, bytes]], cache_control: bytes) -> list[tuple[bytes, bytes]]:
        """The headers of an answer, and to others on the way what they may do with it."""
        others = [(name, value) for name, value in headers if name != b"vary"]
        return [*others, (b"vary", self._varies), (b"cache-control", cache_control)]

    async def _stream(
        self, scope: Scope, endpoint: Endpoint, message: Any, head: Head
    ) -> tuple[int, list[tuple[bytes, bytes]], bytes] | AnswerStream:
        """The answer's stream, once it has a first message, an end, or nothing to say for a while."""
        if head.if_match:
            raise invalid([Violation("if-match", "this method compares no etag")])
        form = None if endpoint.transcoder.answers_raw else choose(head.accept)
        if scope["method"] == "HEAD":
            # Nobody reads what would come, however long it came.
            return OK, [(b"content-type", form.content_type)] if form is not None else [], b""
        rpc = self._begin(scope, endpoint, message, head)
        stream = AnswerStream(
            rpc,
            form,
            endpoint.transcoder.write,
            lambda error: self._translated(error, endpoint, head),
            last_event_id=head.last_event_id,
            failure=lambda: self._failure(message, head),
        )
        try:
            await stream.first()
        except grpc.aio.AioRpcError as error:
            raise self._translated(error, endpoint, head) from error
        except asyncio.CancelledError as error:
            raise self._ended(error, message, head) from error
        return stream

    def _route(self, scope: Scope) -> tuple[Endpoint, list[str]]:
        try:
            method, path = scope["method"], scope["raw_path"].decode("ascii")
            found = self._known(method, path) if len(path) <= _KNOWN_LENGTH else self._router.match(method, path)
        except MethodNotAllowedError as error:
            allow = sorted({*error.allow, _OPTIONS})
            raise (AskedForOptions(allow) if scope["method"] == _OPTIONS else method_not_allowed(allow)) from error
        except UnicodeDecodeError as error:
            raise invalid([Violation("path", NOT_UTF_8)]) from error
        if found is None:
            raise not_found()
        return found

    async def _body(self, scope: Scope, receive: Receive, endpoint: Endpoint, head: Head) -> bytes:
        body = await read_body(scope, receive, max_bytes=self._max_body_bytes)
        if body is None:
            raise ClientGoneError
        if body and not endpoint.transcoder.takes_body:
            raise invalid([Violation("body", "this method takes no body")], "BODY_NOT_ALLOWED")
        if head.content_encoding:
            return coding.plain(body, head.content_encoding, max_bytes=self._max_body_bytes)
        return body

    async def _call(self, scope: Scope, endpoint: Endpoint, message: Any, head: Head) -> Any:
        endpoint.breaker.check()
        try:
            return await self._reply(endpoint, self._begin(scope, endpoint, message, head), head)
        except asyncio.CancelledError as error:
            raise self._ended(error, message, head) from error

    async def _reply(self, endpoint: Endpoint, rpc: Any, head: Head) -> Any:
        began = time.perf_counter()
        try:
            reply = await rpc
        except grpc.aio.AioRpcError as error:
            if error.code() is not grpc.StatusCode.DEADLINE_EXCEEDED:
                endpoint.breaker.answered()
            elif time.perf_counter() - began >= _HANGS * endpoint.most_s:
                # Not the client's own, shorter one, and not one that the upstream tells of.
                endpoint.breaker.timed_out()
            told = self._translated(error, endpoint, head)
            raise (conditions.as_failed(told) if head.if_match else told) from error
        endpoint.breaker.answered()
        return reply

    def _begin(self, scope: Scope, endpoint: Endpoint, message: Any, head: Head) -> Any:
        """The RPC, which ends when the client goes."""
        timeout = timeout_s(head.timeout) if head.timeout else math.inf
        rpc = _call(endpoint, message, head, timeout=timeout)
        on_disconnect = scope.get("extensions", {}).get(ON_DISCONNECT)
        if on_disconnect is not None:
            on_disconnect(partial(_lose, head, rpc))
        return rpc

    def _ended(self, error: asyncio.CancelledError, message: Any, head: Head) -> BaseException:
        """What the end of a cancelled call means to its request."""
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            # It is we who are cancelled.
            return error
        return self._failure(message, head) or ClientGoneError()

    def _failure(self, message: Any, head: Head) -> HttpError | None:
        """Why a call was cancelled, if that was not because the client has gone."""
        if isinstance(message, Inflow) and message.failure is not None:
            return message.failure
        if head.has_gone or (isinstance(message, Inflow) and message.client_gone):
            return None
        # By gRPC itself then, as when its channel is closed.
        nothing = grpc.aio.Metadata()
        return self._errors.translate(grpc.aio.AioRpcError(grpc.StatusCode.UNAVAILABLE, nothing, nothing))

    def _translated(self, error: grpc.aio.AioRpcError, endpoint: Endpoint, head: Head) -> HttpError:
        self._note(error, head)
        return self._errors.translate(error, endpoint.transcoder.retold)

    def _note(self, error: grpc.aio.AioRpcError, head: Head) -> None:
        """Keep in the log what masking takes from the answer."""
        if error.code() in (grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN, grpc.StatusCode.DATA_LOSS):
            fields = {**head.ids, "status": error.code().name, "upstream_message": error.details()}
            logger.warning("upstream failed", extra=fields)


def _done(scope: Scope, head: Head, status: int, started: float, *, sent: int | None = None) -> None:
    """Count a request, log it, and end its span; `sent` is the status that went out, if another."""
    head.meter.note(scope["method"], status, started=started, ids=head.ids)
    if head.span is not None:
        head.span.end(scope["method"], head.meter.template, status, sent=sent or status)


def _call(endpoint: Endpoint, message: Any, head: Head, *, timeout: float) -> Any:
    """The RPC, in the trace of its request."""
    if head.span is not None:
        return head.span.call(endpoint.rpc, partial(endpoint.call, message, timeout=timeout), head.metadata)
    metadata = head.metadata if head.trace is None else (*head.metadata, *head.trace.metadata)
    return endpoint.call(message, timeout=timeout, metadata=metadata)


async def _only(message: Message) -> AsyncIterator[Message]:
    """The one message of a method that takes many, where the request has no body to hold more."""
    yield message


def _lose(head: Head, rpc: Any) -> None:
    """The client has gone: nobody waits for the call."""
    head.has_gone = True
    rpc.cancel()


def _form_of(accept: str) -> str:
    """What of an Accept header makes a difference to an answer that is no stream."""
    return accept if "protobuf" in accept else ""


def _may_share(method: str, head: Head) -> bool:
    """Whether an answer to this may be given to others, and theirs to this."""
    asks_for_itself = head.has_body or head.timeout or head.idempotency_key or "no-store" in head.directives
    return method in SAFE and head.authorization is None and not asks_for_itself
