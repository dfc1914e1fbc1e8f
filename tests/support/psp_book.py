"""The hostile provider's book: payment intents, every movement of money, and what was answered under which key.

A file to which lines are only ever added; who opens it again, after a crash too, finds everything. The rules are those
of a well-known provider: an intent is paid, captured and refunded once, a declined one may be paid by another try, and
what was cancelled stays so.
"""

import json
import uuid
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

# Where a token leads when it is confirmed; tokens that begin with tok_ok, and any number of them, are good.
_GOOD = "tok_ok"
_AUTHORIZED_TOKENS = {"tok_capture_decline", "tok_refund_decline", "tok_timeout_charged", "tok_webhook_twice"}
_OPEN = ("requires_payment_method", "requires_confirmation")


@dataclass(frozen=True, slots=True)
class Movement:
    """Money that moved: AUTHORIZED, VOIDED, CAPTURED or REFUNDED, in minor units."""

    kind: str
    order_id: str
    intent_id: str
    amount: int


@dataclass(slots=True)
class BookIntent:
    """One payment intent."""

    intent_id: str
    order_id: str
    amount: int
    currency: str
    status: str = "requires_payment_method"
    token: str = ""
    received: int = 0
    failure: str = ""
    cancel_reason: str = ""
    refunds: list[dict[str, Any]] = field(default_factory=list)

    @property
    def refunded(self) -> int:
        """What was given back, or is about to be."""
        return sum(refund["amount"] for refund in self.refunds if refund["status"] in ("pending", "succeeded"))

    def shown(self) -> dict[str, Any]:
        """As the API shows it."""
        charge = {"id": f"ch_{self.intent_id}", "refunds": {"data": list(self.refunds)}}
        return {
            "id": self.intent_id,
            "object": "payment_intent",
            "amount": self.amount,
            "currency": self.currency,
            "amount_received": self.received,
            "status": self.status,
            "metadata": {"order_id": self.order_id},
            "last_payment_error": {"code": self.failure} if self.failure else None,
            "cancellation_reason": self.cancel_reason or None,
            "latest_charge": charge if self.received else None,
        }


class RefusalError(Exception):
    """A clear no, with the status and the code that it is answered with."""

    def __init__(self, status: int, code: str) -> None:
        super().__init__(f"{status} {code}")
        self.status = status
        self.code = code


class Book:
    """The intents of one account. Methods raise RefusalError; each change is in the file when they return."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.intents: dict[str, BookIntent] = {}
        self.movements: list[Movement] = []
        # Idempotency key -> what was asked, and the answer.
        self.answers: dict[str, tuple[str, int, dict[str, Any]]] = {}
        if path.exists():
            # Of a last line without an end the rest is still being written.
            for line in path.read_text().split("\n")[:-1]:
                self._replay(json.loads(line))

    def of_order(self, order_id: str) -> list[BookIntent]:
        """The intents that name the order, oldest first."""
        return [intent for intent in self.intents.values() if intent.order_id == order_id]

    def money(self, order_id: str) -> tuple[int, int]:
        """What was captured for the order in all, and what was given back."""
        return self._sum("CAPTURED", order_id), self._sum("REFUNDED", order_id)

    def read(self, intent_id: str) -> BookIntent:
        """One intent."""
        try:
            return self.intents[intent_id]
        except KeyError:
            raise RefusalError(404, "resource_missing") from None

    def create(self, order_id: str, amount: int, currency: str) -> BookIntent:
        """A new intent."""
        return self._keep(BookIntent(f"pi_{uuid.uuid4().hex}", order_id, amount, currency))

    def confirm(self, intent_id: str, token: str) -> BookIntent:
        """Try to pay."""
        intent = self._in(intent_id, *_OPEN)
        intent.token = token
        if token == "tok_pending":
            intent.status = "requires_action"
            return self._keep(intent)
        if token == "tok_decline":
            intent.failure = "card_declined"
            self._keep(intent)
            raise RefusalError(402, "card_declined")
        if not token.startswith(_GOOD) and token not in _AUTHORIZED_TOKENS:
            raise RefusalError(400, "resource_missing")
        return self._authorize(intent)

    def pay(self, intent_id: str) -> BookIntent:
        """The customer does what a pending payment waits for."""
        return self._authorize(self._in(intent_id, "requires_action"))

    def capture(self, intent_id: str, amount: int) -> BookIntent:
        """Take what was set aside."""
        intent = self._in(intent_id, "requires_capture")
        if intent.token == "tok_capture_decline":
            raise RefusalError(402, "card_declined")
        if amount > intent.amount:
            raise RefusalError(400, "amount_too_large")
        intent.status, intent.received = "succeeded", amount
        return self._keep(intent, "CAPTURED", amount)

    def cancel(self, intent_id: str, reason: str) -> BookIntent:
        """End the intent."""
        intent = self._in(intent_id, *_OPEN, "requires_action", "requires_capture")
        held = intent.status == "requires_capture"
        intent.status, intent.cancel_reason = "canceled", reason
        return self._keep(intent, "VOIDED", intent.amount) if held else self._keep(intent)

    def refund(self, intent_id: str, amount: int, *, status: str = "succeeded") -> dict[str, Any]:
        """Give back part or all of a capture."""
        intent = self._in(intent_id, "succeeded")
        if intent.token == "tok_refund_decline":
            raise RefusalError(400, "charge_not_refundable")
        if amount > intent.received - intent.refunded:
            raise RefusalError(400, "charge_already_refunded")
        refund = {"id": f"re_{uuid.uuid4().hex}", "amount": amount, "status": status}
        intent.refunds.append(refund)
        if status == "succeeded":
            self._keep(intent, "REFUNDED", amount)
        else:
            self._keep(intent)
        return refund

    def end_refunds(self, intent_id: str, status: str) -> None:
        """What becomes of the intent's pending refunds."""
        intent = self.read(intent_id)
        for refund in intent.refunds:
            if refund["status"] == "pending":
                refund["status"] = status
                if status == "succeeded":
                    self._keep(intent, "REFUNDED", refund["amount"])
        self._keep(intent)

    def twin(self, intent_id: str) -> BookIntent:
        """A second intent like this one, as it would be had it never been confirmed."""
        model = self.read(intent_id)
        return self.create(model.order_id, model.amount, model.currency)

    def answered(self, key: str, asked: str, status: int, body: dict[str, Any]) -> None:
        """Remember an answer under its idempotency key."""
        self.answers[key] = (asked, status, body)
        self._write({"key": key, "asked": asked, "status": status, "body": body})

    def forget_answers(self) -> None:
        """As after a day."""
        self.answers.clear()
        self._write({"forget": True})

    def set_amount(self, intent_id: str, amount: int) -> None:
        """Get an amount wrong."""
        intent = self.read(intent_id)
        intent.amount = amount
        self._keep(intent)

    def _authorize(self, intent: BookIntent) -> BookIntent:
        intent.status, intent.failure = "requires_capture", ""
        return self._keep(intent, "AUTHORIZED", intent.amount)

    def _in(self, intent_id: str, *statuses: str) -> BookIntent:
        intent = self.read(intent_id)
        if intent.status not in statuses:
            raise RefusalError(400, "payment_intent_unexpected_state")
        return intent

    def _sum(self, kind: str, order_id: str) -> int:
        return sum(move.amount for move in self.movements if (move.kind, move.order_id) == (kind, order_id))

    def _keep(self, intent: BookIntent, kind: str = "", amount: int = 0) -> BookIntent:
        self._write({"intent": asdict(intent), "movement": kind, "amount": amount})
        self._take(intent, kind, amount)
        return intent

    def _take(self, intent: BookIntent, kind: str, amount: int) -> None:
        self.intents[intent.intent_id] = intent
        if kind:
            self.movements.append(Movement(kind, intent.order_id, intent.intent_id, amount))

    def _write(self, line: dict[str, Any]) -> None:
        with self._path.open("a") as file:
            file.write(json.dumps(line) + "\n")

    def _replay(self, line: dict[str, Any]) -> None:
        if "intent" in line:
            self._take(BookIntent(**line["intent"]), line["movement"], line["amount"])
        elif "key" in line:
            self.answers[line["key"]] = (line["asked"], line["status"], line["body"])
        else:
            self.answers.clear()
