"""The demo catalogue: the same everywhere, lawful as products, and enough of it."""

import re
from collections import Counter

from shopmesh.catalogue import FEW, FEW_SKUS, demo_products


def test_there_are_240_products_in_12_categories_and_always_the_same() -> None:
    products = demo_products()

    assert len({product.sku for product in products}) == 240
    assert set(Counter(product.category for product in products).values()) == {20}
    assert demo_products() == products


def test_every_product_is_one_that_the_catalogue_takes() -> None:
    for product in demo_products():
        assert re.fullmatch(r"[a-z0-9-]{1,64}", product.sku)
        assert re.fullmatch(r"[a-z0-9-]{1,64}", product.category)
        assert 0 < len(product.name) <= 200
        assert 0 < len(product.description) <= 4000
        assert product.price_minor > 0
        assert 0 < product.weight_grams <= 1_000_000


def test_a_few_products_are_scarce_and_the_others_are_not() -> None:
    stock = {product.sku: product.stock for product in demo_products()}

    assert {sku for sku, amount in stock.items() if amount == FEW} == FEW_SKUS
    assert len(FEW_SKUS) == 5
    assert all(amount >= 500 for sku, amount in stock.items() if sku not in FEW_SKUS)
