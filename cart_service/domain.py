"""Carts and the few commands that change them: rules without a clock, a database or a network.

`decide` judges a whole batch in the order of arrival, as if each command had been alone: what the store loads goes in,
what it writes back comes out. Nothing is changed in place, so a batch may be decided again.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from mesh.errors import Failure, FieldViolation, Kind, invalid

MAX_QUANTITY = 10_000
MAX_LINES = 200


@dataclass(frozen=True, slots=True)
class Line:
    """One SKU of a cart. `position` is the version of the cart that first added it; lines stand in that order."""

    sku: str
    quantity: int
    position: int


@dataclass(frozen=True, slots=True)
class Cart:
    """What somebody means to buy. Version 0 is a cart that does not exist yet; no customer_id means a guest's."""

    cart_id: str
    customer_id: str = ""
    version: int = 0
    lines: Mapping[str, Line] = field(default_factory=dict)
    update_time: datetime | None = None

    def is_visible_to(self, customer_id: str) -> bool:
        """Whether a caller may know of it: a guest's cart anybody who has the id, a bound one its customer alone."""
        return self.customer_id in ("", customer_id)


@dataclass(frozen=True, slots=True)
class View:
    """One cart as one caller sees it; customer_id is empty for a guest."""

    cart_id: str
    customer_id: str

    def of(self, carts: Mapping[str, Cart]) -> Cart:
        """The cart, or an empty one of version 0 in place of one that is absent or somebody else's."""
        cart = carts.get(self.cart_id)
        return cart if cart is not None and cart.is_visible_to(self.customer_id) else Cart(self.cart_id)


@dataclass(frozen=True, slots=True)
class AddItem:
    """Add `quantity` of a SKU, once per key. `available` is what stock was seen, None for a SKU that is not sold."""

    cart_id: str
    customer_id: str
    sku: str
    quantity: int
    key: str
    available: int | None

    @property
    def may_create(self) -> bool:
        """Whether the command would succeed on an absent cart, and so bring it into being."""
        return self.available is not None and self.quantity <= self.available


@dataclass(frozen=True, slots=True)
class SetItemQuantity:
    """Make the quantity of a SKU `quantity`; `available` as in AddItem."""

    cart_id: str
    customer_id: str
    sku: str
    quantity: int
    available: int | None

    @property
    def may_create(self) -> bool:
        """As in AddItem."""
        return self.available is not None and self.quantity <= self.available


@dataclass(frozen=True, slots=True)
class RemoveItem:
    """Take a SKU out."""

    cart_id: str
    customer_id: str
    sku: str


@dataclass(frozen=True, slots=True)
class ClearCart:
    """Take everything out."""

    cart_id: str
    customer_id: str


@dataclass(frozen=True, slots=True)
class Settle:
    """Subtract what an order bought, per SKU, never below zero, once per order. Whose cart it is does not matter.

    `version` is the cart's that the order was made of; 0 if that is not known.
    """

    cart_id: str
    order_id: str
    bought: Mapping[str, int]
    version: int = 0


Command = AddItem | SetItemQuantity | RemoveItem | ClearCart | Settle
Outcome = Cart | Failure


@dataclass(frozen=True, slots=True)
class Books:
    """All that a batch is decided on: the carts it names, and which of its keys and orders have had their effect."""

    carts: dict[str, Cart]
    # (cart_id, key) -> (sku, quantity)
    additions: dict[tuple[str, str], tuple[str, int]]
    # order_id -> cart_id
    settlements: dict[str, str]

    def copy(self) -> "Books":
        """The same, to be written on."""
        return Books(dict(self.carts), dict(self.additions), dict(self.settlements))


def decide(before: Books, commands: Sequence[Command], *, at: datetime | None) -> tuple[Books, list[Outcome]]:
    """Apply the commands in their order; answer the books afterwards and each command's cart or Failure.

    A command that fails or changes nothing leaves its cart as it was; every other counts the version up by one.
    """
    after = before.copy()
    return after, [_outcome(after, command, at) for command in commands]


def apply(cart: Cart, command: Command, *, at: datetime | None) -> Cart:
    """The cart after the command: the same one if nothing changes. Keys and who may write are `decide`'s business.

    A customer's first write to a guest's cart binds it, which is a change of its own. Raises Failure NOT_FOUND
    PRODUCT_NOT_FOUND, INVALID_ARGUMENT for more than MAX_QUANTITY of one SKU, FAILED_PRECONDITION CART_FULL or
    OUT_OF_STOCK.
    """
    lines = _lines_after(cart, command)
    bound_to = cart.customer_id or ("" if isinstance(command, Settle) else command.customer_id)
    if lines == cart.lines and (bound_to == cart.customer_id or not cart.version):
        return cart
    return replace(cart, lines=lines, customer_id=bound_to, version=cart.version + 1, update_time=at)


def _lines_after(cart: Cart, command: Command) -> Mapping[str, Line]:
    match command:
        case AddItem(sku=sku, quantity=quantity):
            return _with_quantity(cart, command, _quantity(cart, sku) + quantity)
        case SetItemQuantity(quantity=quantity):
            return _with_quantity(cart, command, quantity)
        case RemoveItem(sku=sku):
            return _less(cart, {sku: _quantity(cart, sku)})
        case ClearCart():
            return {}
        case Settle(bought=bought):
            return _less(cart, bought)


def _outcome(books: Books, command: Command, at: datetime | None) -> Outcome:
    cart = books.carts.get(command.cart_id, Cart(command.cart_id))
    try:
        if _has_had_effect(books, cart, command):
            return cart
        changed = apply(cart, command, at=at)
    except Failure as failure:
        return failure
    if changed is not cart:
        books.carts[cart.cart_id] = changed
    match command:
        case AddItem(key=key, sku=sku, quantity=quantity):
            books.additions[cart.cart_id, key] = (sku, quantity)
        case Settle(order_id=order_id):
            books.settlements[order_id] = cart.cart_id
    return changed


def _has_had_effect(books: Books, cart: Cart, command: Command) -> bool:
    if isinstance(command, Settle):
        return command.order_id in books.settlements
    require_visible(cart, command.customer_id)
    if not isinstance(command, AddItem):
        return False
    earlier = books.additions.get((cart.cart_id, command.key))
    if earlier not in (None, (command.sku, command.quantity)):
        message = "This request_id was used for another SKU or quantity."
        metadata = {"request_id": command.key}
        raise Failure(Kind.ALREADY_EXISTS, "IDEMPOTENCY_KEY_REUSED", message, metadata=metadata)
    return earlier is not None


def require_visible(cart: Cart, customer_id: str) -> None:
    """Raise NOT_FOUND CART_NOT_FOUND when the cart belongs to somebody else."""
    if not cart.is_visible_to(customer_id):
        raise Failure(Kind.NOT_FOUND, "CART_NOT_FOUND", "There is no such cart.")


def _with_quantity(cart: Cart, command: AddItem | SetItemQuantity, quantity: int) -> Mapping[str, Line]:
    sku = command.sku
    if command.available is None:
        raise Failure(Kind.NOT_FOUND, "PRODUCT_NOT_FOUND", "No such product is sold.", metadata={"sku": sku})
    if quantity > MAX_QUANTITY:
        raise invalid(FieldViolation("quantity", f"a cart holds at most {MAX_QUANTITY} of one SKU"))
    if sku not in cart.lines and len(cart.lines) >= MAX_LINES:
        raise Failure(Kind.FAILED_PRECONDITION, "CART_FULL", f"A cart holds at most {MAX_LINES} different SKUs.")
    if quantity > command.available:
        metadata = {"sku": sku, "requested": str(quantity), "available": str(command.available)}
        raise Failure(Kind.FAILED_PRECONDITION, "OUT_OF_STOCK", "There is not enough in stock.", metadata=metadata)
    present = cart.lines.get(sku)
    line = replace(present, quantity=quantity) if present else Line(sku, quantity, position=cart.version + 1)
    return {**cart.lines, sku: line}


def _less(cart: Cart, taken: Mapping[str, int]) -> Mapping[str, Line]:
    return {
        sku: replace(line, quantity=line.quantity - taken.get(sku, 0))
        for sku, line in cart.lines.items()
        if line.quantity > taken.get(sku, 0)
    }


def _quantity(cart: Cart, sku: str) -> int:
    line = cart.lines.get(sku)
    return line.quantity if line else 0
