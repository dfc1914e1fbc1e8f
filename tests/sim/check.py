"""After it has become quiet: what must be true, however bad it was."""

import json
import sqlite3
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

from checkout_service.domain import ANNOUNCED, OrderState
from inventory_service.domain.stock import movement_id
from mesh.config import Settings
from mesh.events import Event
from shopmesh.audit.command import run
from shopmesh.audit.options import AuditOptions
from tests.sim.desk import OPERATOR, Notes

_OPEN = "SELECT count(*) FROM sagas WHERE owner != ''"
_UNSENT = "SELECT count(*) FROM outbox"
_UNCHECKED = "SELECT count(*) FROM sagas WHERE check_time IS NOT NULL"
_CHANGES = "SELECT order_id, sequence, state FROM order_events"
_NEVER_PAID = ("tok_decline", "tok_timeout", "tok_capture_decline")
_GOOD = ("tok_ok", "tok_webhook_twice")
_ENDED = (OrderState.PAID, OrderState.REJECTED, OrderState.PAYMENT_FAILED, OrderState.CANCELLED, OrderState.REFUNDED)


async def violations(folder: Path, notes: Notes, published: Sequence[Event], moves: Iterable[str]) -> list[str]:
    """Everything that is wrong, a sentence each, naming who it is wrong with; `moves` of sagas were seen to be."""
    found = [f"scandal: {scandal}" for scandal in notes.scandals] + [f"ownership: {move}" for move in moves]
    found += await _audited(folder, notes)
    with (
        opened(folder, "checkout") as checkout,
        opened(folder, "inventory") as inventory,
        opened(folder, "cart") as cart,
    ):
        found += _left_hanging(checkout)
        found += _wrongly_paid(checkout, notes)
        found += _not_undone(checkout, notes)
        found += _not_given_up(folder, checkout)
        found += _bought_twice(checkout)
        found += _not_in_cart(checkout, cart)
        found += _wrongly_told(checkout, published)
        found += _miscounted(inventory, notes)
        found += _not_given_back(inventory, notes)
    return found


async def _audited(folder: Path, notes: Notes) -> list[str]:
    journal = folder / "journal.jsonl"
    with journal.open("w") as lines:
        lines.writelines(json.dumps(asdict(entry)) + "\n" for entry in notes.entries)
    report = await run(AuditOptions(settings=Settings(data_dir=folder), journal=journal, reread_after_s=0.0))
    return [f"{one.invariant} {one.fault.rule} {one.subject}: {one.fault.message}" for one in report.findings]


def _left_hanging(checkout: sqlite3.Connection) -> Iterator[str]:
    """Nothing is under way any more."""
    for saga_id, state, owner, error in checkout.execute("SELECT saga_id, state, owner, last_error FROM sagas"):
        if owner or state not in ("DONE", "UNDONE"):
            yield f"hanging: saga {saga_id} is {state}, owned by {owner or 'nobody'}; {error}"
    for cart_id, order_id in checkout.execute("SELECT cart_id, order_id FROM cart_claims WHERE order_id != ''"):
        yield f"hanging: the cart {cart_id} is claimed by order {order_id}"
    for order_id, state in checkout.execute("SELECT order_id, state FROM orders"):
        if state not in _ENDED:
            yield f"hanging: order {order_id} is {state}"


def _wrongly_paid(checkout: sqlite3.Connection, notes: Notes) -> Iterator[str]:
    """An order ends as its payment token says."""
    states = dict(checkout.execute("SELECT order_id, state FROM orders").fetchall())
    for wish in notes.wishes:
        state, tokens = states.get(wish.order_id), wish.request.payment_token
        if notes.is_calm and tokens in _GOOD and state == "PAYMENT_FAILED":
            yield f"payment: order {wish.order_id} is {state} with {tokens} and no fault"
        if state not in ("PAID", "REFUNDED"):
            continue
        if tokens in _NEVER_PAID or (tokens == "tok_pending" and wish.order_id not in notes.confirmed):
            yield f"payment: order {wish.order_id} is {state} with {tokens}"


def _not_undone(checkout: sqlite3.Connection, notes: Notes) -> Iterator[str]:
    """Who was promised that an order is undone is not charged for it."""
    states = dict(checkout.execute("SELECT order_id, state FROM orders").fetchall())
    for order_id, how in notes.undone.items():
        if states.get(order_id) == "PAID":
            yield f"undone: order {order_id} is PAID although its {how} was answered OK"


def _not_given_up(folder: Path, checkout: sqlite3.Connection) -> Iterator[str]:
    """A payment that nobody waits for any more is barred at the provider, so that it cannot arrive later."""
    with opened(folder, "psp") as psp:
        barred = {key for (key,) in psp.execute("SELECT payment_key FROM payments WHERE state = 'CANCELLED'")}
    for (order_id,) in checkout.execute("SELECT order_id FROM orders WHERE reason = 'PAYMENT_TIMEOUT'"):
        if order_id not in barred:
            yield f"payment: order {order_id} was given up, and its payment may still arrive"


def _bought_twice(checkout: sqlite3.Connection) -> Iterator[str]:
    """What a cart held at one moment cannot be ordered any more once it is bought."""
    bought: dict[tuple[str, int], str] = {}
    placed = "SELECT order_id, cart_id, cart_version, state FROM orders ORDER BY create_time, order_id"
    for order_id, cart_id, version, state in checkout.execute(placed):
        if (cart_id, version) in bought:
            yield f"claim: order {bought[cart_id, version]} bought version {version} of the cart of order {order_id}"
        if state in ("PAID", "REFUNDED"):
            bought[cart_id, version] = order_id


def _not_in_cart(checkout: sqlite3.Connection, cart: sqlite3.Connection) -> Iterator[str]:
    """A cart holds what was put into it, less what was bought of it, each once."""
    expected: Counter[tuple[str, str]] = Counter()
    for cart_id, sku, quantity in cart.execute("SELECT cart_id, sku, quantity FROM cart_requests"):
        expected[cart_id, sku] += quantity
    settled = dict(cart.execute("SELECT order_id, cart_id FROM settlements").fetchall())
    for order_id, sku, quantity in checkout.execute("SELECT order_id, sku, quantity FROM order_lines"):
        if order_id in settled:
            expected[settled[order_id], sku] -= quantity
    for cart_id, sku, quantity in cart.execute("SELECT cart_id, sku, quantity FROM cart_items"):
        expected[cart_id, sku] -= quantity
    for (cart_id, sku), difference in expected.items():
        if difference:
            yield f"cart: {difference} of {sku} should be in the cart {cart_id} besides what is there"


def _wrongly_told(checkout: sqlite3.Connection, published: Sequence[Event]) -> Iterator[str]:
    """Others were told everything that there is to tell, in its order, and nothing that did not happen."""
    happened = {f"{one}.{number}": state for one, number, state in checkout.execute(_CHANGES)}
    # Repetitions are dropped by whoever reads.
    told = dict.fromkeys(event.event_id for event in published)
    latest: dict[str, int] = {}
    for event_id in told:
        order_id, _, number = event_id.rpartition(".")
        if event_id not in happened:
            yield f"events: change {number} of order {order_id} was published and never happened"
        if latest.get(order_id, 0) > int(number):
            yield f"events: change {number} of order {order_id} was published behind change {latest[order_id]}"
        latest[order_id] = int(number)
    for event_id, state in happened.items():
        if state in ANNOUNCED and event_id not in told:
            yield f"events: order {event_id.rpartition('.')[0]} became {state}, which was never published"


def _miscounted(inventory: sqlite3.Connection, notes: Notes) -> Iterator[str]:
    """Each adjustment that was acknowledged is in the ledger, with its SKU and difference; no other is."""
    rows = inventory.execute("SELECT movement_id, sku, delta FROM movements WHERE reservation_id = ''")
    ledger = {one: (sku, delta) for one, sku, delta in rows}
    for key, (sku, delta, told) in notes.adjustments.items():
        entry = ledger.pop(movement_id("adjust", OPERATOR, key), None)
        if entry is None and told:
            yield f"ledger: the adjustment {key} of {sku} was acknowledged and is not there"
        if entry is not None and entry != (sku, delta):
            yield f"ledger: the adjustment {key} is {entry}, asked for was {(sku, delta)}"
    for one, entry in ledger.items():
        yield f"ledger: nobody asked for the adjustment {one} of {entry}"


def _not_given_back(inventory: sqlite3.Connection, notes: Notes) -> Iterator[str]:
    """What was given back for good is neither held nor sold."""
    for deal, state in inventory.execute("SELECT reservation_id, state FROM reservations"):
        if deal in notes.given_back and state in ("HELD", "COMMITTED"):
            yield f"barrier: the deal {deal} was given back and is {state}"


class opened:  # noqa: N801 - reads as a function
    """A database, opened for reading past everything that is simulated."""

    def __init__(self, folder: Path, name: str) -> None:
        self._connection = sqlite3.connect(folder / f"{name}.db")

    def __enter__(self) -> sqlite3.Connection:
        return self._connection

    def __exit__(self, *_: object) -> None:
        self._connection.close()


def has_answer(folder: Path, order_id: str) -> bool:
    """Whether the order's final answer is committed."""
    with opened(folder, "checkout") as checkout:
        return checkout.execute("SELECT 1 FROM answers WHERE order_id = ?", [order_id]).fetchone() is not None


def work_left(folder: Path, *, checks: bool) -> int:
    """How many sagas have not ended, and events have not gone out; if asked also the checks of payments to come."""
    with opened(folder, "checkout") as checkout:
        count = 0
        for query in (_OPEN, _UNSENT, _UNCHECKED) if checks else (_OPEN, _UNSENT):
            count += int(checkout.execute(query).fetchone()[0])
        return count


def ends(folder: Path) -> dict[str, int]:
    """How many orders ended how."""
    with opened(folder, "checkout") as checkout:
        return dict(checkout.execute("SELECT state, count(*) FROM orders GROUP BY state").fetchall())
