"""The wire to a payment provider that speaks the payment intents API which Stripe made known: forms in, JSON out.

Each method is one request with one time-out, and ends in one of three ways: an answer; RefusedError, when the provider
says clearly that it did not do it; NoAnswerError for all the rest (silence, a broken or strange answer, a server error,
a limit, a conflict), after which it may or may not have happened. Nothing is repeated here.
"""

import asyncio
import enum
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import Any

import httpx
import orjson

from mesh.failpoint import FailpointError, Failpoints, around

# Card networks take their time; what takes longer is asked for later.
TIMEOUT_S = 10.0
_MOST_FOUND = 100
_BAD_REQUEST, _CARD_REFUSED = 400, 402
_SENT_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
# Answers show the charge with its refunds inside the intent.
_WITH_REFUNDS = "latest_charge.refunds"


class IntentStatus(enum.StrEnum):
    """Where an intent stands at the provider, in its words."""

    REQUIRES_PAYMENT_METHOD = "requires_payment_method"
    REQUIRES_CONFIRMATION = "requires_confirmation"
    REQUIRES_ACTION = "requires_action"
    PROCESSING = "processing"
    # Authorized: the money is set aside.
    REQUIRES_CAPTURE = "requires_capture"
    SUCCEEDED = "succeeded"
    CANCELED = "canceled"


class RefundStatus(enum.StrEnum):
    """Where a refund stands at the provider, in its words."""

    PENDING = "pending"
    REQUIRES_ACTION = "requires_action"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELED = "canceled"


class CancelReason(enum.StrEnum):
    """Why an intent is cancelled, of the reasons that the API knows; it is kept there and tells ends apart."""

    CALLED_OFF = "requested_by_customer"
    # The card was declined, and a late confirmation must not change that.
    DECLINED = "abandoned"
    # It came to be beside the payment that stands for the order.
    STRAY = "duplicate"


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteIntent:
    """A payment intent as the provider shows it; amounts in minor units."""

    intent_id: str
    status: IntentStatus
    currency_code: str
    amount_minor: int
    captured_minor: int
    refunded_minor: int
    refund_is_pending: bool
    has_failed: bool
    cancel_reason: str

    @property
    def is_unconfirmed(self) -> bool:
        """Whether nobody has tried to pay it yet."""
        waits = self.status in (IntentStatus.REQUIRES_PAYMENT_METHOD, IntentStatus.REQUIRES_CONFIRMATION)
        return waits and not self.has_failed

    @property
    def is_declined(self) -> bool:
        """Whether paying failed, be it that another try is still possible or not."""
        if self.status is IntentStatus.CANCELED:
            return self.has_failed or self.cancel_reason == CancelReason.DECLINED
        return self.status is IntentStatus.REQUIRES_PAYMENT_METHOD and self.has_failed

    @property
    def is_refunded(self) -> bool:
        """Whether all that was captured has been given back."""
        return self.status is IntentStatus.SUCCEEDED and self.refunded_minor >= self.captured_minor > 0


class NoAnswerError(Exception):
    """Whether the request had its effect is not known."""


class RefusedError(Exception):
    """The provider did not do it and said so. `is_final`: it refused the payment itself, not just the request."""

    def __init__(self, what: str, *, is_final: bool) -> None:
        super().__init__(what)
        self.is_final = is_final


class PspClient:
    """One provider account. `base_url` is what the paths begin after, such as https://api.example.com.

    Its failpoints are named `psp.create`, `psp.confirm` and so on, one for each method.
    """

    def __init__(
        self, base_url: str, api_key: str, *, timeout_s: float = TIMEOUT_S, failpoints: Failpoints | None = None
    ) -> None:
        self._timeout_s = timeout_s
        self._failpoints = failpoints
        headers = {"Authorization": f"Bearer {api_key}"}
        limits = httpx.Limits(max_connections=100, max_keepalive_connections=100)
        self._http = httpx.AsyncClient(base_url=base_url, headers=headers, timeout=timeout_s, limits=limits)

    async def create(self, order_id: str, *, amount_minor: int, currency_code: str) -> RemoteIntent:
        """Make an intent, for which nothing is paid yet. Repeated for the same order, it is the same for a day."""
        form = {
            "amount": str(amount_minor),
            "currency": currency_code.lower(),
            "capture_method": "manual",
            "automatic_payment_methods[enabled]": "true",
            "automatic_payment_methods[allow_redirects]": "never",
            "metadata[order_id]": order_id,
            "expand[]": _WITH_REFUNDS,
        }
        return _intent(await self._call("create", "POST", "", form, idempotency_key=f"create-{order_id}"))

    async def confirm(self, intent_id: str, *, token: str) -> RemoteIntent:
        """Pay the intent with the client's token. It needs no key: an intent is paid once."""
        form = {"payment_method": token, "expand[]": _WITH_REFUNDS}
        return _intent(await self._call("confirm", "POST", f"/{intent_id}/confirm", form), intent_id)

    async def capture(self, intent_id: str, *, amount_minor: int) -> RemoteIntent:
        """Take the money that was set aside. It needs no key: an intent is captured once."""
        form = {"amount_to_capture": str(amount_minor), "expand[]": _WITH_REFUNDS}
        return _intent(await self._call("capture", "POST", f"/{intent_id}/capture", form), intent_id)

    async def cancel(self, intent_id: str, reason: CancelReason) -> RemoteIntent:
        """End the intent for good, and let go of money that was set aside. Refused once it is captured or ended."""
        form = {"cancellation_reason": reason.value, "expand[]": _WITH_REFUNDS}
        return _intent(await self._call("cancel", "POST", f"/{intent_id}/cancel", form), intent_id)

    async def read(self, intent_id: str) -> RemoteIntent:
        """The intent as it stands."""
        return _intent(await self._call("read", "GET", f"/{intent_id}", {"expand[]": _WITH_REFUNDS}), intent_id)

    async def search(self, order_id: str) -> list[RemoteIntent]:
        """Every intent that names the order. What was made in the last minute may be missing."""
        query = {
            "query": f"metadata['order_id']:'{order_id}'",
            "limit": str(_MOST_FOUND),
            "expand[]": f"data.{_WITH_REFUNDS}",
        }
        found = await self._call("search", "GET", "/search", query)
        if found.get("has_more") or not isinstance(found.get("data"), list):
            raise NoAnswerError("search: no list, or one without an end")
        return [_intent(item) for item in found["data"]]

    async def refund(self, intent_id: str, *, amount_minor: int) -> RefundStatus:
        """Give back `amount_minor`, all that is left of the capture; so a second time is refused and needs no key."""
        form = {"payment_intent": intent_id, "amount": str(amount_minor)}
        refund = await self._call("refund", "POST", "/v1/refunds", form)
        try:
            return RefundStatus(refund["status"])
        except (KeyError, ValueError) as error:
            raise NoAnswerError(f"refund: a refund without a status that we know: {error}") from error

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def _call(
        self, name: str, method: str, path: str, fields: Mapping[str, str], *, idempotency_key: str = ""
    ) -> dict[str, Any]:
        """All requests go through here: the one place where they can be made to fail."""
        url = path if path.startswith("/v1/") else f"/v1/payment_intents{path}"
        headers = {"Idempotency-Key": idempotency_key} if idempotency_key else {}
        query, form = (fields, None) if method == "GET" else (None, fields)
        send = partial(self._http.request, method, url, params=query, data=form, headers=headers)
        try:
            # The client's own time-out is for each read; a provider that drips would hold us for ever.
            async with asyncio.timeout(self._timeout_s):
                response = await around(self._failpoints, f"psp.{name}", send)
        except (httpx.HTTPError, TimeoutError, FailpointError) as error:
            raise NoAnswerError(f"{name}: {type(error).__name__}") from error
        return _body(name, response)


def _body(name: str, response: httpx.Response) -> dict[str, Any]:
    """The answer's members. Raises RefusedError for a clear no, NoAnswerError for what is neither yes nor no."""
    try:
        body = orjson.loads(response.content)
    except orjson.JSONDecodeError:
        body = None
    if not isinstance(body, dict):
        raise NoAnswerError(f"{name}: {response.status_code} without a JSON object")
    if response.is_success:
        return body
    error = body.get("error")
    if response.status_code not in (_BAD_REQUEST, _CARD_REFUSED) or not isinstance(error, dict):
        raise NoAnswerError(f"{name}: {response.status_code}")
    code = error.get("code") or error.get("type") or "no code"
    is_final = response.status_code == _CARD_REFUSED or code in _FINAL_CODES
    raise RefusedError(f"{name}: {response.status_code} {code}", is_final=is_final)


# Refusals of the payment itself that come as 400.
_FINAL_CODES = frozenset({"charge_expired_for_capture", "charge_disputed", "charge_not_refundable"})


def _intent(body: Mapping[str, Any], intent_id: str = "") -> RemoteIntent:
    """The intent in the answer. Raises NoAnswerError when that cannot be relied on, or is not the one asked for."""
    try:
        intent = _parsed(body)
    except (KeyError, ValueError, TypeError, AttributeError) as error:
        raise NoAnswerError(f"an intent that cannot be read: {error!r}") from error
    if intent_id not in ("", intent.intent_id):
        raise NoAnswerError(f"asked for {intent_id}, answered {intent.intent_id}")
    return intent


def _parsed(body: Mapping[str, Any]) -> RemoteIntent:
    refunds = ((body.get("latest_charge") or _NOTHING).get("refunds") or _NOTHING).get("data", ())
    return RemoteIntent(
        intent_id=_checked_id(body["id"]),
        status=IntentStatus(body["status"]),
        currency_code=str(body["currency"]).upper(),
        amount_minor=_whole(body["amount"]),
        captured_minor=_whole(body.get("amount_received", 0)),
        refunded_minor=_refunded(refunds),
        refund_is_pending=any(_status(refund) in _UNDER_WAY for refund in refunds),
        has_failed=bool(body.get("last_payment_error")),
        cancel_reason=str(body.get("cancellation_reason") or ""),
    )


_NOTHING: Mapping[str, Any] = MappingProxyType({})
_UNDER_WAY = (RefundStatus.PENDING, RefundStatus.REQUIRES_ACTION)


def _status(refund: Mapping[str, Any]) -> RefundStatus:
    return RefundStatus(refund["status"])


def _refunded(refunds: Sequence[Mapping[str, Any]]) -> int:
    return sum(_whole(refund["amount"]) for refund in refunds if _status(refund) is RefundStatus.SUCCEEDED)


def _checked_id(value: object) -> str:
    # It goes into paths and into our rows.
    if not isinstance(value, str) or _SENT_ID.fullmatch(value) is None:
        raise ValueError("the id is not one that we can keep")
    return value


def _whole(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError("an amount is not a whole number")
    return value
