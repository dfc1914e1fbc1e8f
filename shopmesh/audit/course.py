"""I6 to I9: an order's key and answer, its saga, its events."""

from collections.abc import Iterator
from datetime import timedelta
from itertools import pairwise
from typing import Any

from google.protobuf.message import DecodeError
from sqlalchemy import Row

from checkout_service.domain import ANSWERING, EDGES, OrderState
from checkout_service.saga import OWING, RESTING, SagaState
from shop.checkout.v1.checkout_pb2 import Order
from shopmesh.audit.dossier import Dossier
from shopmesh.audit.findings import Fault
from shopmesh.audit.keys import state_name
from shopmesh.audit.money import AMOUNTS, NOT_TAKEN_IN, TAKEN_IN
from shopmesh.audit.resting import GIVEN_BACK_IN, SOLD_IN

# Longer than the customer's time to pay: whoever is still on the way then is not waiting for the customer.
_STUCK_AFTER = timedelta(minutes=30)
# After the end of a lease; it takes a second or two.
_TAKEN_OVER_WITHIN = timedelta(minutes=1)
# What was bought has not left the cart.
_CLAIMED_IN = frozenset(SagaState) - RESTING - OWING
# The goods are sold, the money is not taken for certain.
_DUE_IN = frozenset({SagaState.CAPTURING, SagaState.FINDING_CAPTURE})


def unknown_states(dossier: Dossier) -> Iterator[Fault]:
    """Every state is one that there is."""
    told = {dossier.order.state, *(event.state for event in dossier.events)} - set(OrderState)
    moved = set() if dossier.saga is None else {dossier.saga.state} - set(SagaState)
    for state in sorted(told | moved):
        yield Fault("unknown-state", f"there is no state {state!r}")


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


def claim(dossier: Dossier) -> Iterator[Fault]:
    """The cart is claimed by the order from beginning to end: by this one alone, and no longer."""
    holder = "" if dossier.claim is None else dossier.claim.order_id
    if dossier.rests and holder == dossier.order.order_id:
        yield Fault("claim-left", f"the saga rests, the cart {dossier.order.cart_id} is still claimed by the order")
    elif dossier.stage in _CLAIMED_IN and holder != dossier.order.order_id:
        message = f"the order is under way, its cart {dossier.order.cart_id} is claimed by {holder or 'nobody'}"
        yield Fault("claim-missing", message)


def saga(dossier: Dossier) -> Iterator[Fault]:
    """The order has a saga; while it is open somebody moves it, or it waits for the operator and says why."""
    course = dossier.saga
    if course is None:
        yield Fault("saga-missing", "the order has no saga")
    elif dossier.rests and course.owner:
        yield Fault("saga-rests-owned", f"the saga is {course.state} and owned by {course.owner}")
    elif not dossier.rests and not course.owner:
        yield Fault("saga-unowned", f"the saga is {course.state} and nobody owns it")
    elif dossier.is_parked and not course.stuck_reason:
        yield Fault("parked-without-reason", f"the saga waits for the operator in {course.state} and does not say why")
    elif _is_left(dossier):
        yield Fault(
            "saga-not-taken-over", f"its owner {course.owner} is gone, others live, and the saga is {course.state}"
        )


def with_the_operator(dossier: Dossier) -> Iterator[Fault]:
    """What waits for a person: where it stands, why, what of the order is open, and what is owed."""
    if not dossier.is_parked or dossier.saga is None:
        return
    course, order = dossier.saga, dossier.order
    why = f"{course.stuck_reason}, {course.last_error}".rstrip(", ")
    is_open = [
        name
        for name, known in (("goods", SOLD_IN | GIVEN_BACK_IN), ("money", TAKEN_IN | NOT_TAKEN_IN))
        if dossier.stage not in known
    ]
    owed = ""
    if dossier.stage in OWING:
        # Without the provider's book, all of it.
        owed_minor = dossier.kept_minor if dossier.payment is not None else order.total_minor
        owed = f"; owed to the customer: {owed_minor} {order.currency_code}"
    elif dossier.stage in _DUE_IN:
        owed = f"; due from the customer: {order.total_minor} {order.currency_code}"
    message = (
        f"the saga is {course.state}, the order {order.state}: {why}; open: {', '.join(is_open) or 'the cart'}{owed}"
    )
    yield Fault("with-the-operator", message)


def stuck(dossier: Dossier) -> Iterator[Fault]:
    """What an operator should look at: a saga that takes too long, or whose owner is gone."""
    course = dossier.saga
    if course is None or dossier.rests or dossier.is_parked:
        return
    age = dossier.now - course.create_time
    if age > _STUCK_AFTER:
        minutes = int(age.total_seconds() // 60)
        message = f"the saga is {course.state} after {minutes} minutes, {course.attempts} attempts; {course.last_error}"
        yield Fault("saga-stuck", message.rstrip("; "))
    if course.owner and not _lives(dossier, course.owner):
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
    told = {amount.currency_code for amount in (answered.total, answered.subtotal)}
    if told != {order.currency_code}:
        yield Fault(
            "answer-currency-differs",
            f"the stored answer says {'/'.join(sorted(told))}, the order {order.currency_code}",
        )
    state = state_name(answered.state)
    if state not in {event.state for event in dossier.events}:
        yield Fault("answer-state-differs", f"the stored answer says {state}, which the order never was")


def _lives(dossier: Dossier, owner: str, *, after: timedelta = timedelta()) -> bool:
    return owner in dossier.leases and dossier.leases[owner] + after > dossier.now


def _is_left(dossier: Dossier) -> bool:
    """Whether nobody took the saga over although there is somebody, and was time enough."""
    course = dossier.saga
    if course is None or dossier.rests or dossier.is_parked or _lives(dossier, course.owner, after=_TAKEN_OVER_WITHIN):
        return False
    return any(_lives(dossier, owner) for owner in dossier.leases)


def _end(row: Row[Any]) -> str:
    return f"{row.state} {row.reason}".rstrip()
