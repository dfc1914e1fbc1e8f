"""Stock and reservations as a person with a pencil would keep them: one request after the other, no database."""

import copy
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from inventory_service.domain.reservation import Commit, Extend, Release, Request, Reserve

Lines = dict[str, int]
# What a request was answered: the reservation's state, or the reason of its failure.
Answer = str


@dataclass
class Entry:
    """One reservation. `lines` is empty for one that was barred before it came."""

    state: str
    lines: Lines
    epoch: int
    expires: datetime | None
    ended: datetime | None = None

    def is_forgotten(self, before: datetime) -> bool:
        """Whether it ended before that moment and sold nothing, not even for a while."""
        return self.ended is not None and self.ended < before and self.state != "RETURNED"


@dataclass
class StockModel:
    """What the inventory service must seem to be, whatever is asked of it."""

    now: datetime
    on_hand: dict[str, int]
    book: dict[str, Entry] = field(default_factory=dict)
    adjusted: dict[str, tuple[str, int]] = field(default_factory=dict)
    _short: set[str] = field(default_factory=set)

    def held(self, sku: str) -> int:
        """What open reservations hold of it."""
        return sum(entry.lines.get(sku, 0) for entry in self.book.values() if entry.state == "HELD")

    def adjust(self, key: str, sku: str, delta: int) -> Answer:
        """Count stock, once for each key that had an effect."""
        if key in self.adjusted:
            return "done" if self.adjusted[key] == (sku, delta) else "IDEMPOTENCY_KEY_REUSED"
        if self.on_hand[sku] + delta < self.held(sku):
            return "STOCK_HELD"
        self.on_hand[sku] += delta
        self.adjusted[key] = (sku, delta)
        return "done"

    def send(self, requests: list[Request]) -> list[Answer]:
        """Answer requests that arrive together. Before anybody is refused for want of stock, overdue holds go back."""
        while True:
            trial = copy.deepcopy(self)
            answers = [trial._answer(request) for request in requests]
            overdue = [entry for entry in self.overdue() if entry.lines.keys() & trial._short]
            if not overdue:
                self.book, self.on_hand = trial.book, trial.on_hand
                return answers
            for entry in overdue:
                self._end(entry, "EXPIRED")

    def overdue(self) -> list[Entry]:
        """Holds whose time is over although nobody has looked."""
        return [entry for entry in self.book.values() if self._is_overdue(entry)]

    def sweep(self) -> None:
        """Give overdue holds back."""
        for entry in self.overdue():
            self._end(entry, "EXPIRED")

    def forget(self) -> None:
        """Forget what ended a week ago without a sale."""
        before = self.now - timedelta(days=7)
        for key in [key for key, entry in self.book.items() if entry.is_forgotten(before)]:
            del self.book[key]

    def _answer(self, request: Request) -> Answer:
        entry = self.book.get(request.reservation_id)
        if entry is None:
            return self._first(request)
        if request.epoch < entry.epoch:
            return "STALE_EPOCH"
        if isinstance(request, Reserve) and entry.lines not in ({}, _lines(request)):
            return "RESERVATION_ID_REUSED"
        entry.epoch = request.epoch
        if self._is_overdue(entry) and not isinstance(request, Release):
            self._end(entry, "EXPIRED")
        return self._again(entry, request)

    def _again(self, entry: Entry, request: Request) -> Answer:
        match request:
            case Reserve():
                return _told_again(entry.state)
            case Commit():
                return self._commit(entry)
            case Release():
                return self._release(entry, back=request.return_committed)
            case Extend():
                return self._extend(entry, request.ttl_s)

    def _first(self, request: Request) -> Answer:
        match request:
            case Reserve():
                return self._reserve(request)
            case Release():
                self.book[request.reservation_id] = Entry("RELEASED", {}, request.epoch, None, self.now)
                return "RELEASED"
        return "RESERVATION_NOT_FOUND"

    def _reserve(self, request: Reserve) -> Answer:
        lines = _lines(request)
        short = {sku for sku, units in lines.items() if units > self.on_hand[sku] - self.held(sku)}
        expires = self.now + timedelta(seconds=request.ttl_s)
        self.book[request.reservation_id] = Entry("HELD", lines, request.epoch, expires)
        if short:
            self._short |= short
            self._end(self.book[request.reservation_id], "REFUSED")
            return "OUT_OF_STOCK"
        return "HELD"

    def _commit(self, entry: Entry) -> Answer:
        if entry.state == "HELD":
            entry.state = "COMMITTED"
            self._add(entry, -1)
        return "COMMITTED" if entry.state == "COMMITTED" else f"RESERVATION_{entry.state}"

    def _release(self, entry: Entry, *, back: bool) -> Answer:
        if entry.state == "COMMITTED":
            if not back:
                return "RESERVATION_COMMITTED"
            self._add(entry, 1)
            self._end(entry, "RETURNED")
        if entry.state == "HELD":
            self._end(entry, "RELEASED")
        return entry.state

    def _extend(self, entry: Entry, ttl_s: int) -> Answer:
        if entry.state != "HELD" or entry.expires is None:
            return f"RESERVATION_{entry.state}"
        entry.expires = max(entry.expires, self.now + timedelta(seconds=ttl_s))
        return "HELD"

    def _is_overdue(self, entry: Entry) -> bool:
        return entry.state == "HELD" and entry.expires is not None and entry.expires <= self.now

    def _end(self, entry: Entry, state: str) -> None:
        entry.state, entry.ended = state, self.now

    def _add(self, entry: Entry, sign: int) -> None:
        for sku, units in entry.lines.items():
            self.on_hand[sku] += sign * units


def _lines(request: Reserve) -> Lines:
    return {
        sku: sum(line.quantity for line in request.lines if line.sku == sku) for sku in {x.sku for x in request.lines}
    }


def _told_again(state: str) -> Answer:
    return {
        "REFUSED": "OUT_OF_STOCK",
        "RELEASED": "RESERVATION_RELEASED",
        "RETURNED": "RESERVATION_RETURNED",
        "EXPIRED": "RESERVATION_EXPIRED",
    }.get(state, state)
