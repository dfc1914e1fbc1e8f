"""What checkout needs of a payment provider: one protocol, keyed by us, so that every call can be repeated.

The key of a payment is the order's id, and there is never a second one for the same order. A provider that does not
answer in time leaves the outcome UNKNOWN; the saga then asks for the payment by its key.
"""

import enum
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol


class PaymentStatus(enum.StrEnum):
    """What a provider says of a payment."""

    AUTHORIZED = "AUTHORIZED"
    DECLINED = "DECLINED"
    PENDING = "PENDING"
    CAPTURED = "CAPTURED"
    # A capture that will never succeed.
    CAPTURE_REFUSED = "CAPTURE_REFUSED"
    # Called off by us or the customer; final, whatever arrives for this key later.
    CANCELLED = "CANCELLED"
    # All that was captured has been given back.
    REFUNDED = "REFUNDED"
    # A refund that will never succeed: the money has to go back another way.
    REFUND_REFUSED = "REFUND_REFUSED"
    NOT_FOUND = "NOT_FOUND"
    # No answer: it may or may not have happened.
    UNKNOWN = "UNKNOWN"


@dataclass(frozen=True, slots=True)
class PaymentResult:
    """A provider's answer; `payment_id` is its own id of the payment, empty where it gave none."""

    status: PaymentStatus
    payment_id: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Authorization:
    """A wish to set money aside: `amount_minor` in minor units of the currency, paid with the client's token."""

    payment_key: str
    token: str
    amount_minor: int
    currency_code: str


class PaymentProvider(Protocol):
    """Every method is idempotent by key, never raises for want of an answer, and answers UNKNOWN instead."""

    async def authorize(self, request: Authorization) -> PaymentResult:
        """Set the money aside: AUTHORIZED, DECLINED, PENDING, CANCELLED (the key was cancelled before) or UNKNOWN."""

    async def capture(self, payment_key: str) -> PaymentResult:
        """Take the money that was set aside, all of it: CAPTURED, CAPTURE_REFUSED or UNKNOWN."""

    async def cancel(self, payment_key: str) -> PaymentResult:
        """Void the authorization, or bar one that has not arrived. Final, whatever comes for the key later.

        CANCELLED or DECLINED; CAPTURED (too late: refund it), REFUNDED, or UNKNOWN.
        """

    async def refund(self, payment_key: str) -> PaymentResult:
        """Give all that was captured back, once: REFUNDED, REFUND_REFUSED or UNKNOWN.

        A payment that was never captured is cancelled instead and answered CANCELLED.
        """

    async def look_up(self, payment_key: str) -> PaymentResult:
        """What became of the key: any status; NOT_FOUND when nothing ever arrived."""

    async def void_others(self, payment_key: str, *, keep: str) -> Sequence[PaymentResult] | None:
        """Void or refund every live payment under the key but the one with the id `keep` ('' keeps none).

        Answers what was undone, an empty sequence for nothing, None when the provider did not answer. Only for orders
        that ended: it is how a payment that came to be beside ours, or after an unpaid end, goes back.
        """

    async def close(self) -> None:
        """Let go of what was opened."""
