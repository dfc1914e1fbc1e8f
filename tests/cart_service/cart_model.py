"""Carts as a dict would keep them: one command after the other, no database, no batches."""

from dataclasses import dataclass, field
from datetime import datetime, timedelta

# What a command was answered: "ok", or the reason of its failure.
Answer = str
KEYS_KEPT = timedelta(days=30)


@dataclass
class CartEntry:
    """One cart that exists."""

    owner: str = ""
    version: int = 0
    items: dict[str, int] = field(default_factory=dict)
    changed: datetime | None = None


@dataclass
class CartModel:
    """What the cart service must seem to be. `stock` is what can be bought of each SKU that is sold."""

    now: datetime
    stock: dict[str, int]
    carts: dict[str, CartEntry] = field(default_factory=dict)
    # (cart, key) -> what was added under it, and when; order -> when it was settled.
    additions: dict[tuple[str, str], tuple[str, int, datetime]] = field(default_factory=dict)
    settled: dict[str, datetime] = field(default_factory=dict)

    def seen_by(self, who: str, cart_id: str) -> CartEntry | None:
        """The cart if this caller may know of it; an absent one is empty."""
        cart = self.carts.get(cart_id, CartEntry())
        return cart if cart.owner in ("", who) else None

    def add(self, who: str, cart_id: str, sku: str, quantity: int, key: str) -> Answer:
        """Add to the quantity of a SKU, once per key."""
        cart = self.seen_by(who, cart_id)
        if cart is None:
            return "CART_NOT_FOUND"
        *earlier, _ = self.additions.get((cart_id, key), (None, None, None))
        if earlier != [None, None]:
            return "ok" if earlier == [sku, quantity] else "IDEMPOTENCY_KEY_REUSED"
        answer = self.put(who, cart_id, sku, cart.items.get(sku, 0) + quantity)
        if answer == "ok":
            self.additions[cart_id, key] = (sku, quantity, self.now)
        return answer

    def put(self, who: str, cart_id: str, sku: str, quantity: int) -> Answer:
        """Make the quantity of a SKU this one."""
        cart = self.seen_by(who, cart_id)
        if cart is None:
            return "CART_NOT_FOUND"
        if sku not in self.stock:
            return "PRODUCT_NOT_FOUND"
        if quantity > self.stock[sku]:
            return "OUT_OF_STOCK"
        self._change(who, cart_id, {**cart.items, sku: quantity})
        return "ok"

    def remove(self, who: str, cart_id: str, *skus: str) -> Answer:
        """Take SKUs out."""
        cart = self.seen_by(who, cart_id)
        if cart is None:
            return "CART_NOT_FOUND"
        self._change(who, cart_id, {sku: units for sku, units in cart.items.items() if sku not in skus})
        return "ok"

    def settle(self, order_id: str, cart_id: str, bought: dict[str, int]) -> None:
        """Subtract what an order bought, never below zero, once."""
        if order_id in self.settled:
            return
        self.settled[order_id] = self.now
        cart = self.carts.get(cart_id, CartEntry())
        left = {sku: units - bought.get(sku, 0) for sku, units in cart.items.items()}
        self._change(cart.owner, cart_id, {sku: units for sku, units in left.items() if units > 0})

    def forget(self, ttl: timedelta) -> None:
        """Forget carts that nobody changed for so long, and keys as old, but never of the last 30 days."""
        before, keys_before = self.now - ttl, self.now - max(ttl, KEYS_KEPT)
        self.carts = {key: cart for key, cart in self.carts.items() if cart.changed and cart.changed >= before}
        self.additions = {key: entry for key, entry in self.additions.items() if entry[2] >= keys_before}
        self.settled = {key: at for key, at in self.settled.items() if at >= keys_before}

    def _change(self, who: str, cart_id: str, items: dict[str, int]) -> None:
        cart = self.carts.get(cart_id, CartEntry())
        owner = cart.owner or who
        # The first write of somebody who signed in binds a cart; one that does not exist has nothing to bind.
        if list(items.items()) == list(cart.items.items()) and (owner == cart.owner or not cart.version):
            return
        self.carts[cart_id] = CartEntry(owner, cart.version + 1, items, self.now)
