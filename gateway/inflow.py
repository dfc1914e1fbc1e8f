"""Requests of many messages: each is read when it comes, and goes to the call as soon as that takes it.

While the call takes none, nothing more is read, and so the client waits. A mistake ends the call: `failure` is what to
answer then.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterator
from itertools import chain, islice

from google.protobuf.message import Message

from gateway.body import BODY_S, Receive, too_slow
from gateway.coding import Expander
from gateway.errors import HttpError
from gateway.splitting import Splitter

SILENCE_S = 300.0
"""How long nothing may come between two messages. One that has begun has BODY_S."""
# Who has said nothing for so long is taken to listen, and the call begins.
_PATIENCE_S = 0.5
# So many messages that come together are read before the call begins, so that a mistake in them reaches nobody.
_MOST_AHEAD = 1000


class ClientGoneError(Exception):
    """The client closed its connection; nobody waits for an answer."""


class Inflow:
    """The messages of one request, to be iterated once: by the call, behind `first`."""

    def __init__(
        self,
        receive: Receive,
        splitter: Splitter,
        read: Callable[[bytes, int], Message],
        expander: Expander | None,
    ) -> None:
        """`read` makes a message of a text and its number. Without an `expander`, the body comes as it is."""
        self.failure: HttpError | None = None
        self.client_gone = False
        self._receive = receive
        self._splitter = splitter
        self._read = read
        self._expander = expander
        self._count = 0
        # Which message has begun and not ended, and when it was seen to.
        self._amid = (-1, 0.0)
        self._more = True
        self._at_hand: Iterator[Message] = iter(())

    async def first(self) -> None:
        """Read the first message and what comes with it. Raises HttpError for a mistake in it, and ClientGoneError."""
        ahead: list[Message] = []
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_PATIENCE_S):
                while self._more and not ahead:
                    messages = self._messages(await self._piece())
                    ahead = list(islice(messages, _MOST_AHEAD))
                    self._at_hand = chain(ahead, messages)

    async def __aiter__(self) -> AsyncIterator[Message]:
        """The messages. Raises HttpError, which is `failure` then, and ClientGoneError."""
        try:
            for message in self._at_hand:
                yield message
            while self._more:
                for message in self._messages(await self._piece()):
                    yield message
        except HttpError as error:
            self.failure = error
            raise

    async def _piece(self) -> bytes:
        try:
            async with asyncio.timeout_at(self._patient_until(asyncio.get_running_loop().time())):
                event = await self._receive()
        except TimeoutError as error:
            raise (too_slow("a message") if self._splitter.is_amid else too_slow("silence", SILENCE_S)) from error
        if event["type"] == "http.disconnect":
            self.client_gone = True
            raise ClientGoneError
        self._more = bool(event.get("more_body"))
        piece: bytes = event.get("body", b"")
        return piece

    def _patient_until(self, now: float) -> float:
        if not self._splitter.is_amid:
            return now + SILENCE_S
        if self._amid[0] != self._count:
            self._amid = (self._count, now)
        return self._amid[1] + BODY_S

    def _messages(self, piece: bytes) -> Iterator[Message]:
        """The messages that end in a piece of the body, or with it."""
        ends = not self._more
        for plain in self._expander.feed(piece) if self._expander is not None else (piece,):
            yield from map(self._message, self._splitter.feed(plain))
        if ends:
            if self._expander is not None:
                self._expander.end()
            yield from map(self._message, self._splitter.end())

    def _message(self, text: bytes) -> Message:
        message = self._read(text, self._count)
        self._count += 1
        return message
