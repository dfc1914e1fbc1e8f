"""What the hostile provider understands: each request ready to be carried out on its book, and the tricks on them."""

import enum
import json
from dataclasses import dataclass
from typing import Any

from tests.support.psp_book import Book, BookIntent, RefusalError
from tests.support.psp_wire import Reply, Request, Silence


class Runs(enum.Enum):
    """What a request that is played a trick on does to the book."""

    NOT = "not"
    ONCE = "once"
    # The same again on a second intent for the same order.
    TWICE = "twice"
    # When `release` is called.
    LATER = "later"


@dataclass(frozen=True, slots=True, kw_only=True)
class Trick:
    """What happens to the next `times` requests of a kind: create, confirm, capture, cancel, refund, read or search."""

    on: str
    # Only for payments with this token; a create and a search have none.
    token: str = ""
    times: int = 1
    runs: Runs = Runs.ONCE
    # Instead of the true answer: a status, with `code`, or a silence.
    answer: int | Silence | None = None
    code: str = "hostile"
    delay_s: float = 0.0
    # Neither carried out nor answered before `release` is called.
    waits: bool = False
    # Webhooks of success for the payment, one event told so often, and whether they come before the answer.
    webhooks: int = 0
    webhooks_first: bool = False
    # The intent's amount becomes this, as by a mistake at the provider.
    amount: int | None = None
    # What a refund begins as.
    refund_status: str = "succeeded"


@dataclass(slots=True)
class Call:
    """One request of the API, ready to be carried out."""

    kind: str
    request: Request
    intent_id: str = ""
    order_id: str = ""
    token: str = ""

    @classmethod
    def of(cls, request: Request, book: Book) -> "Call":
        parts = request.path.strip("/").split("/")
        match (request.method, *parts):
            case ("POST", "v1", "payment_intents"):
                return cls("create", request, order_id=request.fields["metadata[order_id]"])
            case ("POST", "v1", "refunds"):
                return cls("refund", request)._about(book.read(request.fields["payment_intent"]))
            case ("GET", "v1", "payment_intents", "search"):
                return cls("search", request, order_id=request.fields["query"].split("'")[3])
            case ("GET", "v1", "payment_intents", intent_id):
                return cls("read", request)._about(book.read(intent_id))
            case ("POST", "v1", "payment_intents", intent_id, ("confirm" | "capture" | "cancel") as kind):
                return cls(kind, request)._about(book.read(intent_id))
        raise RefusalError(404, "unrecognized_request")

    def _about(self, intent: BookIntent) -> "Call":
        self.intent_id, self.order_id = intent.intent_id, intent.order_id
        self.token = self.request.fields.get("payment_method", intent.token)
        return self

    def run(self, book: Book, trick: Trick) -> Reply:
        """Carry it out, once per idempotency key."""
        key, asked = self.request.headers.get("idempotency-key", ""), json.dumps(self.request.fields, sort_keys=True)
        if key in book.answers:
            before, status, body = book.answers[key]
            return Reply(status, body) if before == asked else error_reply(400, "idempotency_error")
        try:
            reply = Reply(200, self._carry_out(book, trick))
        except RefusalError as refusal:
            reply = error_reply(refusal.status, refusal.code)
        if key:
            book.answered(key, asked, reply.status, reply.body)
        return reply

    def again(self, book: Book, trick: Trick) -> None:
        """The same on a second intent."""
        twin = book.twin(self.intent_id)
        if self.kind == "create":
            return
        if self.kind == "capture":
            book.confirm(twin.intent_id, self.token)
        Call(self.kind, self.request, twin.intent_id, twin.order_id, self.token)._carry_out(book, trick)

    def _carry_out(self, book: Book, trick: Trick) -> dict[str, Any]:
        given = self.request.fields
        match self.kind:
            case "search":
                return {"data": [intent.shown() for intent in book.of_order(self.order_id)], "has_more": False}
            case "refund":
                return book.refund(self.intent_id, int(given["amount"]), status=trick.refund_status)
            case "create":
                amount = int(given["amount"]) if trick.amount is None else trick.amount
                self.intent_id = book.create(self.order_id, amount, given["currency"]).intent_id
            case "confirm":
                if trick.amount is not None:
                    book.set_amount(self.intent_id, trick.amount)
                book.confirm(self.intent_id, given["payment_method"])
            case "capture":
                book.capture(self.intent_id, int(given["amount_to_capture"]))
            case "cancel":
                book.cancel(self.intent_id, given["cancellation_reason"])
        return book.read(self.intent_id).shown()


def error_reply(status: int, code: str) -> Reply:
    kind = "card_error" if status == 402 else "api_error" if status >= 500 else "invalid_request_error"
    return Reply(status, {"error": {"type": kind, "code": code}})
