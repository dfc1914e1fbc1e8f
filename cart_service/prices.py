"""A cart at today's prices."""

from collections.abc import Mapping
from dataclasses import dataclass

from cart_service.domain import Cart


@dataclass(frozen=True, slots=True)
class Money:
    """An exact amount: ISO 4217 code and minor units."""

    currency_code: str
    minor_units: int


@dataclass(frozen=True, slots=True)
class Product:
    """What a cart shows of something that is sold."""

    sku: str
    name: str
    price: Money


@dataclass(frozen=True, slots=True)
class PricedCart:
    """A cart with what is known of its products; a SKU that is not sold, or not known now, is absent from them."""

    cart: Cart
    products: Mapping[str, Product]

    @property
    def subtotal(self) -> Money | None:
        """The sum of the lines that have a price; None without any, or when they are of several currencies."""
        priced = [(self.products[sku].price, line) for sku, line in self.cart.lines.items() if sku in self.products]
        currencies = {price.currency_code for price, _ in priced}
        if len(currencies) != 1:
            return None
        return Money(currencies.pop(), sum(price.minor_units * line.quantity for price, line in priced))
