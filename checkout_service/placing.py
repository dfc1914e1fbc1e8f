"""Writing new orders: one transaction for all that were placed while the last one was in flight.

In it each order gets its key (once for ever), its cart's claim (one order under way), its rows and its saga. A refusal
leaves nothing behind, not even the key.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from checkout_service import saga_store, store
from checkout_service.domain import GUEST, CartView, Order, OrderState, PlaceOrder, Quote
from checkout_service.saga import Course, Saga, SagaState
from checkout_service.store import Claim
from mesh.db import Connection, Database
from mesh.errors import Failure, Kind
from mesh.moment import Moment, fix_moment


@dataclass(frozen=True, slots=True)
class NewOrder:
    """An order about to be written, with the cart and the quote that it comes from."""

    order_id: str
    request: PlaceOrder
    cart: CartView
    quote: Quote


@dataclass(frozen=True, slots=True)
class KeyTaken:
    """The request's key stands for an order already; there is nothing to write."""


@dataclass(frozen=True, slots=True)
class CartOutdated:
    """The cart was read before its last order was settled: read it again."""


Placed = Course | KeyTaken | CartOutdated


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """Who begins the orders, when (about now, by the database's clock), and how long their customers have to pay."""

    owner: str
    at: datetime
    time_to_pay: timedelta


async def place_orders(
    database: Database, wishes: Sequence[NewOrder], *, claimed: Collection[str], terms: Terms
) -> list[Placed | Failure]:
    """Write the orders; each answers for itself: a Course that stands, or why there is none. Idempotent by order_id.

    `claimed` are the carts that have a claim already, if only a free one. Orders of other carts, under keys that nobody
    has used, are most: they are written without another look.
    """
    if not wishes:
        return []
    at: datetime | None = None

    async def believing(connection: Connection) -> list[Placed | Failure]:
        nonlocal at
        at = terms.at
        courses = [_received(wish, terms, at=at) for wish in wishes]
        claims = [Claim(wish.request.cart_id, wish.order_id, 0) for wish in wishes]
        await store.take_new_keys(connection, _keys(wishes), claims, at)
        await store.insert_orders(connection, [(course.order, course.saga) for course in courses])
        return list(courses)

    async def looking(connection: Connection) -> list[Placed | Failure]:
        nonlocal at
        repeated = at is not None
        # A repetition after a lost COMMIT must come to the same rows, so the time is taken once.
        moment = Moment(at) if at else await fix_moment(connection)
        first = {wish.request.key: wish for wish in reversed(wishes)}
        cart_ids = [wish.request.cart_id for wish in wishes]
        standing, claims, at = await store.take_keys(connection, _keys(first.values()), cart_ids, moment)
        ours = [wish for wish in wishes if standing[wish.request.key] == wish.order_id]
        # What a lost COMMIT did write may have moved on since, and even ended: it is not judged again.
        written = await _written(connection, ours) if repeated else {}
        fresh = [wish for wish in ours if wish.order_id not in written]
        results = _judge(fresh, claims, terms, at=at)
        refused = [wish.request.key for wish in fresh if not isinstance(results[wish.order_id], Course)]
        await store.give_keys_back(connection, refused)
        courses = [course for course in results.values() if isinstance(course, Course)]
        taken = [Claim(o.cart_id, o.order_id, claims[o.cart_id].ordered_version) for o in (c.order for c in courses)]
        await store.write_claims(connection, taken, at)
        await store.insert_orders(connection, [(course.order, course.saga) for course in courses])
        return [_own_or_shared(wish, first[wish.request.key], {**results, **written}) for wish in wishes]

    is_new = _look_new(wishes, claimed)
    return await database.transact("place_orders", looking, believing=believing if is_new else None, own_task=False)


def _look_new(wishes: Sequence[NewOrder], claimed: Collection[str]) -> bool:
    keys, carts = {wish.request.key for wish in wishes}, {wish.request.cart_id for wish in wishes}
    return len(keys) == len(carts) == len(wishes) and carts.isdisjoint(claimed)


def _keys(wishes: Iterable[NewOrder]) -> dict[str, tuple[str, str]]:
    """What stands under each key from now on: the order and what was asked."""
    return {wish.request.key: (wish.order_id, wish.request.fingerprint) for wish in wishes}


async def _written(connection: Connection, wishes: Sequence[NewOrder]) -> dict[str, Course]:
    """The orders of these wishes that stand already, by order_id."""
    courses = await saga_store.read_courses(connection, [wish.order_id for wish in wishes])
    return {course.order.order_id: course for course in courses}


def _judge(
    wishes: Sequence[NewOrder], claims: Mapping[str, Claim], terms: Terms, *, at: datetime
) -> dict[str, Placed | Failure]:
    """What becomes of each wish whose key is its own, in the order of arrival, by order_id."""
    results: dict[str, Placed | Failure] = {}
    holder = {cart_id: claim.order_id for cart_id, claim in claims.items()}
    for wish in wishes:
        cart_id = wish.request.cart_id
        if holder[cart_id] not in ("", wish.order_id):
            results[wish.order_id] = _in_progress(holder[cart_id])
        elif wish.cart.version <= claims[cart_id].ordered_version:
            results[wish.order_id] = CartOutdated()
        else:
            holder[cart_id] = wish.order_id
            results[wish.order_id] = _received(wish, terms, at=at)
    return results


def _own_or_shared(wish: NewOrder, first: NewOrder, results: Mapping[str, Placed | Failure]) -> Placed | Failure:
    """A wish's own result; for one that came with the key of a wish before it, that one's refusal if it was refused."""
    if wish.order_id in results:
        return results[wish.order_id]
    shared = results.get(first.order_id, KeyTaken())
    return KeyTaken() if isinstance(shared, Course) else shared


def _in_progress(order_id: str) -> Failure:
    message = "This cart has an order under way."
    return Failure(Kind.ABORTED, "CHECKOUT_IN_PROGRESS", message, metadata={"order_id": order_id})


def _received(wish: NewOrder, terms: Terms, *, at: datetime) -> Course:
    request = wish.request
    actor = request.caller_id or GUEST
    order = Order(
        order_id=wish.order_id,
        key=request.key,
        state=OrderState.RECEIVED,
        reason="",
        sequence=1,
        lines=wish.quote.lines,
        totals=wish.quote.totals,
        cart_id=request.cart_id,
        cart_version=wish.cart.version,
        customer_id=request.caller_id,
        destination=request.destination,
        promotion_codes=request.promotion_codes,
        source=request.source,
        notes=request.notes,
        delivery_instructions=request.delivery_instructions,
        payment_id="",
        invoice_number="",
        create_time=at,
        update_time=at,
        created_by=actor,
        updated_by=actor,
    )
    saga = Saga(
        saga_id=wish.order_id,
        state=SagaState.RESERVING,
        epoch=1,
        owner=terms.owner,
        deadline=at + terms.time_to_pay,
        payment_token=request.payment_token,
        create_time=at,
        update_time=at,
    )
    return Course(saga, order)
