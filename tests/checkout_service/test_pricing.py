"""What an order costs, exact to the minor unit."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from checkout_service.domain import CartView, Destination, Money, Product
from checkout_service.pricing import quote
from mesh.errors import Failure, Kind
from tests.checkout_service.build import cart, product

SKUS = ["apple", "book", "chair", "desk"]
PRODUCTS = st.fixed_dictionaries(
    {
        sku: st.builds(
            product,
            st.just(sku),
            st.integers(1, 10**12),
            category=st.sampled_from(["books", "tea", "tools"]),
            weight_grams=st.integers(0, 1_000_000),
        )
        for sku in SKUS
    }
)
CARTS = st.dictionaries(st.sampled_from(SKUS), st.integers(1, 10_000), min_size=1)
COUNTRIES = st.sampled_from(["DE", "AT", "FI", "FR", "DK", "US", "CH", "ZZ"])
# Of these countries, the standard rate in percent and the reduced one.
RATES = {"DE": ("19", "7"), "AT": ("20", "10"), "FI": ("25.5", "14"), "FR": ("20", "5.5"), "DK": ("25", "25")}


def priced(products: dict[str, Product], view: CartView, country: str = "DE") -> dict[str, int]:
    totals = quote(view, products, Destination(country), currency_code="EUR").totals
    return {"subtotal": totals.subtotal, "shipping": totals.shipping, "tax": totals.tax, "total": totals.total}


@given(PRODUCTS, CARTS, COUNTRIES)
def test_the_parts_add_up_and_nothing_is_lost(
    products: dict[str, Product], quantities: dict[str, int], country: str
) -> None:
    found = quote(cart(**quantities), products, Destination(country), currency_code="EUR")

    assert {line.sku: line.quantity for line in found.lines} == quantities
    assert found.totals.subtotal == sum(line.quantity * products[line.sku].price.minor_units for line in found.lines)
    parts = found.totals
    assert parts.total == parts.subtotal - parts.discount + parts.shipping + parts.tax
    assert all(type(part) is int and part >= 0 for part in (parts.subtotal, parts.discount, parts.shipping, parts.tax))


@given(PRODUCTS, CARTS, COUNTRIES)
def test_tax_is_each_rates_share_rounded_once_half_up(
    products: dict[str, Product], quantities: dict[str, int], country: str
) -> None:
    found = quote(cart(**quantities), products, Destination(country), currency_code="EUR")
    standard, reduced = (Fraction(rate) / 100 for rate in RATES.get(country, ("0", "0")))
    base = {standard: found.totals.shipping, reduced: 0} if standard != reduced else {standard: found.totals.shipping}
    for line in found.lines:
        base[reduced if products[line.sku].category != "tools" else standard] += line.total_minor

    assert found.totals.tax == sum(int(rate * amount + Fraction(1, 2)) for rate, amount in base.items())


@given(PRODUCTS, CARTS)
def test_the_same_cart_costs_the_same_in_whatever_order_it_was_filled(
    products: dict[str, Product], quantities: dict[str, int]
) -> None:
    backwards = dict(reversed(quantities.items()))

    assert priced(products, cart(**quantities)) == priced(products, cart(**backwards))


def test_lines_stand_in_byte_order_with_the_catalogues_prices() -> None:
    products = {"b": product("b", 250), "B": product("B", 100), "a": product("a", 333)}

    lines = quote(cart(b=1, a=3, B=2), products, Destination("DE"), currency_code="EUR").lines

    assert [(line.sku, line.quantity, line.unit_minor, line.total_minor) for line in lines] == [
        ("B", 2, 100, 200),
        ("a", 3, 333, 999),
        ("b", 1, 250, 250),
    ]
    assert lines[0].name == "The B"


@pytest.mark.parametrize(
    ("price_minor", "tax"),
    # 19 % of 490 for shipping and of the price: 93.10 + 0.19 * price.
    [(10, 95), (20, 97), (50, 103), (100, 112), (310, 152)],
)
def test_half_a_minor_unit_of_tax_rounds_up(price_minor: int, tax: int) -> None:
    assert priced({"mug": product("mug", price_minor)}, cart(mug=1))["tax"] == tax


@pytest.mark.parametrize(("country", "shipping"), [("DE", 490), ("AT", 990), ("FR", 990), ("CH", 2490), ("US", 2490)])
def test_shipping_goes_by_zone(country: str, shipping: int) -> None:
    assert priced({"mug": product("mug")}, cart(mug=1), country)["shipping"] == shipping


@pytest.mark.parametrize(
    ("weight_grams", "steps"), [(0, 1), (1, 1), (10_000, 1), (10_001, 2), (20_000, 2), (20_001, 3)]
)
def test_shipping_is_paid_for_every_started_ten_kilograms(weight_grams: int, steps: int) -> None:
    heavy = {"anvil": product("anvil", weight_grams=weight_grams)}

    assert priced(heavy, cart(anvil=1))["shipping"] == steps * 490


def test_the_weight_is_that_of_all_units() -> None:
    assert priced({"mug": product("mug", weight_grams=4_000)}, cart(mug=5))["shipping"] == 2 * 490


def test_books_are_taxed_less_and_exports_not_at_all() -> None:
    products = {"book": product("book", 10_000, category="books")}

    assert priced(products, cart(book=1), "DE")["tax"] == 700 + 93
    assert priced(products, cart(book=1), "US")["tax"] == 0


def test_an_empty_cart_costs_nothing_because_it_cannot_be_bought() -> None:
    assert refusal(cart()) == (Kind.FAILED_PRECONDITION, "CART_EMPTY", {})


def test_a_product_that_is_no_longer_sold_is_named() -> None:
    assert refusal(cart(mug=1, ghost=1)) == (Kind.NOT_FOUND, "PRODUCT_NOT_FOUND", {"sku": "ghost"})


def test_a_price_in_another_currency_is_refused() -> None:
    assert refusal(cart(kettle=1)) == (Kind.FAILED_PRECONDITION, "CURRENCY_MISMATCH", {"sku": "kettle"})


def refusal(view: CartView) -> tuple[Kind, str, dict[str, str]]:
    products = {"mug": product("mug"), "kettle": Product("kettle", "Kettle", "tools", Money("USD", 100), 1)}
    with pytest.raises(Failure) as caught:
        priced(products, view)
    return caught.value.kind, caught.value.reason, dict(caught.value.metadata)
