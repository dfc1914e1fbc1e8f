from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cart_service.domain import (
    MAX_LINES,
    MAX_QUANTITY,
    AddItem,
    Books,
    Cart,
    ClearCart,
    Command,
    Outcome,
    RemoveItem,
    SetItemQuantity,
    Settle,
    View,
    apply,
    decide,
)
from mesh.errors import Failure, Kind

NOW = datetime(2025, 1, 1, tzinfo=UTC)
LATER = datetime(2025, 1, 2, tzinfo=UTC)
CART = "c1"
PLENTY = 1_000_000


def add(
    sku: str = "apple", quantity: int = 1, *, by: str = "", key: str = "k1", available: int | None = PLENTY
) -> AddItem:
    return AddItem(CART, by, sku, quantity, key=key, available=available)


def put(sku: str = "apple", quantity: int = 1, *, by: str = "", available: int | None = PLENTY) -> SetItemQuantity:
    return SetItemQuantity(CART, by, sku, quantity, available=available)


def remove(sku: str = "apple", *, by: str = "") -> RemoveItem:
    return RemoveItem(CART, by, sku)


def clear(*, by: str = "") -> ClearCart:
    return ClearCart(CART, by)


def after(*commands: Command) -> Cart:
    """A cart to which all of these were done."""
    cart = Cart(CART)
    for command in commands:
        cart = apply(cart, command, at=NOW)
    return cart


def contents(cart: Cart) -> dict[str, int]:
    return {sku: line.quantity for sku, line in cart.lines.items()}


def outcomes(*commands: Command, books: Books | None = None) -> list[Outcome]:
    return decide(books or Books({}, {}, {}), commands, at=NOW)[1]


def refusal(cart: Cart, command: Command) -> Failure:
    with pytest.raises(Failure) as caught:
        apply(cart, command, at=NOW)
    return caught.value


def test_adding_increments_and_setting_replaces() -> None:
    assert contents(after(add(quantity=2), add(quantity=3))) == {"apple": 5}
    assert contents(after(add(quantity=2), put(quantity=3))) == {"apple": 3}


def test_lines_stand_in_the_order_of_first_addition() -> None:
    cart = after(add("pear"), add("apple"), add("pear"), add("fig"), remove("apple"), add("apple"))

    assert list(cart.lines) == ["pear", "fig", "apple"]
    assert [line.position for line in cart.lines.values()] == sorted(line.position for line in cart.lines.values())


def test_every_change_counts_the_version_up_by_one_and_says_when() -> None:
    cart = after(add(), put(quantity=7))

    changed = apply(cart, clear(), at=LATER)

    assert (cart.version, cart.update_time) == (2, NOW)
    assert (changed.version, changed.update_time) == (3, LATER)


@pytest.mark.parametrize("command", [remove("pear"), put(quantity=4), Settle(CART, "o1", {"pear": 1})])
def test_a_command_that_changes_nothing_answers_the_same_cart(command: Command) -> None:
    cart = after(add(quantity=4))

    assert apply(cart, command, at=LATER) is cart


@pytest.mark.parametrize("command", [remove(by="ann"), clear(by="ann"), Settle(CART, "o1", {"apple": 1})])
def test_taking_from_an_absent_cart_leaves_it_absent(command: Command) -> None:
    absent = Cart(CART)

    assert apply(absent, command, at=NOW) is absent


def test_a_customers_first_write_binds_a_guests_cart_and_is_a_change() -> None:
    guests = after(add(quantity=4))

    bound = apply(guests, put(quantity=4, by="ann"), at=LATER)

    assert bound.customer_id == "ann"
    assert bound.version == 2


@pytest.mark.parametrize("command", [add(by="bob"), put(by="bob"), remove(by="bob"), clear(by="bob"), clear(by="")])
def test_a_bound_cart_is_not_found_by_anybody_else(command: Command) -> None:
    bound = after(add(by="ann"))

    books, [outcome] = decide(Books({CART: bound}, {}, {}), [command], at=LATER)

    assert isinstance(outcome, Failure)
    assert (outcome.kind, outcome.reason) == (Kind.NOT_FOUND, "CART_NOT_FOUND")
    assert books.carts == {CART: bound}


def test_what_is_not_sold_is_not_found() -> None:
    failure = refusal(Cart(CART), add("ghost", available=None))

    assert (failure.kind, failure.reason, failure.metadata) == (Kind.NOT_FOUND, "PRODUCT_NOT_FOUND", {"sku": "ghost"})


@pytest.mark.parametrize("command", [add(quantity=2, available=5), put(quantity=6, available=5)])
def test_more_than_is_available_is_out_of_stock_and_says_how_much_there_is(command: Command) -> None:
    failure = refusal(after(add(quantity=4)), command)

    assert (failure.kind, failure.reason) == (Kind.FAILED_PRECONDITION, "OUT_OF_STOCK")
    assert failure.metadata == {"sku": "apple", "requested": "6", "available": "5"}


def test_all_that_is_available_may_be_added() -> None:
    assert contents(after(add(quantity=4), add(quantity=1, available=5))) == {"apple": 5}


def test_a_line_has_a_most() -> None:
    failure = refusal(after(add(quantity=MAX_QUANTITY)), add(quantity=1))

    assert failure.kind is Kind.INVALID_ARGUMENT
    assert [violation.field for violation in failure.fields] == ["quantity"]


@pytest.mark.survives("too-many-lines")
def test_a_cart_has_a_most_and_what_is_in_may_still_grow() -> None:
    full = after(*(add(f"sku-{n}") for n in range(MAX_LINES)))

    assert refusal(full, add("one-more")).reason == "CART_FULL"
    assert contents(apply(full, add("sku-0"), at=LATER))["sku-0"] == 2


def test_a_key_adds_once_and_its_repetition_answers_the_present_cart() -> None:
    first, other, repeated = outcomes(add(quantity=2, key="k1"), add(quantity=3, key="k2"), add(quantity=2, key="k1"))

    assert isinstance(first, Cart)
    assert contents(first) == {"apple": 2}
    assert repeated is other


def test_a_key_that_had_its_effect_is_good_even_when_the_shelf_is_empty_now() -> None:
    _, repeated = outcomes(add(), add(available=0))

    assert isinstance(repeated, Cart)


def test_a_key_that_failed_is_not_used_up() -> None:
    refused, added = outcomes(add(available=0), add())

    assert isinstance(refused, Failure)
    assert isinstance(added, Cart)


@pytest.mark.parametrize("other", [add("pear", 1), add("apple", 2)])
def test_a_key_reused_for_something_else_is_refused(other: AddItem) -> None:
    _, failure = outcomes(add("apple", 1), other)

    assert isinstance(failure, Failure)
    assert (failure.kind, failure.reason) == (Kind.ALREADY_EXISTS, "IDEMPOTENCY_KEY_REUSED")


def test_settling_takes_what_was_bought_once_and_leaves_later_additions() -> None:
    settle = Settle(CART, "o1", {"apple": 2, "pear": 5})
    *_, cart = outcomes(add("apple", 3, key="a"), add("pear", 4, key="b"), add("fig", key="c"), settle, settle)

    assert isinstance(cart, Cart)
    assert contents(cart) == {"apple": 1, "fig": 1}
    assert cart.version == 4


def test_settling_binds_nobody_and_works_on_a_bound_cart() -> None:
    *_, cart = outcomes(add(by="ann"), Settle(CART, "o1", {"apple": 1}))

    assert isinstance(cart, Cart)
    assert (cart.customer_id, contents(cart)) == ("ann", {})


def test_settling_an_unknown_cart_is_only_noted() -> None:
    books, _ = decide(Books({}, {}, {}), [Settle(CART, "o1", {"apple": 1})], at=NOW)

    assert books == Books({}, {}, {"o1": CART})


def test_deciding_changes_nothing_in_place() -> None:
    before = Books({CART: after(add())}, {}, {})
    copy = before.copy()

    decide(before, [add(key="k9"), clear(), Settle(CART, "o1", {"apple": 1})], at=LATER)

    assert before == copy


def test_a_view_shows_a_stranger_an_empty_cart() -> None:
    carts = {CART: after(add(by="ann"))}

    assert View(CART, "ann").of(carts).version == 1
    assert View(CART, "bob").of(carts) == Cart(CART)
    assert View(CART, "").of(carts) == Cart(CART)
    assert View("c2", "ann").of(carts) == Cart("c2")


SKUS = st.sampled_from(["apple", "pear", "fig"])
QUANTITIES = st.integers(1, 6)
COMMANDS = st.one_of(
    st.builds(add, SKUS, QUANTITIES, key=st.uuids().map(str), available=st.integers(0, 12)),
    st.builds(put, SKUS, QUANTITIES, available=st.integers(0, 12)),
    st.builds(remove, SKUS),
    st.builds(clear),
    st.builds(Settle, st.just(CART), st.sampled_from(["o1", "o2"]), st.dictionaries(SKUS, QUANTITIES)),
)


class Model:
    """A cart as a dict, one command at a time."""

    def __init__(self) -> None:
        self.items: dict[str, int] = {}
        self.settled: set[str] = set()

    def do(self, command: Command) -> bool:
        """Tell whether the command was accepted."""
        match command:
            case AddItem(sku=sku, quantity=quantity, available=available):
                return self._put(sku, self.items.get(sku, 0) + quantity, available)
            case SetItemQuantity(sku=sku, quantity=quantity, available=available):
                return self._put(sku, quantity, available)
            case RemoveItem(sku=sku):
                self.items.pop(sku, None)
            case ClearCart():
                self.items.clear()
            case Settle(order_id=order_id, bought=bought) if order_id not in self.settled:
                self.settled.add(order_id)
                self.items = {sku: n - bought.get(sku, 0) for sku, n in self.items.items() if n > bought.get(sku, 0)}
        return True

    def _put(self, sku: str, quantity: int, available: int | None) -> bool:
        if available is None or quantity > available:
            return False
        self.items[sku] = quantity
        return True


@given(st.lists(COMMANDS, max_size=20))
def test_a_batch_does_what_a_dict_would_one_command_at_a_time(commands: list[Command]) -> None:
    model = Model()
    version = 0

    for command, outcome in zip(commands, outcomes(*commands), strict=True):
        earlier = dict(model.items)
        assert model.do(command) == isinstance(outcome, Cart)
        # Order included: dicts keep the order of first addition too.
        version += list(earlier.items()) != list(model.items.items())
        if isinstance(outcome, Cart):
            assert list(contents(outcome).items()) == list(model.items.items())
            assert outcome.version == version
