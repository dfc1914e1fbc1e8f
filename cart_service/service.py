"""What can be done with carts: one method per RPC. Writes of many callers share a transaction.

Carts are never cached: a read comes from the database, so whatever was acknowledged by one replica is seen by all. What
an order saw of its cart is believed once, when it is settled, and the database is asked whether it is so.
"""

import asyncio
from collections.abc import Mapping, Sequence
from datetime import timedelta
from functools import partial

from cart_service import store
from cart_service.catalogue import Catalogue
from cart_service.domain import (
    MAX_LINES,
    MAX_QUANTITY,
    AddItem,
    Cart,
    ClearCart,
    Command,
    RemoveItem,
    SetItemQuantity,
    Settle,
    View,
    require_visible,
)
from cart_service.prices import PricedCart, Product
from mesh.batch import GATHER_S, Batcher
from mesh.cache import Memory
from mesh.caller import Caller
from mesh.channel import current_deadline
from mesh.clock import Clock
from mesh.db import Database
from mesh.errors import Failure
from mesh.validate import Violations

MAX_BATCH = 1000
# Most carts that orders look at are settled soon after.
_SEEN_TTL_S = 60.0
_SEEN_AT_MOST = 10_000
# Keys against repetition are kept so long at least, whatever becomes of their carts. Why: docs/adr/0008.
KEYS_KEPT = timedelta(days=30)


class CartService:
    """The use cases. Make it on the running loop; `close` finishes what is under way."""

    def __init__(self, database: Database, catalogue: Catalogue, *, clock: Clock) -> None:
        self._database = database
        self._catalogue = catalogue
        self._clock = clock
        # As an order saw them: belief, not knowledge.
        self._seen: Memory[Cart] = Memory(max_entries=_SEEN_AT_MOST, clock=clock)
        self._reads: Batcher[str, Cart] = Batcher("cart reads", self._read, gather_s=GATHER_S)
        self._writes: Batcher[Command, Cart] = Batcher("cart writes", self._write, gather_s=GATHER_S)

    async def get_cart(self, caller: Caller, cart_id: str) -> PricedCart:
        """The cart; an absent one is empty and of version 0. Operators and services may read any.

        Raises INVALID_ARGUMENT, or NOT_FOUND CART_NOT_FOUND for one that is somebody else's.
        """
        _check(cart_id)
        cart = await self._reads.submit(cart_id, deadline=current_deadline())
        if not caller.is_operator:
            require_visible(cart, caller.customer_id)
        return await self._priced(cart)

    async def add_item(
        self, caller: Caller, cart_id: str, sku: str, *, quantity: int, request_id: str = ""
    ) -> PricedCart:
        """Add to the quantity of a SKU, once per request_id if there is one; a repetition answers the present cart.

        Raises INVALID_ARGUMENT, NOT_FOUND CART_NOT_FOUND or PRODUCT_NOT_FOUND, FAILED_PRECONDITION OUT_OF_STOCK or
        CART_FULL, ALREADY_EXISTS IDEMPOTENCY_KEY_REUSED, UNAVAILABLE when the stock cannot be learnt.
        """
        _check(cart_id, sku=sku, quantity=quantity, request_id=request_id)
        offer = await self._catalogue.offer(sku, deadline=current_deadline())
        available = offer.available if offer else None
        # Without the caller's key the request gets its own: a transaction may run again, the addition must not.
        key = request_id or self._clock.uuid7()
        command = AddItem(cart_id, caller.customer_id, sku, quantity, key=key, available=available)
        return await self._written(command, offer.product if offer else None)

    async def set_item_quantity(self, caller: Caller, cart_id: str, sku: str, *, quantity: int) -> PricedCart:
        """Make the quantity of a SKU this one, adding it if absent. Idempotent. Raises as add_item, but for keys."""
        _check(cart_id, sku=sku, quantity=quantity)
        offer = await self._catalogue.offer(sku, deadline=current_deadline())
        available = offer.available if offer else None
        command = SetItemQuantity(cart_id, caller.customer_id, sku, quantity, available=available)
        return await self._written(command, offer.product if offer else None)

    async def remove_item(self, caller: Caller, cart_id: str, sku: str) -> PricedCart:
        """Take a SKU out; nothing happens if it is not in. Idempotent. Raises INVALID_ARGUMENT, CART_NOT_FOUND."""
        _check(cart_id, sku=sku)
        return await self._written(RemoveItem(cart_id, caller.customer_id, sku))

    async def clear_cart(self, caller: Caller, cart_id: str) -> PricedCart:
        """Take everything out. Idempotent. Raises INVALID_ARGUMENT, NOT_FOUND CART_NOT_FOUND."""
        _check(cart_id)
        return await self._written(ClearCart(cart_id, caller.customer_id))

    async def batch_get_carts(self, views: Sequence[View]) -> list[Cart]:
        """Each cart as its caller sees it, without prices; absent or somebody else's: empty, of version 0."""
        _check_views(views)
        read = partial(store.read, cart_ids=[view.cart_id for view in views])
        carts = await self._database.transact("view carts", read, read_only=True)
        self._seen.set_many(carts, ttl_s=_SEEN_TTL_S)
        return [view.of(carts) for view in views]

    async def batch_settle_carts(self, settlements: Sequence[Settle]) -> list[Cart]:
        """Take out what orders bought, once per order. Idempotent: repeat it whole if any of it fails.

        Answers each settlement's cart as it stands then.
        """
        _check_settlements(settlements)
        settled: list[Cart] = []
        for outcome in await self._writes.submit_many(settlements, deadline=current_deadline()):
            if isinstance(outcome, Failure):
                raise outcome
            settled.append(outcome)
        return settled

    async def delete_expired(self, *, ttl: timedelta, at_most: int) -> int:
        """Delete carts that nobody changed for `ttl`, and keys as old but never of the last 30 days.

        At most so many of each in one transaction; answers how many were deleted.
        """
        delete = partial(store.delete_expired, ttl=ttl, keys_ttl=max(ttl, KEYS_KEPT), at_most=at_most)
        return await self._database.transact("delete expired carts", delete)

    async def close(self) -> None:
        """Refuse what comes, finish what waits."""
        await asyncio.gather(self._reads.close(), self._writes.close(), self._catalogue.close())

    async def _written(self, command: Command, product: Product | None = None) -> PricedCart:
        cart = await self._writes.submit(command, deadline=current_deadline())
        return await self._priced(cart, *([product] if product else []))

    async def _priced(self, cart: Cart, *known: Product) -> PricedCart:
        products = {product.sku: product for product in known}
        return PricedCart(cart, products | await self._catalogue.products(cart.lines.keys() - products.keys()))

    async def _read(self, cart_ids: Sequence[str]) -> list[Cart]:
        carts = await self._database.transact(
            "read carts", partial(store.read, cart_ids=cart_ids), read_only=True, own_task=False
        )
        return [carts.get(cart_id, Cart(cart_id)) for cart_id in cart_ids]

    async def _write(self, commands: Sequence[Command]) -> Sequence[Cart | Failure]:
        settling = [command for command in commands if isinstance(command, Settle)]
        seen = self._seen.get_many(command.cart_id for command in settling)
        # What was seen holds for one change.
        self._seen.delete_many(seen)
        is_belief = len(settling) == len(commands) and _take_something(settling, seen)
        return await self._database.transact(
            "write carts",
            partial(store.write, commands=commands),
            believing=partial(store.settle_seen, settling=settling, seen=seen) if is_belief else None,
            own_task=False,
        )


def _take_something(settling: Sequence[Settle], seen: Mapping[str, Cart]) -> bool:
    """Whether all carts were seen as their orders saw them, and each loses something to a settlement of its own."""
    return len(seen) == len(settling) and all(
        seen[one.cart_id].version == one.version and not seen[one.cart_id].lines.keys().isdisjoint(one.bought)
        for one in settling
    )


def _check(cart_id: str, *, sku: str | None = None, quantity: int | None = None, request_id: str | None = None) -> None:
    violations = Violations()
    violations.uuid("cart_id", cart_id)
    if sku is not None:
        violations.identifier("sku", sku)
    if quantity is not None:
        violations.between("quantity", quantity, low=1, high=MAX_QUANTITY)
    if request_id is not None:
        violations.identifier("request_id", request_id, optional=True)
    violations.raise_if_any()


def _check_views(views: Sequence[View]) -> None:
    violations = Violations()
    violations.count("views", len(views), most=MAX_BATCH, least=0)
    for n, view in enumerate(views):
        violations.uuid(f"views[{n}].cart_id", view.cart_id)
        violations.identifier(f"views[{n}].customer_id", view.customer_id, optional=True)
    violations.raise_if_any()


def _check_settlements(settlements: Sequence[Settle]) -> None:
    violations = Violations()
    violations.count("settlements", len(settlements), most=MAX_BATCH, least=0)
    for n, settlement in enumerate(settlements):
        violations.uuid(f"settlements[{n}].cart_id", settlement.cart_id)
        violations.identifier(f"settlements[{n}].order_id", settlement.order_id)
        _check_bought(violations, f"settlements[{n}].lines", settlement.bought)
    violations.raise_if_any()


def _check_bought(violations: Violations, field: str, bought: Mapping[str, int]) -> None:
    violations.count(field, len(bought), most=MAX_LINES)
    for n, (sku, quantity) in enumerate(bought.items()):
        violations.identifier(f"{field}[{n}].sku", sku)
        violations.between(f"{field}[{n}].quantity", quantity, low=1, high=MAX_QUANTITY)
