"""The world that one saga acts on: inventory's own rules, a payment provider and a cart, and messages that go astray.

Everything happens at once and in one process. What a coordinator sends arrives, or never does, or arrives and is not
answered, or is kept under way and arrives when a test says so, perhaps when all is over.
"""

import enum
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TypeVar

from checkout_service.clients import Hold, StockShortage
from checkout_service.domain import Order
from checkout_service.payments.provider import Authorization, PaymentResult, PaymentStatus
from inventory_service.domain.book import Book
from inventory_service.domain.reservation import Commit, Extend, Failed, Line, Release, Request, Reservation, Reserve
from inventory_service.domain.stock import Shelf
from mesh.errors import unavailable

T = TypeVar("T")
_S = PaymentStatus


class Fate(enum.Enum):
    """What becomes of a message."""

    ANSWERED = enum.auto()
    NEVER_ARRIVES = enum.auto()
    ANSWER_LOST = enum.auto()
    ARRIVES_LATE = enum.auto()
    ANSWERED_AND_DOUBLED = enum.auto()


@dataclass
class Post:
    """Carries messages, each as the next of `fates` says; answered when there is none."""

    fates: list[Fate] = field(default_factory=list)
    late: list[Callable[[], object]] = field(default_factory=list)

    def carry(self, action: Callable[[], T], unanswered: Callable[[], T]) -> T:
        """The answer, or what a sender without one makes of it."""
        fate = self.fates.pop(0) if self.fates else Fate.ANSWERED
        if fate in (Fate.ARRIVES_LATE, Fate.ANSWERED_AND_DOUBLED):
            self.late.append(action)
        if fate in (Fate.NEVER_ARRIVES, Fate.ARRIVES_LATE):
            return unanswered()
        answer = action()
        return unanswered() if fate is Fate.ANSWER_LOST else answer


class Inventory:
    """What the saga needs of inventory, by the rules that inventory itself decides by."""

    def __init__(self, post: Post, *, now: datetime, on_hand: int) -> None:
        self.shelf = Shelf(on_hand, 0)
        self.book = Book(now=now, reservations={}, shelves={"mug": self.shelf})
        self._post = post

    @property
    def state(self) -> str:
        """The state of the one reservation."""
        return next((str(each.state) for each in self.book.reservations.values()), "")

    def sweep(self) -> None:
        """Give the hold back if its time is over."""
        for reservation_id in list(self.book.reservations):
            self.book.expire(reservation_id)

    async def reserve(self, hold: Hold) -> StockShortage | None:
        """As InventoryClient.reserve."""
        lines = tuple(Line(line.sku, line.quantity) for line in hold.order.lines)
        outcome = self._send(
            Reserve(reservation_id=hold.order.order_id, lines=lines, ttl_s=hold.ttl_s, epoch=hold.epoch)
        )
        if isinstance(outcome, Failed):
            if outcome.failure.reason == "OUT_OF_STOCK":
                return StockShortage({line.sku: line.available or 0 for line in outcome.refused_lines})
            raise outcome.failure
        return None

    async def extend(self, order_id: str, *, epoch: int, ttl_s: int) -> None:
        """As InventoryClient.extend."""
        self._must(Extend(reservation_id=order_id, ttl_s=ttl_s, epoch=epoch))

    async def commit(self, order_id: str, *, epoch: int) -> None:
        """As InventoryClient.commit."""
        self._must(Commit(reservation_id=order_id, actor="checkout", epoch=epoch))

    async def release(self, order_id: str, *, epoch: int) -> None:
        """As InventoryClient.release."""
        self._must(Release(reservation_id=order_id, actor="checkout", epoch=epoch, return_committed=True))

    async def close(self) -> None:
        """Nothing to close."""

    def _must(self, request: Request) -> None:
        outcome = self._send(request)
        if isinstance(outcome, Failed):
            raise outcome.failure

    def _send(self, request: Request) -> Reservation | Failed:
        lost = Failed(unavailable("NO_ANSWER", "Nobody answers."))
        return self._post.carry(lambda: self.book.apply(request), lambda: lost)


class Provider:
    """A payment provider with one key: `first` is what an authorization comes to, and some things it may refuse."""

    def __init__(self, post: Post, *, first: PaymentStatus, captures: bool, refunds: bool) -> None:
        self.state = _S.NOT_FOUND
        self.captured = self.refunded = 0
        self.refunds = refunds
        self._first, self._captures = first, captures
        self._post = post

    async def authorize(self, request: Authorization) -> PaymentResult:
        """As PaymentProvider.authorize."""
        assert request.amount_minor > 0
        return self._carry(self._authorize)

    async def capture(self, payment_key: str) -> PaymentResult:
        """As PaymentProvider.capture."""
        assert payment_key
        return self._carry(self._capture)

    async def cancel(self, payment_key: str) -> PaymentResult:
        """As PaymentProvider.cancel."""
        assert payment_key
        return self._carry(self._cancel)

    async def refund(self, payment_key: str) -> PaymentResult:
        """As PaymentProvider.refund."""
        assert payment_key
        return self._carry(self._refund)

    async def look_up(self, payment_key: str) -> PaymentResult:
        """As PaymentProvider.look_up."""
        assert payment_key
        return self._carry(lambda: self.state)

    async def void_others(self, payment_key: str, *, keep: str) -> Sequence[PaymentResult] | None:
        """As PaymentProvider.void_others: there is only one here."""
        assert payment_key
        assert keep is not None
        return ()

    async def close(self) -> None:
        """Nothing to close."""

    def customer_pays(self, *, willing: bool) -> PaymentStatus:
        """A customer whose payment is pending confirms it, or does not."""
        if self.state is _S.PENDING:
            self.state = _S.AUTHORIZED if willing else _S.DECLINED
        return self.state

    def _carry(self, action: Callable[[], PaymentStatus]) -> PaymentResult:
        return PaymentResult(self._post.carry(action, lambda: _S.UNKNOWN), "pay_1")

    def _authorize(self) -> PaymentStatus:
        if self.state is _S.NOT_FOUND:
            self.state = self._first
        return self.state

    def _capture(self) -> PaymentStatus:
        if self.state is _S.AUTHORIZED and self._captures:
            self.state = _S.CAPTURED
            self.captured += 1
        return _S.CAPTURED if self.state is _S.CAPTURED else _S.CAPTURE_REFUSED

    def _cancel(self) -> PaymentStatus:
        if self.state in (_S.NOT_FOUND, _S.AUTHORIZED, _S.PENDING):
            self.state = _S.CANCELLED
        return self.state

    def _refund(self) -> PaymentStatus:
        if self.state is not _S.CAPTURED:
            return self._cancel()
        if not self.refunds:
            return _S.REFUND_REFUSED
        self.state = _S.REFUNDED
        self.refunded += 1
        return self.state


class Carts:
    """A cart that is told what was bought."""

    def __init__(self, post: Post) -> None:
        self.settled: set[str] = set()
        self._post = post

    async def settle(self, order: Order) -> None:
        """As CartClient.settle."""
        if not self._post.carry(lambda: self._settle(order), lambda: False):
            raise unavailable("NO_ANSWER", "Nobody answers.")

    async def close(self) -> None:
        """Nothing to close."""

    def _settle(self, order: Order) -> bool:
        self.settled.add(order.order_id)
        return True


# What money and stock must look like when a saga rests, by the order's state.
RESTS: Mapping[str, tuple[set[str], set[str]]] = {
    "PAID": ({"COMMITTED"}, {"CAPTURED"}),
    "REFUNDED": ({"RELEASED", "RETURNED"}, {"REFUNDED", "CANCELLED", "DECLINED"}),
    **dict.fromkeys(
        ("REJECTED", "PAYMENT_FAILED", "CANCELLED"),
        ({"", "RELEASED", "RETURNED", "EXPIRED", "REFUSED"}, {"NOT_FOUND", "DECLINED", "CANCELLED"}),
    ),
}
