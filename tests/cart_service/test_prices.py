from cart_service.domain import Cart, Line
from cart_service.prices import Money, PricedCart, Product

APPLE = Product("apple", "Apple", Money("EUR", 50))
PEAR = Product("pear", "Pear", Money("EUR", 75))
YUZU = Product("yuzu", "Yuzu", Money("JPY", 300))


def priced(quantities: dict[str, int], *products: Product) -> PricedCart:
    lines = {sku: Line(sku, quantity, n) for n, (sku, quantity) in enumerate(quantities.items())}
    return PricedCart(Cart("c1", lines=lines), {product.sku: product for product in products})


def test_the_subtotal_is_the_sum_of_the_lines() -> None:
    assert priced({"apple": 2, "pear": 3}, APPLE, PEAR).subtotal == Money("EUR", 325)


def test_a_line_without_a_price_is_left_out() -> None:
    assert priced({"apple": 2, "gone": 3}, APPLE).subtotal == Money("EUR", 100)


def test_there_is_no_subtotal_of_nothing_or_of_several_currencies() -> None:
    assert priced({}).subtotal is None
    assert priced({"gone": 1}).subtotal is None
    assert priced({"apple": 1, "yuzu": 1}, APPLE, YUZU).subtotal is None
