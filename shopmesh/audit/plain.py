"""Which orders are plainly as they should be: decided from a few words per order, for hundreds of thousands.

What is not plain, such as an order under way, is not wrong yet: it is looked at with all that belongs to it. What is
plain must be right; a test changes every column of every row and compares.
"""

import enum
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

from checkout_service.domain import ANSWERING, EDGES, OrderState
from checkout_service.payments.provider import PaymentStatus
from checkout_service.saga import SagaState
from inventory_service.domain.reservation import State
from inventory_service.domain.stock import RETURN, SALE, movement_id
from shopmesh.audit.texts import Sheet

_SOLD = frozenset({OrderState.PAID, OrderState.IN_TRANSIT, OrderState.COMPLETED})
_UNPAID = frozenset({OrderState.REJECTED, OrderState.PAYMENT_FAILED, OrderState.CANCELLED})
_FREE = (State.RELEASED, State.EXPIRED, State.RETURNED)
_NOTHING_TAKEN = {f"{PaymentStatus.DECLINED}", f"{PaymentStatus.CANCELLED}"}


class Age(enum.StrEnum):
    """How long a saga rests, by what others may have forgotten of it."""

    FRESH = "0"
    # Reservations that ended are forgotten.
    OLD = "1"
    # Settlements of carts are forgotten too.
    ANCIENT = "2"


@dataclass(frozen=True, slots=True)
class Sheets:
    """What the databases say of the orders of a span, by the order's id; the comments name the words of each text."""

    # standing: state reason sequence, TAB amounts: currency and five amounts, TAB cart, TAB payment, TAB key
    orders: Sheet
    # sum of quantity * price, TAB lines: sku quantity available, with commas between
    lines: Sheet
    # sequence state reason, with commas between
    events: Sheet
    # sequence state, with commas between
    outbox: Sheet
    # state, TAB owner, TAB age
    sagas: Sheet
    # amounts
    invoices: Sheet
    # payment, TAB currency amount
    intents: Sheet
    # state, TAB payment, TAB currency amount captured refunded
    payments: Sheet
    # cart
    settlements: Sheet
    # state
    reservations: Sheet
    # sku quantity available, with commas between
    held_lines: Sheet

    def strays(self) -> set[str]:
        """Ids of which there is something and no order."""
        others = (
            *(self.lines, self.events, self.outbox, self.sagas, self.invoices, self.intents),
            *(self.payments, self.settlements, self.reservations, self.held_lines),
        )
        return set().union(*others) - self.orders.keys()


@dataclass(frozen=True, slots=True)
class Ending:
    """How an order ended, from its history."""

    # Where its saga rests.
    saga: SagaState
    is_sold: bool
    is_refunded: bool
    is_sold_out: bool
    # Whether its stock may have been sold on the way.
    was_authorized: bool
    # The state that its key answers for ever.
    answered: str
    # sequence state, of each change
    happened: frozenset[str]

    @property
    def was_paid(self) -> bool:
        """Whether there is an invoice."""
        return self.is_sold or self.is_refunded


@dataclass(frozen=True, slots=True)
class Expected:
    """What a plain order has in tables that are not keyed by orders."""

    # reservation, movement, sku, delta, reason, with TABs between
    movements: tuple[str, ...]
    # order, key, answered state, amounts, with TABs between
    key: str


def plain(order_id: str, sheets: Sheets) -> Expected | None:
    """What is to be found elsewhere of an order that is plainly right; None for one that needs a closer look."""
    standing, amounts, cart_id, payment_id, key_id = sheets.orders[order_id].split("\t")
    ending = end_of(standing, sheets.events.get(order_id, ""))
    if ending is None:
        return None
    subtotal, _, lines = sheets.lines.get(order_id, "").partition("\t")
    state, owner, age = sheets.sagas.get(order_id, "\t\t").split("\t")
    stock = sheets.reservations.get(order_id, "")
    if (
        (state, owner) == (ending.saga, "")
        and _is_told(sheets.outbox.get(order_id), ending)
        and _adds_up(amounts, subtotal)
        and sheets.invoices.get(order_id, "") == (amounts if ending.was_paid else "")
        and _is_charged(order_id, sheets, ending, payment_id, amounts)
        and _is_settled(sheets.settlements.get(order_id), ending, cart_id, age)
        and _is_held(stock, lines, sheets.held_lines.get(order_id, ""), ending, age)
    ):
        moved = tuple(_movements(order_id, stock, lines, ending))
        return Expected(moved, f"{order_id}\t{key_id}\t{ending.answered}\t{amounts}")
    return None


@lru_cache(maxsize=10_000)
def end_of(standing: str, history: str) -> Ending | None:
    """How an order ended that stands so and has this history; None for one that has not, or not lawfully."""
    try:
        state, reason, sequence = standing.split(" ")
        events = [(int(number), OrderState(what), why) for number, what, why in map(_words, history.split(","))]
    except ValueError:
        return None
    states = [what for _, what, _ in events]
    lawful = states[0] is OrderState.RECEIVED and all(to in EDGES[since] for since, to in pairwise(states))
    numbered = [number for number, _, _ in events] == list(range(1, int(sequence) + 1))
    if not lawful or not numbered or events[-1][1:] != (state, reason):
        return None
    if state not in _SOLD | _UNPAID | {OrderState.REFUNDED}:
        return None
    return Ending(
        saga=SagaState.DONE if state in _SOLD else SagaState.UNDONE,
        is_sold=state in _SOLD,
        is_refunded=state == OrderState.REFUNDED,
        is_sold_out=(state, reason) == (OrderState.REJECTED, "OUT_OF_STOCK"),
        was_authorized=OrderState.AUTHORIZED in states,
        answered=next(what for what in states if what in ANSWERING),
        happened=frozenset(f"{number} {what}" for number, what, _ in events),
    )


def _words(event: str) -> tuple[str, str, str]:
    number, what, why = event.split(" ")
    return number, what, why


def _is_told(told: str | None, ending: Ending) -> bool:
    return told is None or ending.happened.issuperset(told.split(","))


def _adds_up(amounts: str, lines: str) -> bool:
    _, subtotal, discount, shipping, tax, total = amounts.split(" ")
    return lines == subtotal and int(subtotal) - int(discount) + int(shipping) + int(tax) == int(total)


def _is_charged(order_id: str, sheets: Sheets, ending: Ending, payment_id: str, amounts: str) -> bool:
    currency_code, *_, total = amounts.split(" ")
    if order_id in sheets.intents:
        # Paid at a provider whose book is not here.
        intent_id, asked = sheets.intents[order_id].split("\t")
        known = intent_id == payment_id != "" if ending.was_paid else payment_id in ("", intent_id)
        return known and order_id not in sheets.payments and (not intent_id or asked == f"{currency_code} {total}")
    entry = sheets.payments.get(order_id, "")
    if ending.is_sold:
        return entry == f"{PaymentStatus.CAPTURED}\t{payment_id}\t{currency_code} {total} {total} 0"
    if ending.is_refunded:
        return entry == f"{PaymentStatus.REFUNDED}\t{payment_id}\t{currency_code} {total} {total} {total}"
    if not entry:
        return payment_id == ""
    state, entry_id, money = entry.split("\t")
    return state in _NOTHING_TAKEN and money.endswith(" 0 0") and payment_id in ("", entry_id)


def _is_settled(settled: str | None, ending: Ending, cart_id: str, age: str) -> bool:
    if settled is None:
        return age == Age.ANCIENT or not ending.was_paid
    return ending.was_paid and settled == cart_id


def _is_held(state: str, lines: str, held: str, ending: Ending, age: str) -> bool:
    """Whether the reservation of an order with these lines is where it should be, with the same lines."""
    if held and held != lines:
        return False
    forgotten = state == "" and not held
    if ending.is_sold:
        return state == State.COMMITTED and held != ""
    if ending.is_refunded:
        return forgotten or (state == State.RETURNED and held != "")
    if ending.is_sold_out:
        told = (forgotten and age != Age.FRESH) or (state == State.REFUSED and held != "")
        return told and any(map(_is_short, lines.split(",")))
    # What was sold and returned is forgotten like any other, but the ledger keeps it.
    return state in _FREE or (forgotten and not ending.was_authorized)


def _is_short(line: str) -> bool:
    _, quantity, available = line.split(" ")
    return available != "" and int(available) < int(quantity)


def _movements(order_id: str, state: str, lines: str, ending: Ending) -> Iterator[str]:
    is_returned = ending.is_refunded or state == State.RETURNED
    if not ending.is_sold and not is_returned:
        return
    for line in lines.split(","):
        sku, quantity, _ = line.split(" ")
        yield f"{order_id}\t{movement_id(SALE, order_id, sku)}\t{sku}\t-{quantity}\t{SALE}"
        if is_returned:
            yield f"{order_id}\t{movement_id(RETURN, order_id, sku)}\t{sku}\t{quantity}\t{RETURN}"
