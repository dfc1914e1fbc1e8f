"""A payment provider that exists only here: a book of its own, its own transactions, and tokens that misbehave on cue.

    tok_ok              authorized, captured
    tok_decline         declined
    tok_timeout         never charged, never answered
    tok_timeout_charged authorized, the answer lost
    tok_slow            authorized after three seconds
    tok_pending         pending until a webhook tells
    tok_webhook_twice   authorized, and the same webhook twice besides, perhaps before the answer
    tok_capture_decline authorized, the capture refused for good
    tok_refund_decline  authorized, captured, the refund refused for good

Any other token is declined. The book is shared by all replicas through its database, and what is final there is final:
a cancelled key can never be authorized.
"""

import asyncio
import hashlib
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import orjson
from sqlalchemy.ext.asyncio import AsyncConnection

from checkout_service.payments import store
from checkout_service.payments.provider import Authorization, PaymentResult, PaymentStatus
from checkout_service.payments.store import Entry
from mesh.batch import Batcher
from mesh.clock import Clock
from mesh.db import Database
from mesh.errors import Failure

# Sends a webhook: its raw body, to be signed and delivered. Raises Failure.
SendWebhook = Callable[[bytes], Awaitable[None]]

_S = PaymentStatus
_UNKNOWN = PaymentResult(_S.UNKNOWN)
_LIVE = frozenset({_S.AUTHORIZED, _S.PENDING, _S.CAPTURED})
_CAPTURE_DECLINE = "CAPTURE_DECLINE"
_REFUND_DECLINE = "REFUND_DECLINE"
_BEHAVIOURS = {"tok_capture_decline": _CAPTURE_DECLINE, "tok_refund_decline": _REFUND_DECLINE}
_FIRST_STATE: Mapping[str, PaymentStatus] = {
    "tok_ok": _S.AUTHORIZED,
    "tok_timeout_charged": _S.AUTHORIZED,
    "tok_slow": _S.AUTHORIZED,
    "tok_capture_decline": _S.AUTHORIZED,
    "tok_refund_decline": _S.AUTHORIZED,
    "tok_pending": _S.PENDING,
    "tok_webhook_twice": _S.AUTHORIZED,
}
_SLOW_S = 3.0
# How long a caller waits before it learns that no answer comes.
_LOST_AFTER_S = 0.5
_WEBHOOK_TRIES = 5


@dataclass(frozen=True, slots=True)
class _Write:
    """Something for the book: an entry to add, or a key to capture or cancel."""

    payment_key: str
    add: Entry | None = None
    state: PaymentStatus | None = None


class PaymentSimulator:
    """Implements PaymentProvider over the book."""

    def __init__(self, book: Database, clock: Clock, send_webhook: SendWebhook) -> None:
        self._book = book
        self._clock = clock
        self._send_webhook = send_webhook
        self._writes: Batcher[_Write, Entry] = Batcher("payment book", self._write)
        self._reads: Batcher[str, Entry | None] = Batcher("payment look-up", self._read)
        self._deliveries: set[asyncio.Task[None]] = set()

    async def authorize(self, request: Authorization) -> PaymentResult:
        """As PaymentProvider.authorize, by the token."""
        if request.token == "tok_timeout":  # noqa: S105 - a test token
            return await self._lose_answer()
        if request.token == "tok_slow":  # noqa: S105
            await asyncio.sleep(_SLOW_S)
        state = _FIRST_STATE.get(request.token, _S.DECLINED)
        entry = Entry(
            payment_key=request.payment_key,
            payment_id=_payment_id(request.payment_key),
            state=state,
            currency_code=request.currency_code,
            amount_minor=request.amount_minor,
            behaviour=_BEHAVIOURS.get(request.token, ""),
        )
        result = await self._submit(_Write(request.payment_key, add=entry))
        if request.token == "tok_timeout_charged":  # noqa: S105
            return await self._lose_answer()
        if request.token == "tok_webhook_twice" and result.status is _S.AUTHORIZED:  # noqa: S105
            self._deliver_twice(request.payment_key, result.payment_id)
        return result

    async def capture(self, payment_key: str) -> PaymentResult:
        """As PaymentProvider.capture. A pending payment is captured too: the signed webhook was its confirmation."""
        return await self._submit(_Write(payment_key, state=_S.CAPTURED))

    async def cancel(self, payment_key: str) -> PaymentResult:
        """As PaymentProvider.cancel. A key that never arrived is written down as cancelled."""
        return await self._submit(_Write(payment_key, add=_barred(payment_key), state=_S.CANCELLED))

    async def refund(self, payment_key: str) -> PaymentResult:
        """As PaymentProvider.refund."""
        result = await self._submit(_Write(payment_key, add=_barred(payment_key), state=_S.REFUNDED))
        return replace(result, status=_S.REFUND_REFUSED) if result.status is _S.CAPTURED else result

    async def void_others(self, payment_key: str, *, keep: str) -> Sequence[PaymentResult] | None:
        """As PaymentProvider.void_others. There is one payment per key here."""
        found = await self.look_up(payment_key)
        if found.status is _S.UNKNOWN:
            return None
        if found.status not in _LIVE or found.payment_id == keep:
            return ()
        undone = await self.refund(payment_key)
        return None if undone.status is _S.UNKNOWN else (undone,)

    async def look_up(self, payment_key: str) -> PaymentResult:
        """As PaymentProvider.look_up."""
        try:
            entry = await self._reads.submit(payment_key)
        except Failure:
            return _UNKNOWN
        return _result(entry) if entry is not None else PaymentResult(_S.NOT_FOUND)

    async def close(self) -> None:
        """End deliveries and close the book."""
        for task in self._deliveries:
            task.cancel()
        await asyncio.gather(*self._deliveries, return_exceptions=True)
        await self._writes.close()
        await self._reads.close()
        await self._book.close()

    async def _submit(self, write: _Write) -> PaymentResult:
        try:
            entry = await self._writes.submit(write)
        except Failure:
            return _UNKNOWN
        if write.state is _S.CAPTURED and entry.state != _S.CAPTURED:
            return PaymentResult(_S.CAPTURE_REFUSED, entry.payment_id)
        return _result(entry)

    async def _write(self, writes: Sequence[_Write]) -> list[Entry | Failure]:
        # The provider's own clock: nothing of the shop's is measured by it.
        at = self._clock.now()
        expected = _expected(writes)

        async def believing(connection: AsyncConnection) -> list[Entry | Failure]:
            await store.write_expected(connection, *(expected or ([], [])), at=at)
            return [write.add or _captured(write.payment_key) for write in writes]

        async def looking(connection: AsyncConnection) -> list[Entry | Failure]:
            await store.add(connection, [write.add for write in writes if write.add is not None], at=at)
            book = await store.read(connection, [write.payment_key for write in writes], lock=True)
            before = dict(book)
            results: list[Entry | Failure] = [_applied(book, write) for write in writes]
            changed = {key: entry.state for key, entry in book.items() if entry.state != before[key].state}
            await store.set_states(connection, changed, at=at)
            return results

        return await self._book.transact(
            "payment_book", looking, believing=believing if expected else None, own_task=False
        )

    async def _read(self, keys: Sequence[str]) -> list[Entry | Failure | None]:
        book = await self._book.transact(
            "payment_look_up", lambda connection: store.read(connection, keys), read_only=True, own_task=False
        )
        return [book.get(key) for key in keys]

    async def _lose_answer(self) -> PaymentResult:
        await asyncio.sleep(_LOST_AFTER_S)
        return _UNKNOWN

    def _deliver_twice(self, payment_key: str, payment_id: str) -> None:
        event = {
            "id": f"evt_{payment_key}",
            "type": "payment.succeeded",
            "order_id": payment_key,
            "payment_id": payment_id,
        }
        for _ in range(2):
            task = asyncio.create_task(self._deliver(orjson.dumps(event)), name="webhook delivery")
            self._deliveries.add(task)
            task.add_done_callback(self._deliveries.discard)

    async def _deliver(self, body: bytes) -> None:
        for attempt in range(_WEBHOOK_TRIES):
            try:
                await self._send_webhook(body)
            except Failure as failure:
                _log.warning("webhook not delivered", extra={"reason": failure.reason})
                await asyncio.sleep(0.2 * 2**attempt)
            else:
                return


def _expected(writes: Sequence[_Write]) -> tuple[list[Entry], list[str]] | None:
    """New entries and captures, if there is nothing else and no key twice."""
    adds = [write.add for write in writes if write.add is not None and write.state is None]
    captures = [write.payment_key for write in writes if write.add is None and write.state is _S.CAPTURED]
    is_all = len({write.payment_key for write in writes}) == len(adds) + len(captures) == len(writes)
    return (adds, captures) if is_all else None


def _captured(payment_key: str) -> Entry:
    """What a capture that nothing stood against leaves, as far as it is answered."""
    payment_id = _payment_id(payment_key)
    return Entry(payment_key=payment_key, payment_id=payment_id, state=_S.CAPTURED, currency_code="", amount_minor=0)


def _applied(book: dict[str, Entry], write: _Write) -> Entry:
    """Bring one write to the book in memory; later writes of the batch see it. Final states absorb."""
    entry = book.get(write.payment_key)
    if entry is None:
        # A capture of a key that was never authorized: refused, and nothing is written.
        return Entry(payment_key=write.payment_key, payment_id="", state="", currency_code="", amount_minor=0)
    state = _next_state(entry, write.state)
    if state != entry.state:
        entry = book[write.payment_key] = replace(entry, state=state)
    return entry


def _next_state(entry: Entry, wanted: PaymentStatus | None) -> str:
    """Where a wish to capture, cancel or refund takes an entry; where it may not go, it stays."""
    if wanted is _S.REFUNDED and entry.state == _S.CAPTURED:
        return entry.state if entry.behaviour == _REFUND_DECLINE else _S.REFUNDED
    if wanted is None or entry.state not in (_S.AUTHORIZED, _S.PENDING):
        return entry.state
    if wanted is _S.CAPTURED and entry.behaviour == _CAPTURE_DECLINE:
        return entry.state
    # What was never captured has nothing to refund: it is cancelled.
    return _S.CANCELLED if wanted is _S.REFUNDED else wanted


def _barred(payment_key: str) -> Entry:
    """What is written down of a key that nothing ever arrived for, so that nothing can."""
    return Entry(
        payment_key=payment_key,
        payment_id=_payment_id(payment_key),
        state=_S.CANCELLED,
        currency_code="XXX",
        amount_minor=0,
    )


def _result(entry: Entry) -> PaymentResult:
    return PaymentResult(PaymentStatus(entry.state) if entry.state else _S.NOT_FOUND, entry.payment_id)


def _payment_id(payment_key: str) -> str:
    # The same for the same key, so that a repeated request is answered with the same id.
    return f"pay_{hashlib.sha256(payment_key.encode()).hexdigest()[:24]}"


_log = logging.getLogger(__name__)
