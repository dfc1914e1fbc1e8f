"""Whatever is asked of carts in whatever order, by whomever: the service answers as a model without a database does."""

import asyncio
from collections.abc import Coroutine, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, precondition, rule, run_state_machine_as_test

from cart_service import store
from cart_service.app import MIGRATIONS
from cart_service.catalogue import Catalogue
from cart_service.domain import Settle, View
from cart_service.service import CartService
from mesh.cache import MemoryCache
from mesh.caller import GUEST, Caller, Tier
from mesh.db import Database
from mesh.errors import Failure
from tests.cart_service.cart_model import CartEntry, CartModel
from tests.cart_service.shelf import Shelf
from tests.support.stateful import ServiceMachine, make_template

CART_IDS = ("00000000-0000-4000-8000-000000000001", "00000000-0000-4000-8000-000000000002")
CALLERS = {"": GUEST, "ann": Caller(Tier.CUSTOMER, "ann"), "bob": Caller(Tier.CUSTOMER, "bob")}
TTL = timedelta(days=7)

who = st.sampled_from(sorted(CALLERS))
cart_ids = st.sampled_from(CART_IDS)
skus = st.sampled_from(["apple", "pear", "fig"])
quantities = st.integers(1, 4)
keys = st.sampled_from(["k1", "k2", "k3"])
settlements = st.builds(
    Settle, cart_ids, st.sampled_from(["o1", "o2", "o3"]), st.dictionaries(skus, quantities, min_size=1)
)


class Carts(ServiceMachine):
    """Guests and two customers at two carts, orders that are settled, stock that changes, and time."""

    service: CartService
    model: CartModel

    async def open(self) -> None:
        self.kept: Database = await self.database()
        self.shelf = Shelf()
        self.service = CartService(self.kept, Catalogue(self.shelf, MemoryCache()), clock=self.clock)
        self.model = CartModel(self.now, {})

    async def close(self) -> None:
        await self.service.close()
        await self.kept.close()

    @initialize()
    def there_is_stock(self) -> None:
        self.stock_changes("apple", 5)
        self.stock_changes("pear", 9)

    @rule(sku=skus, available=st.integers(0, 9))
    def stock_changes(self, sku: str, available: int) -> None:
        self.shelf.put(sku, available)
        self.model.stock[sku] = available

    @rule(who=who, cart_id=cart_ids, sku=skus, quantity=quantities, key=keys)
    def add(self, who: str, cart_id: str, sku: str, quantity: int, key: str) -> None:
        call = self.service.add_item(CALLERS[who], cart_id, sku, quantity=quantity, request_id=key)
        assert self.told(call) == self.model.add(who, cart_id, sku, quantity, key)

    @rule(who=who, cart_id=cart_ids, sku=skus, quantity=quantities)
    def put(self, who: str, cart_id: str, sku: str, quantity: int) -> None:
        call = self.service.set_item_quantity(CALLERS[who], cart_id, sku, quantity=quantity)
        assert self.told(call) == self.model.put(who, cart_id, sku, quantity)

    @rule(who=who, cart_id=cart_ids, sku=skus)
    def remove(self, who: str, cart_id: str, sku: str) -> None:
        call = self.service.remove_item(CALLERS[who], cart_id, sku)
        assert self.told(call) == self.model.remove(who, cart_id, sku)

    @rule(who=who, cart_id=cart_ids)
    def clear(self, who: str, cart_id: str) -> None:
        call = self.service.clear_cart(CALLERS[who], cart_id)
        assert self.told(call) == self.model.remove(who, cart_id, "apple", "pear", "fig")

    @rule(batch=st.lists(settlements, min_size=1, max_size=3))
    def orders_are_settled(self, batch: list[Settle]) -> None:
        self.run(self.service.batch_settle_carts(batch))
        for each in batch:
            self.model.settle(each.order_id, each.cart_id, dict(each.bought))

    @rule(who=who, cart_id=cart_ids)
    def read(self, who: str, cart_id: str) -> None:
        [view] = self.run(self.service.batch_get_carts([View(cart_id, who)]))
        answer = self.told(self.service.get_cart(CALLERS[who], cart_id))
        cart = self.model.seen_by(who, cart_id)
        assert answer == ("ok" if cart is not None else "CART_NOT_FOUND")
        shown = cart or CartEntry()
        assert (view.version, view.customer_id) == (shown.version, shown.owner)
        assert [(line.sku, line.quantity) for line in view.lines.values()] == list(shown.items.items())

    @rule(cart_id=cart_ids, takers=st.lists(st.tuples(who, skus), min_size=2, max_size=4))
    def some_take_out_at_once(self, cart_id: str, takers: list[tuple[str, str]]) -> None:
        calls = [self.service.remove_item(CALLERS[who], cart_id, sku) for who, sku in takers]
        assert self.run(self.all_told(calls)) == [self.model.remove(who, cart_id, sku) for who, sku in takers]

    @precondition(lambda self: self.model.carts)
    @rule(days=st.sampled_from([1, 8, 31]))
    def days_pass(self, days: int) -> None:
        self.now += timedelta(days=days)
        self.model.now = self.now
        while self.run(self.service.delete_expired(ttl=TTL, at_most=2)):
            pass
        self.model.forget(TTL)

    @invariant()
    def the_database_is_what_the_model_has(self) -> None:
        found = self.run(
            self.kept.transact("look", lambda connection: store.read(connection, CART_IDS), read_only=True)
        )
        carts = {
            cart_id: CartEntry(
                cart.customer_id,
                cart.version,
                {line.sku: line.quantity for line in cart.lines.values()},
                cart.update_time,
            )
            for cart_id, cart in found.items()
            if cart.version
        }
        assert carts == self.model.carts

    def told(self, call: Coroutine[Any, Any, object]) -> str:
        [answer] = self.run(self.all_told([call]))
        return answer

    async def all_told(self, calls: Sequence[Coroutine[Any, Any, object]]) -> list[str]:
        answers = await asyncio.gather(*calls, return_exceptions=True)
        unexpected = [each for each in answers if isinstance(each, BaseException) and not isinstance(each, Failure)]
        assert not unexpected
        return [each.reason if isinstance(each, Failure) else "ok" for each in answers]


def test_any_sequence_of_commands_does_what_the_model_does(tmp_path: Path) -> None:
    class CartsHere(Carts):
        template = make_template(tmp_path / "template.db", MIGRATIONS)

    run_state_machine_as_test(CartsHere, settings=settings(max_examples=40, stateful_step_count=30, deadline=None))
