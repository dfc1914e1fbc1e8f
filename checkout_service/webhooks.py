"""Payment webhooks: who may speak, and what is said.

The header `Shop-Signature: t=<unix seconds>,v1=<hex hmac-sha256 of "t.body">` is checked over the raw body, against
every secret in use, within five minutes either way. Nothing of the body is looked at before that.
"""

import hashlib
import hmac
import re
from collections.abc import Mapping, Sequence

import orjson

from checkout_service.domain import PaymentEvent, PaymentEventKind
from mesh.errors import Failure, Kind
from mesh.validate import Violations

TOLERANCE_S = 300
_SIGNATURE = re.compile(r"t=(\d{1,12})((?:,v1=[0-9a-f]{64}){1,8})")

# An event's type is a subject and a word, such as "payment.succeeded". One about anything else, such as a refund or a
# payout, means nothing to a saga.
_SUBJECTS = frozenset({"payment", "payment_intent"})
_KINDS: Mapping[str, PaymentEventKind] = {
    "succeeded": PaymentEventKind.SUCCEEDED,
    "success": PaymentEventKind.SUCCEEDED,
    "authorized": PaymentEventKind.SUCCEEDED,
    "paid": PaymentEventKind.SUCCEEDED,
    "failed": PaymentEventKind.FAILED,
    "failure": PaymentEventKind.FAILED,
    "declined": PaymentEventKind.FAILED,
    "cancelled": PaymentEventKind.CANCELLED,
    "canceled": PaymentEventKind.CANCELLED,
}


def sign(body: bytes, secret: str, *, at: int) -> str:
    """The header's value for a body sent at `at`, unix seconds."""
    return f"t={at},v1={_digest(body, secret, at)}"


def verify(body: bytes, header: str, secrets: Sequence[str], *, now: int) -> None:
    """Raise UNAUTHENTICATED SIGNATURE_INVALID unless one of `secrets` signed the body within the last five minutes."""
    found = _SIGNATURE.fullmatch(header)
    if found is None:
        raise _invalid("The header Shop-Signature must be 't=<unix>,v1=<hex hmac-sha256>'.")
    at, signatures = int(found[1]), found[2].removeprefix(",v1=").split(",v1=")
    expected = [_digest(body, secret, at) for secret in secrets]
    # Every pair is compared, so that the time taken tells nothing.
    matches = [hmac.compare_digest(one, other) for one in expected for other in signatures]
    if not any(matches):
        raise _invalid("The signature does not fit the body.")
    if abs(now - at) > TOLERANCE_S:
        raise _invalid("The signature is older than five minutes, or from the future.")


def parse(body: bytes) -> PaymentEvent:
    """The event in a verified body {id, type, order_id, payment_id}. Raises INVALID_ARGUMENT naming what is wrong."""
    violations = Violations()
    try:
        message = orjson.loads(body)
    except orjson.JSONDecodeError:
        message = None
    if not isinstance(message, dict):
        violations.add("body", "must be a JSON object")
        violations.raise_if_any()
        message = {}
    values = {name: message.get(name, "") for name in ("id", "type", "order_id", "payment_id")}
    for name, value in values.items():
        if not isinstance(value, str):
            violations.add(name, "must be a string")
        else:
            violations.identifier(name, value, optional=name == "payment_id")
    violations.raise_if_any()
    subject, _, word = values["type"].partition(".")
    kind = _KINDS.get(word, PaymentEventKind.OTHER) if subject in _SUBJECTS else PaymentEventKind.OTHER
    return PaymentEvent(values["id"], kind, values["order_id"], values["payment_id"])


def _digest(body: bytes, secret: str, at: int) -> str:
    return hmac.new(secret.encode(), f"{at}.".encode() + body, hashlib.sha256).hexdigest()


def _invalid(message: str) -> Failure:
    return Failure(Kind.UNAUTHENTICATED, "SIGNATURE_INVALID", message)
