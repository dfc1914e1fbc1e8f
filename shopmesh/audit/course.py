"""I6 to I9: an order's key and answer, its saga, its events."""

from collections.abc import Iterator
from datetime import timedelta
from itertools import pairwise
from typing import Any

from google.protobuf.message import DecodeError
from sqlalchemy import Row

from checkout_service.domain import ANSWERING, EDGES, OrderState
from shop.checkout.v1.checkout_pb2 import Order
from shop.checkout.v1.checkout_pb2 import OrderState as WireState
from shopmesh.audit.dossier import Dossier
from shopmesh.audit.findings import Fault
from shopmesh.audit.money import AMOUNTS

# Longer than the customer's time to pay: whoever is still on the way then is not waiting for the customer.
_STUCK_AFTER = timedelta(minutes=30)
_STATE_PREFIX = "ORDER_STATE_"


def key(dossier: Dossier) -> Iterator[Fault]:
    """The order's key leads to the order."""
    if dossier.key is None:
        yield Fault("key-missing", f"nothing stands under the order's key {dossier.order.key_id}")
    elif dossier.key.order_id != dossier.order.order_id:
        yield Fault("key-differs", f"the order's key {dossier.order.key_id} leads to {dossier.key.order_id}")


def answer(dossier: Dossier) -> Iterator[Fault]:
    """Once the order has ended one way or the other, its answer is stored, once, and tells of this order."""
    stored = dossier.answer
    reached = {event.state for event in dossier.events} & ANSWERING
    if stored is None:
        if reached:
            yield Fault("answer-missing", f"the order reached {'/'.join(sorted(reached))}, no answer is stored")
        return
    if not reached:
        yield Fault("answer-too-early", f"the order is {dossier.state} and its answer is stored")
    try:
        order = Order.FromString(stored.answer)
    except DecodeError:
        yield Fault("answer-unreadable", "the stored answer is not an Order")
        return
    yield from _compared(dossier, stored, order)


def saga(dossier: Dossier) -> Iterator[Fault]:
    """The order has a saga; while it is open somebody owns it."""
    course = dossier.saga
    if course is None:
        yield Fault("saga-missing", "the order has no saga")
    elif dossier.rests and course.owner:
        yield Fault("saga-rests-owned", f"the saga is {course.state} and owned by {course.owner}")
    elif not dossier.rests and not course.owner:
        yield Fault("saga-unowned", f"the saga is {course.state} and nobody owns it")


def stuck(dossier: Dossier) -> Iterator[Fault]:
    """What an operator should look at: a saga that takes too long, or whose owner is gone."""
    course = dossier.saga
    if course is None or dossier.rests:
        return
    age = dossier.now - course.create_time
    if age > _STUCK_AFTER:
        minutes = int(age.total_seconds() // 60)
        message = f"the saga is {course.state} after {minutes} minutes, {course.attempts} attempts; {course.last_error}"
        yield Fault("saga-stuck", message.rstrip("; "))
    if course.owner and not dossier.owner_lives:
        yield Fault("saga-owner-gone", f"the saga is {course.state}, its owner {course.owner} has no lease")


def events(dossier: Dossier) -> Iterator[Fault]:
    """One event for each change: numbered from 1 without a gap, the last one the order's present state."""
    sequences = [event.sequence for event in dossier.events]
    if sequences != list(range(1, len(sequences) + 1)) or not sequences:
        yield Fault("events-not-in-sequence", f"the events are numbered {sequences}")
    if dossier.order.sequence != len(sequences):
        yield Fault(
            "events-differ", f"the order counts {dossier.order.sequence} changes, there are {len(sequences)} events"
        )
    if dossier.events and _end(dossier.events[-1]) != _end(dossier.order):
        yield Fault(
            "last-event-differs", f"the order is {_end(dossier.order)}, its last event {_end(dossier.events[-1])}"
        )


def outbox(dossier: Dossier) -> Iterator[Fault]:
    """What others are told did happen."""
    happened = {(event.sequence, event.state) for event in dossier.events}
    for told in dossier.told:
        if (told.sequence, told.state) not in happened:
            yield Fault("told-what-never-happened", f"the outbox tells of change {told.sequence} to {told.state}")


def edges(dossier: Dossier) -> Iterator[Fault]:
    """Every change follows the table of legal edges, from RECEIVED on."""
    states = [OrderState(event.state) for event in dossier.events]
    if states and states[0] is not OrderState.RECEIVED:
        yield Fault("begins-elsewhere", f"the first event is {states[0]}")
    for source, target in pairwise(states):
        if target not in EDGES[source]:
            yield Fault("illegal-edge", f"the order went from {source} to {target}")


def _compared(dossier: Dossier, stored: Row[Any], answered: Order) -> Iterator[Fault]:
    order = dossier.order
    if order.order_id not in (stored.order_id, answered.order_id) or stored.order_id != answered.order_id:
        yield Fault("answer-of-another-order", f"the answer is of {stored.order_id} and tells of {answered.order_id}")
    for name in AMOUNTS:
        told, amount = getattr(answered, name.removesuffix("_minor")).minor_units, getattr(order, name)
        if told != amount:
            yield Fault(f"answer-{name}-differs", f"the stored answer says {told}, the order {amount}")
    state = WireState.Name(answered.state).removeprefix(_STATE_PREFIX)
    if state not in {event.state for event in dossier.events}:
        yield Fault("answer-state-differs", f"the stored answer says {state}, which the order never was")


def _end(row: Row[Any]) -> str:
    return f"{row.state} {row.reason}".rstrip()
