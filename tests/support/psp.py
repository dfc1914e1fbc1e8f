"""A hostile payment provider: a real HTTP server with a durable book, which loses, doubles, delays and refuses on cue.

In a test's own loop: `async with hostile_psp(folder) as psp`, then `psp.play(Trick(...))`; as a process that can be
killed, see psp_process. Tokens that misbehave by themselves are those of the simulator: tok_decline, tok_pending,
tok_timeout, tok_timeout_charged, tok_capture_decline, tok_refund_decline; whatever begins with tok_ok is good.
"""

import asyncio
import contextlib
import json
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import httpx

from checkout_service.webhooks import sign
from tests.support.psp_book import Book, BookIntent, RefusalError
from tests.support.psp_calls import Call, Runs, Trick, error_reply
from tests.support.psp_wire import Reply, Request, Silence, WireServer

API_KEY = "sk_test_shop"
FOR_EVER = 1_000_000
SendWebhook = Callable[[bytes], Awaitable[None]]
_WEBHOOK_TRIES = 20
# What some tokens do without being told.
_HABITS = (
    Trick(on="confirm", token="tok_timeout", times=FOR_EVER, runs=Runs.NOT, answer=Silence.CUT),
    Trick(on="confirm", token="tok_timeout_charged", times=FOR_EVER, answer=Silence.CUT),
)


class HostilePsp:
    """The provider. Everything public may be called from a test in the same loop."""

    def __init__(self, book: Book, send_webhook: SendWebhook | None = None, *, port: int = 0) -> None:
        self.book = book
        # Takes what a test in another process has to say.
        self.door: Callable[[Request], Awaitable[Reply]] | None = None
        # Every request that was made, by kind and by the order it is about, in the order they came.
        self.requests: list[tuple[str, str]] = []
        self._wire = WireServer(self._handle, port=port)
        self._send_webhook = send_webhook
        self._tricks: dict[Trick, int] = {trick: trick.times for trick in _HABITS}
        self._later: list[Callable[[], Reply]] = []
        self._released = asyncio.Event()
        self._asked = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        """What the provider's client is told."""
        return f"http://127.0.0.1:{self._wire.port}"

    async def start(self) -> None:
        """Serve."""
        await self._wire.start()

    async def stop(self) -> None:
        """Be gone, at once."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._wire.stop()

    def send_webhooks(self, send: SendWebhook) -> None:
        """From now on webhooks go out this way."""
        self._send_webhook = send

    def play(self, *tricks: Trick) -> None:
        """Play these, the latest first where several fit."""
        new = {trick: trick.times for trick in tricks}
        self._tricks = new | {trick: left for trick, left in self._tricks.items() if trick not in new}

    def be_good(self) -> None:
        """No more tricks than the tokens' own."""
        self._tricks = {trick: trick.times for trick in _HABITS}

    def release(self) -> None:
        """Let requests that were put off have their effect now, the latest first, and those that wait go on."""
        while self._later:
            self._later.pop()()
        self._released.set()
        self._released = asyncio.Event()

    def asked(self, kind: str, order_id: str) -> int:
        """How often a kind of request was made for an order."""
        return self.requests.count((kind, order_id))

    async def until_asked(self, kind: str, order_id: str) -> None:
        """Return when such a request has been made."""
        while not self.asked(kind, order_id):
            self._asked.clear()
            await self._asked.wait()

    async def tell(self, intent: BookIntent, word: str = "succeeded", *, times: int = 1) -> None:
        """Deliver one event about a payment so often, as `payment.<word>`; returns when it was taken each time."""
        event = {
            "id": f"evt_{uuid.uuid4().hex}",
            "type": f"payment.{word}",
            "order_id": intent.order_id,
            "payment_id": intent.intent_id,
        }
        for _ in range(times):
            await self._deliver(json.dumps(event).encode())

    async def _deliver(self, body: bytes) -> None:
        assert self._send_webhook is not None, "this provider was not told where its webhooks go"
        for attempt in range(_WEBHOOK_TRIES):
            try:
                return await self._send_webhook(body)
            except Exception:  # noqa: BLE001 - whoever does not take it gets it again
                await asyncio.sleep(0.02 * 2 ** min(attempt, 5))
        return None

    async def _handle(self, request: Request) -> Reply | Silence:
        if request.path.startswith("/door/") and self.door is not None:
            return await self.door(request)
        if request.headers.get("authorization") != f"Bearer {API_KEY}":
            return error_reply(401, "invalid_api_key")
        try:
            call = Call.of(request, self.book)
        except RefusalError as refusal:
            return error_reply(refusal.status, refusal.code)
        self.requests.append((call.kind, call.order_id))
        self._asked.set()
        return await self._play(call, self._trick_for(call))

    async def _play(self, call: Call, trick: Trick) -> Reply | Silence:
        await asyncio.sleep(trick.delay_s)
        if trick.waits:
            await self._released.wait()
        reply = self._run(call, trick)
        if trick.webhooks:
            task = asyncio.create_task(self.tell(self.book.read(call.intent_id), times=trick.webhooks))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
            if trick.webhooks_first:
                await asyncio.shield(task)
        if isinstance(trick.answer, int):
            return error_reply(trick.answer, trick.code)
        return trick.answer or reply

    def _run(self, call: Call, trick: Trick) -> Reply:
        match trick.runs:
            case Runs.LATER:
                self._later.append(lambda: call.run(self.book, trick))
            case Runs.ONCE:
                return call.run(self.book, trick)
            case Runs.TWICE:
                reply = call.run(self.book, trick)
                call.again(self.book, trick)
                return reply
        return error_reply(500, "hostile")

    def _trick_for(self, call: Call) -> Trick:
        for trick, left in self._tricks.items():
            if left and trick.on == call.kind and trick.token in ("", call.token):
                self._tricks[trick] = left - 1
                return trick
        return Trick(on=call.kind)


@contextlib.asynccontextmanager
async def hostile_psp(
    folder: Path, send_webhook: SendWebhook | None = None, *, port: int = 0
) -> AsyncIterator[HostilePsp]:
    """A provider in this loop, its book in `folder`; opened there again, it goes on where it was."""
    psp = HostilePsp(Book(folder / "psp.jsonl"), send_webhook, port=port)
    await psp.start()
    try:
        yield psp
    finally:
        await psp.stop()


def signing_sender(url: str, secret: str) -> SendWebhook:
    """Webhooks over HTTP, signed as the shop expects them."""

    async def send(body: bytes) -> None:
        headers = {"Shop-Signature": sign(body, secret, at=int(time.time())), "Content-Type": "application/json"}
        async with httpx.AsyncClient() as client:
            (await client.post(url, content=body, headers=headers, timeout=5)).raise_for_status()

    return send
