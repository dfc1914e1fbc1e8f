"""A payment provider over HTTP: one payment intent per order, created, written down, and only then confirmed.

What makes it safe is an order of steps, not the provider's memory of keys. An intent moves money only by being
confirmed; only the intent whose id stands in our database is ever confirmed; and an intent is paid, captured and
refunded once. So a repetition, a late request and two coordinators at once all come to the same payment, even when the
provider forgot the idempotency key. A decline is made final by cancelling the intent before it is believed.

Silence, server errors, limits and conflicts leave the outcome UNKNOWN. So does an amount that is not ours.
"""

import logging
from collections.abc import Awaitable, Mapping, Sequence

from checkout_service.payments.intents import Intent, Intents
from checkout_service.payments.provider import Authorization, PaymentResult, PaymentStatus
from checkout_service.payments.psp_client import (
    CancelReason,
    IntentStatus,
    NoAnswerError,
    PspClient,
    RefundStatus,
    RefusedError,
    RemoteIntent,
)
from mesh.errors import Failure

_S, _I = PaymentStatus, IntentStatus
_UNKNOWN = PaymentResult(_S.UNKNOWN)
_BARRED = PaymentResult(_S.CANCELLED)
_STATUSES: Mapping[IntentStatus, PaymentStatus] = {
    _I.REQUIRES_PAYMENT_METHOD: _S.NOT_FOUND,
    _I.REQUIRES_CONFIRMATION: _S.NOT_FOUND,
    _I.REQUIRES_ACTION: _S.PENDING,
    _I.PROCESSING: _S.PENDING,
    _I.REQUIRES_CAPTURE: _S.AUTHORIZED,
    _I.SUCCEEDED: _S.CAPTURED,
    _I.CANCELED: _S.CANCELLED,
}
_REFUNDS: Mapping[RefundStatus, PaymentStatus] = {
    RefundStatus.SUCCEEDED: _S.REFUNDED,
    RefundStatus.FAILED: _S.REFUND_REFUSED,
    RefundStatus.CANCELED: _S.REFUND_REFUSED,
    # Accepted but not paid out: asked for again until it is, or is not.
    RefundStatus.PENDING: _S.UNKNOWN,
    RefundStatus.REQUIRES_ACTION: _S.UNKNOWN,
}

_log = logging.getLogger(__name__)


class HttpPaymentProvider:
    """Implements PaymentProvider; the payment key goes along as the order's id, an intent's id is the payment's."""

    def __init__(self, client: PspClient, intents: Intents) -> None:
        self._client = client
        self._intents = intents

    async def authorize(self, request: Authorization) -> PaymentResult:
        """As PaymentProvider.authorize. What a key stands for is decided once: a repetition may not change it."""
        return await _known_or_unknown(self._authorize(request), request.payment_key)

    async def capture(self, payment_key: str) -> PaymentResult:
        """As PaymentProvider.capture; refused too when nothing was authorized."""
        return await _known_or_unknown(self._capture(payment_key), payment_key)

    async def cancel(self, payment_key: str) -> PaymentResult:
        """As PaymentProvider.cancel. A key that never arrived is barred in our own database: no need to ask."""
        return await _known_or_unknown(self._cancel(payment_key), payment_key)

    async def refund(self, payment_key: str) -> PaymentResult:
        """As PaymentProvider.refund. A refund that the provider took on but has not paid out is UNKNOWN until then."""
        return await _known_or_unknown(self._refund(payment_key), payment_key)

    async def look_up(self, payment_key: str) -> PaymentResult:
        """As PaymentProvider.look_up. Where no intent is written down none was confirmed, so NOT_FOUND is the truth."""
        return await _known_or_unknown(self._look_up(payment_key), payment_key)

    async def void_others(self, payment_key: str, *, keep: str) -> Sequence[PaymentResult] | None:
        """As PaymentProvider.void_others. What an earlier call undid is answered again, in case its answer was lost.

        The provider's search may miss what is younger than a minute.
        """
        try:
            own = await self._intents.find(payment_key)
            found = [intent for intent in await self._client.search(payment_key) if intent.intent_id != keep]
            own_id = own.intent_id if own is not None else ""
            results = [await self._undo_stray(intent, is_own=intent.intent_id == own_id) for intent in found]
        except (NoAnswerError, RefusedError, Failure) as error:
            _log_unknown(payment_key, error)
            return None
        undone = [result for result in results if result is not None]
        return None if _UNKNOWN.status in [result.status for result in undone] else undone

    async def close(self) -> None:
        """Close the connections; the database stays open."""
        await self._intents.close()
        await self._client.close()

    async def _authorize(self, request: Authorization) -> PaymentResult:
        own = await self._intents.find(request.payment_key)
        if own is None:
            own, remote = await self._create(request)
        elif not own.is_barred:
            remote = await self._client.read(own.intent_id)
        if own.is_barred:
            return _BARRED
        _check_amount(own, remote)
        if remote.is_unconfirmed:
            remote = await self._confirm(own.intent_id, request.token)
        return _result(own, await self._closed_if_declined(remote))

    async def _create(self, request: Authorization) -> tuple[Intent, RemoteIntent]:
        """The intent that stands for the key, ours or another's who was faster, and what the provider says of it."""
        created = await self._client.create(
            request.payment_key, amount_minor=request.amount_minor, currency_code=request.currency_code
        )
        own = await self._intents.keep(
            Intent(
                payment_key=request.payment_key,
                intent_id=created.intent_id,
                currency_code=request.currency_code,
                amount_minor=request.amount_minor,
            )
        )
        if own.is_barred or own.intent_id == created.intent_id:
            return own, created
        return own, await self._client.read(own.intent_id)

    async def _confirm(self, intent_id: str, token: str) -> RemoteIntent:
        try:
            return await self._client.confirm(intent_id, token=token)
        except RefusedError:
            remote = await self._client.read(intent_id)
        # Refused before it was tried, such as for a token that does not exist: declined like the rest.
        return await self._end(intent_id, CancelReason.DECLINED) if remote.is_unconfirmed else remote

    async def _capture(self, payment_key: str) -> PaymentResult:
        own = await self._intents.find(payment_key)
        if own is None or own.is_barred:
            return PaymentResult(_S.CAPTURE_REFUSED)
        try:
            remote = await self._client.capture(own.intent_id, amount_minor=own.amount_minor)
        except RefusedError as refusal:
            remote = await self._client.read(own.intent_id)
            waits = remote.status in (_I.REQUIRES_ACTION, _I.PROCESSING)
            could = remote.status is _I.REQUIRES_CAPTURE and not refusal.is_final
            if remote.status is not _I.SUCCEEDED and not waits and not could:
                return PaymentResult(_S.CAPTURE_REFUSED, own.intent_id)
        # Refunded meanwhile, it was captured all the same.
        _check_amount(own, remote)
        return PaymentResult(_S.CAPTURED if remote.status is _I.SUCCEEDED else _S.UNKNOWN, own.intent_id)

    async def _cancel(self, payment_key: str) -> PaymentResult:
        own = await self._intents.keep(Intent(payment_key=payment_key))
        if own.is_barred:
            return _BARRED
        remote = await self._end(own.intent_id, CancelReason.CALLED_OFF)
        ended = remote.status in (_I.CANCELED, _I.SUCCEEDED)
        return _settled(remote) if ended else PaymentResult(_S.UNKNOWN, own.intent_id)

    async def _refund(self, payment_key: str) -> PaymentResult:
        own = await self._intents.keep(Intent(payment_key=payment_key))
        if own.is_barred:
            return _BARRED
        remote = await self._client.read(own.intent_id)
        if remote.status is not _I.SUCCEEDED:
            remote = await self._end(own.intent_id, CancelReason.CALLED_OFF)
        return await self._given_back(remote)

    async def _look_up(self, payment_key: str) -> PaymentResult:
        own = await self._intents.find(payment_key)
        if own is None:
            return PaymentResult(_S.NOT_FOUND)
        if own.is_barred:
            return _BARRED
        return _result(own, await self._closed_if_declined(await self._client.read(own.intent_id)))

    async def _closed_if_declined(self, remote: RemoteIntent) -> RemoteIntent:
        """A decline is final only once the intent is: until then a late confirmation could still be paid."""
        if remote.is_declined and remote.status is not _I.CANCELED:
            return await self._end(remote.intent_id, CancelReason.DECLINED)
        return remote

    async def _end(self, intent_id: str, reason: CancelReason) -> RemoteIntent:
        """Cancel the intent, and answer how it stands then: cancelled, or as it was where it cannot be."""
        try:
            return await self._client.cancel(intent_id, reason)
        except RefusedError:
            return await self._client.read(intent_id)

    async def _given_back(self, remote: RemoteIntent) -> PaymentResult:
        """Refund what is left of a capture, whatever its amount; answer how an intent that took nothing ended."""
        if remote.status is not _I.SUCCEEDED:
            return _settled(remote) if remote.status is _I.CANCELED else PaymentResult(_S.UNKNOWN, remote.intent_id)
        if remote.is_refunded or remote.refund_is_pending:
            return PaymentResult(_S.REFUNDED if remote.is_refunded else _S.UNKNOWN, remote.intent_id)
        left_minor = remote.captured_minor - remote.refunded_minor
        try:
            status = await self._client.refund(remote.intent_id, amount_minor=left_minor)
        except RefusedError:
            return await self._refused_refund(remote.intent_id)
        return PaymentResult(_REFUNDS[status], remote.intent_id)

    async def _refused_refund(self, intent_id: str) -> PaymentResult:
        """Refused because another was faster, or for good."""
        remote = await self._client.read(intent_id)
        if remote.refund_is_pending:
            return PaymentResult(_S.UNKNOWN, intent_id)
        return PaymentResult(_S.REFUNDED if remote.is_refunded else _S.REFUND_REFUSED, intent_id)

    async def _undo_stray(self, remote: RemoteIntent, *, is_own: bool) -> PaymentResult | None:
        """Void or refund an intent that should not be; None when it never held money, or ended as it should."""
        if remote.status is _I.CANCELED:
            return PaymentResult(_S.CANCELLED, remote.intent_id) if remote.cancel_reason == CancelReason.STRAY else None
        if is_own and remote.is_refunded:
            return None
        if remote.is_unconfirmed or remote.is_declined:
            ended = await self._end(remote.intent_id, CancelReason.DECLINED)
            return None if ended.status is _I.CANCELED else PaymentResult(_S.UNKNOWN, remote.intent_id)
        if remote.status is not _I.SUCCEEDED:
            remote = await self._end(remote.intent_id, CancelReason.STRAY)
        return await self._given_back(remote)


async def _known_or_unknown(work: Awaitable[PaymentResult], payment_key: str) -> PaymentResult:
    try:
        return await work
    except (NoAnswerError, RefusedError, Failure) as error:
        _log_unknown(payment_key, error)
        return _UNKNOWN


def _log_unknown(payment_key: str, error: Exception) -> None:
    # What the provider refuses although we asked for it properly will not go away by asking again.
    level = logging.ERROR if isinstance(error, RefusedError | _WrongAmountError) else logging.WARNING
    _log.log(level, "payment outcome not known", extra={"payment_key": payment_key, "cause": str(error)})


class _WrongAmountError(NoAnswerError):
    """The provider shows another amount or currency than we asked for: never a success."""


def _check_amount(own: Intent, remote: RemoteIntent) -> None:
    asked = (own.amount_minor, own.currency_code)
    shown = remote.captured_minor if remote.status is _I.SUCCEEDED else remote.amount_minor
    if asked != (shown, remote.currency_code):
        raise _WrongAmountError(f"asked for {asked}, {remote.intent_id} shows {(shown, remote.currency_code)}")


def _result(own: Intent, remote: RemoteIntent) -> PaymentResult:
    """What the intent's state says of the payment, and UNKNOWN where money is set aside or taken that is not ours."""
    if remote.status in (_I.REQUIRES_CAPTURE, _I.SUCCEEDED):
        _check_amount(own, remote)
    return _settled(remote)


def _settled(remote: RemoteIntent) -> PaymentResult:
    if remote.is_declined:
        return PaymentResult(_S.DECLINED, remote.intent_id)
    if remote.is_refunded:
        return PaymentResult(_S.REFUNDED, remote.intent_id)
    return PaymentResult(_STATUSES[remote.status], remote.intent_id)
