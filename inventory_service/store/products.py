"""Product rows, read together with what of them can be bought."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Row, and_, bindparam, or_, select, update

from inventory_service.domain.catalog import Facts, Money, Product, Selection, SortBy, SortValue, fold
from inventory_service.store import Connection
from inventory_service.tables import products, stock
from mesh.db import db_now, now
from mesh.query import Query
from mesh.rows import insert_if_absent

_AVAILABLE = (stock.c.on_hand - stock.c.held).label("available")
_JOINED = select(products, _AVAILABLE).join(stock, stock.c.sku == products.c.sku)
_SOLD = _JOINED.where(products.c.retire_time.is_(None))
_SOLD_BY_SKU = Query(_SOLD.where(products.c.sku.in_(bindparam("skus", expanding=True))))
_SORT_COLUMNS: dict[SortBy, ColumnElement[Any]] = {
    SortBy.SKU: products.c.sku,
    SortBy.NAME: products.c.name_folded,
    SortBy.PRICE: products.c.price_minor,
    SortBy.CREATE_TIME: products.c.create_time,
}


@dataclass(frozen=True, slots=True)
class LockedProduct:
    """A product row under lock."""

    product: Product
    retired: bool


async def read_products(connection: Connection, skus: Sequence[str]) -> dict[str, Product]:
    """Those of the SKUs that are sold."""
    return {row.sku: _product(row) for row in await _SOLD_BY_SKU.rows(connection, skus=skus)}


async def list_products(
    connection: Connection, selection: Selection, *, limit: int, after: tuple[SortValue, str] | None
) -> list[Product]:
    """The products selected, in order, from behind the one with that sort value and SKU on."""
    column = _SORT_COLUMNS[selection.sort_by]
    keys = [column] if column is products.c.sku else [column, products.c.sku]
    statement = _SOLD.order_by(*(key.desc() if selection.descending else key for key in keys)).limit(limit)
    for condition in _conditions(selection):
        statement = statement.where(condition)
    if after is not None:
        statement = statement.where(_behind(column, *after, descending=selection.descending))
    return [_product(row) for row in await connection.execute(statement)]


async def insert_product(connection: Connection, sku: str, facts: Facts, *, etag: str) -> bool:
    """Make the product, with no stock, unless the SKU is in use. Answers whether the row that stands is of this etag.

    Idempotent by etag.
    """
    at = await now(connection)
    row = {"sku": sku, **_columns(facts), "etag": etag, "create_time": at, "update_time": at}
    await insert_if_absent(connection, products, [row])
    standing = await connection.execute(select(products.c.etag).where(products.c.sku == sku))
    if standing.scalar_one() != etag:
        return False
    await insert_if_absent(connection, stock, [{"sku": sku, "on_hand": 0, "held": 0, "update_time": at}])
    return True


async def lock_product(connection: Connection, sku: str) -> LockedProduct | None:
    """Lock a product's row and read it, retired or not; None for an unknown SKU."""
    locked = await connection.execute(select(products.c.sku).where(products.c.sku == sku).with_for_update())
    if locked.one_or_none() is None:
        return None
    row = (await connection.execute(_JOINED.where(products.c.sku == sku))).one()
    return LockedProduct(_product(row), retired=row.retire_time is not None)


async def write_facts(connection: Connection, sku: str, facts: Facts, *, etag: str) -> None:
    """Replace what is said of a locked product."""
    values = {**_columns(facts), "etag": etag, "update_time": db_now()}
    await connection.execute(update(products).where(products.c.sku == sku).values(values))


async def retire_product(connection: Connection, sku: str) -> None:
    """Sell a locked product no longer."""
    values = {"retire_time": db_now(), "update_time": db_now()}
    await connection.execute(update(products).where(products.c.sku == sku).values(values))


def _conditions(selection: Selection) -> list[ColumnElement[bool]]:
    conditions: list[ColumnElement[bool]] = []
    if selection.category:
        conditions.append(products.c.category == selection.category)
    if selection.in_stock:
        conditions.append(stock.c.on_hand > stock.c.held)
    if selection.search:
        conditions.append(products.c.name_folded.contains(selection.search, autoescape=True))
    return conditions


def _behind(column: ColumnElement[Any], value: SortValue, sku: str, *, descending: bool) -> ColumnElement[bool]:
    # The first condition is what an index can start from; the second settles ties.
    if descending:
        return and_(column <= value, or_(column < value, products.c.sku < sku))
    return and_(column >= value, or_(column > value, products.c.sku > sku))


def _columns(facts: Facts) -> dict[str, object]:
    return {
        "name": facts.name,
        "name_folded": fold(facts.name),
        "description": facts.description,
        "category": facts.category,
        "currency_code": facts.price.currency_code,
        "price_minor": facts.price.minor_units,
        "weight_grams": facts.weight_grams,
    }


def _product(row: Row[tuple[object, ...]]) -> Product:
    return Product(
        sku=row.sku,
        facts=Facts(
            name=row.name,
            description=row.description,
            category=row.category,
            price=Money(row.currency_code, row.price_minor),
            weight_grams=row.weight_grams,
        ),
        available=row.available,
        etag=row.etag,
        create_time=row.create_time,
        update_time=row.update_time,
    )
