"""Products: what they are made of, how they change, in which order they are listed."""

import enum
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from mesh.errors import Failure, Kind
from mesh.paging import aware_time, bounded_int
from mesh.validate import Violations

_CATEGORY = re.compile(r"[a-z0-9-]{1,64}", re.ASCII)
_CATEGORY_RULE = "must be 1 to 64 of the characters a-z 0-9 -"
_CURRENCY = re.compile(r"[A-Z]{3}", re.ASCII)
_NAME_LENGTH = 200
_DESCRIPTION_LENGTH = 4000
_SEARCH_LENGTH = 100
_MOST_GRAMS = 1_000_000
# So that the largest order, 200 lines of 10,000, still sums up within 64 bits.
_MOST_MINOR_UNITS = 10**12

# What a database sorts products by.
SortValue = str | int | datetime


@dataclass(frozen=True, slots=True)
class Money:
    """An exact amount in the currency's minor unit."""

    currency_code: str
    minor_units: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What an operator says about a product. Whether it is lawful is checked where it is used, below."""

    name: str
    description: str
    category: str
    price: Money
    weight_grams: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """A product to be created. Raises INVALID_ARGUMENT naming each bad field as the request does."""

    sku: str
    facts: Facts

    def __post_init__(self) -> None:
        _check(self.sku, self.facts, CHANGEABLE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """New values for some fields of a product. Raises INVALID_ARGUMENT naming each bad field as the request does."""

    sku: str
    # What the writer has read; empty to write over whatever is there.
    etag: str
    facts: Facts
    # Which of the facts are meant.
    fields: tuple[str, ...]

    def __post_init__(self) -> None:
        _check(self.sku, self.facts, self.fields)


@dataclass(frozen=True, slots=True, kw_only=True)
class Product:
    """A product that is sold, and how many of it can be bought."""

    sku: str
    facts: Facts
    available: int
    etag: str
    create_time: datetime
    update_time: datetime


class SortBy(enum.StrEnum):
    """What a list of products can be ordered by."""

    SKU = "sku"
    NAME = "name"
    PRICE = "price"
    CREATE_TIME = "create_time"


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """Which products to list, and in what order."""

    category: str = ""
    in_stock: bool = False
    # Folded text that the folded name contains.
    search: str = ""
    sort_by: SortBy = SortBy.SKU
    descending: bool = False

    def key_of(self, product: Product) -> tuple[str, str]:
        """Where the product stands in this order, as text for a page token: what it is sorted by, and its SKU."""
        match self.sort_by:
            case SortBy.SKU:
                return product.sku, product.sku
            case SortBy.NAME:
                return fold(product.facts.name), product.sku
            case SortBy.PRICE:
                return str(product.facts.price.minor_units), product.sku
            case SortBy.CREATE_TIME:
                return product.create_time.isoformat(), product.sku

    def read_key(self, key: Sequence[str]) -> tuple[SortValue, str]:
        """What `key_of` has written. Raises ValueError for anything else."""
        value, sku = key
        match self.sort_by:
            case SortBy.PRICE:
                return bounded_int(value), sku
            case SortBy.CREATE_TIME:
                return aware_time(value), sku
        return value, sku


def select(violations: Violations, *, category: str, in_stock: bool, q: str, order_by: str) -> Selection:
    """The selection that a request describes; what is wrong with it is noted."""
    if category and not _CATEGORY.fullmatch(category):
        violations.add("category", _CATEGORY_RULE)
    violations.text("q", q, most=_SEARCH_LENGTH)
    sort_by, descending = _order(violations, order_by)
    return Selection(category=category, in_stock=in_stock, search=fold(q), sort_by=sort_by, descending=descending)


def fold(text: str) -> str:
    """The text with letter case taken out, for comparing; at most three times as long."""
    return text.casefold()


def check_etag(present: str, given: str) -> None:
    """Raise ABORTED ETAG_MISMATCH when an etag is given and is not the present one (AIP-154)."""
    if given and given != present:
        raise Failure(Kind.ABORTED, "ETAG_MISMATCH", "The product has changed since it was read.")


def product_not_found(sku: str, *, field: str | None = None) -> Failure:
    """The failure for a SKU that is not sold; `field` says where in the request it stands."""
    metadata = {"sku": sku} if field is None else {"sku": sku, "field": field}
    return Failure(Kind.NOT_FOUND, "PRODUCT_NOT_FOUND", f"There is no product {sku}.", metadata=metadata)


def product_exists(sku: str) -> Failure:
    """The failure for a SKU that is in use, perhaps by a retired product."""
    return Failure(Kind.ALREADY_EXISTS, "PRODUCT_EXISTS", f"The SKU {sku} is in use.", metadata={"sku": sku})


def _order(violations: Violations, order_by: str) -> tuple[SortBy, bool]:
    match order_by.split():
        case []:
            return SortBy.SKU, False
        case [name] if name in _SORTS:
            return SortBy(name), False
        case [name, "desc"] if name in _SORTS:
            return SortBy(name), True
    violations.add("order_by", f"must be one of {', '.join(_SORTS)}, or one of them followed by ' desc'")
    return SortBy.SKU, False


def _check(sku: str, facts: Facts, fields: tuple[str, ...]) -> None:
    violations = Violations()
    violations.identifier("product.sku", sku)
    for name in fields:
        if name in _CHECKS:
            _CHECKS[name](violations, facts)
        else:
            violations.add("update_mask", f"'{name[:64]}' is not one of {', '.join(CHANGEABLE)}")
    violations.raise_if_any()


def _check_name(violations: Violations, facts: Facts) -> None:
    violations.text("product.name", facts.name, least=1, most=_NAME_LENGTH)


def _check_description(violations: Violations, facts: Facts) -> None:
    violations.text("product.description", facts.description, most=_DESCRIPTION_LENGTH)


def _check_category(violations: Violations, facts: Facts) -> None:
    if not _CATEGORY.fullmatch(facts.category):
        violations.add("product.category", _CATEGORY_RULE)


def _check_price(violations: Violations, facts: Facts) -> None:
    if not _CURRENCY.fullmatch(facts.price.currency_code):
        violations.add("product.price.currency_code", "must be three capital letters (ISO 4217)")
    violations.between("product.price.minor_units", facts.price.minor_units, low=1, high=_MOST_MINOR_UNITS)


def _check_weight(violations: Violations, facts: Facts) -> None:
    violations.between("product.weight_grams", facts.weight_grams, low=0, high=_MOST_GRAMS)


_SORTS = tuple(SortBy)
_CHECKS: Mapping[str, Callable[[Violations, Facts], None]] = {
    "name": _check_name,
    "description": _check_description,
    "category": _check_category,
    "price": _check_price,
    "weight_grams": _check_weight,
}
# The fields that an update may name.
CHANGEABLE = tuple(_CHECKS)
