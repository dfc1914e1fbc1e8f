"""What an order costs: exact integers from the catalogue's prices, the destination and the weight. Pure.

Tax follows the destination country and the category; goods and shipping of one rate are summed before rounding, half a
minor unit rounds up. Outside the European Union no tax is charged (an export). The tables are the shop's and in its
currency; changing them changes only orders placed afterwards.
"""

from collections import Counter
from collections.abc import Mapping

from checkout_service.domain import CartView, Destination, OrderLine, Product, Quote, Totals, order_lines
from mesh.errors import Failure, Kind

_BASIS_POINTS = 10_000
# country -> (standard rate, reduced rate) in hundredths of a percent.
_TAX_RATES: Mapping[str, tuple[int, int]] = {
    "AT": (2000, 1000), "BE": (2100, 600), "BG": (2000, 900), "CY": (1900, 500), "CZ": (2100, 1200),
    "DE": (1900, 700), "DK": (2500, 2500), "EE": (2400, 900), "ES": (2100, 1000), "FI": (2550, 1400),
    "FR": (2000, 550), "GR": (2400, 1300), "HR": (2500, 1300), "HU": (2700, 1800), "IE": (2300, 900),
    "IT": (2200, 1000), "LT": (2100, 900), "LU": (1700, 800), "LV": (2100, 1200), "MT": (1800, 500),
    "NL": (2100, 900), "PL": (2300, 800), "PT": (2300, 600), "RO": (2100, 1100), "SE": (2500, 1200),
    "SI": (2200, 950), "SK": (2300, 1900),
}  # fmt: skip
_REDUCED_CATEGORIES = frozenset({"books", "chocolate", "coffee", "oils", "spices", "tea"})
_HOME = "DE"
# zone -> price in minor units for each started step of _WEIGHT_STEP_GRAMS.
_SHIPPING_STEP = {"home": 490, "union": 990, "world": 2490}
_WEIGHT_STEP_GRAMS = 10_000


def quote(cart: CartView, products: Mapping[str, Product], destination: Destination, *, currency_code: str) -> Quote:
    """What an order of this cart would cost. `products` holds what is sold of the cart's SKUs.

    Raises CART_EMPTY, PRODUCT_NOT_FOUND for a SKU that is no longer sold, CURRENCY_MISMATCH for one that is not priced
    in the shop's currency.
    """
    _check(cart, products, currency_code)
    lines = order_lines(cart, products)
    weight = sum(line.quantity * products[line.sku].weight_grams for line in lines)
    shipping = _shipping(destination.country, weight)
    totals = Totals(
        currency_code=currency_code,
        subtotal=sum(line.total_minor for line in lines),
        discount=0,
        shipping=shipping,
        tax=_tax(destination.country, lines, products, shipping),
    )
    return Quote(lines=lines, totals=totals)


def _check(cart: CartView, products: Mapping[str, Product], currency_code: str) -> None:
    if not cart.quantities:
        raise Failure(Kind.FAILED_PRECONDITION, "CART_EMPTY", "The cart is empty.")
    for sku in sorted(cart.quantities):
        if sku not in products:
            raise Failure(Kind.NOT_FOUND, "PRODUCT_NOT_FOUND", f"{sku} is not sold.", metadata={"sku": sku})
        if products[sku].price.currency_code != currency_code:
            message = f"{sku} is not priced in {currency_code}."
            raise Failure(Kind.FAILED_PRECONDITION, "CURRENCY_MISMATCH", message, metadata={"sku": sku})


def _shipping(country: str, weight_grams: int) -> int:
    zone = "home" if country == _HOME else "union" if country in _TAX_RATES else "world"
    steps = max(1, -(-weight_grams // _WEIGHT_STEP_GRAMS))
    return _SHIPPING_STEP[zone] * steps


def _tax(country: str, lines: tuple[OrderLine, ...], products: Mapping[str, Product], shipping: int) -> int:
    standard, reduced = _TAX_RATES.get(country, (0, 0))
    base_by_rate = Counter({standard: shipping})
    for line in lines:
        rate = reduced if products[line.sku].category in _REDUCED_CATEGORIES else standard
        base_by_rate[rate] += line.total_minor
    return sum((base * rate + _BASIS_POINTS // 2) // _BASIS_POINTS for rate, base in base_by_rate.items())
