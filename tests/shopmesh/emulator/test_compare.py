"""What a cart has to hold in the end follows from the journal."""

from shopmesh.audit.journal import CART, ORDER, Entry
from shopmesh.emulator.compare import last_cart


def cart(**items: int) -> Entry:
    return Entry(kind=CART, customer="customer-1", cart_id="cart-1", items=items)


def order(order_id: str, state: str, **items: int) -> Entry:
    return Entry(kind=ORDER, customer="customer-1", order_id=order_id, state=state, items=items)


def test_who_never_filled_a_cart_has_none() -> None:
    assert last_cart([]) == ("", {})


def test_the_last_change_counts() -> None:
    assert last_cart([cart(tea=1), cart(tea=2, cup=1)]) == ("cart-1", {"tea": 2, "cup": 1})


def test_what_was_paid_has_left_once_however_often_it_was_told() -> None:
    paid = order("order-1", "PAID", tea=2)
    assert last_cart([cart(tea=3, cup=1), paid, paid]) == ("cart-1", {"tea": 1, "cup": 1})


def test_what_was_not_paid_stays() -> None:
    assert last_cart([cart(tea=1), order("order-1", "PAYMENT_FAILED", tea=1)]) == ("cart-1", {"tea": 1})


def test_what_is_added_after_a_purchase_is_told_by_the_cart_itself() -> None:
    assert last_cart([cart(tea=1), order("order-1", "PAID", tea=1), cart(cup=1)]) == ("cart-1", {"cup": 1})
