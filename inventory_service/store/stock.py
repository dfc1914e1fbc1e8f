"""Stock rows and the ledger."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from itertools import islice
from typing import Any

from sqlalchemy import ColumnElement, Row, and_, bindparam, delete, or_, select

from inventory_service.domain.stock import Movement, Shelf, Stock
from inventory_service.store import Connection
from inventory_service.tables import movements, products, stock
from mesh.db import BY_PRIMARY_KEY
from mesh.query import Asked, Query, read_together
from mesh.rows import add_alike, insert_if_absent, insert_rows

# MariaDB turns a list of 1,000 and more into a join, which would read, and lock, in an order of its own.
_KEYS_AT_ONCE = 500
# A sub-query of a locking read is itself not locking.
_RETIRE_TIME = select(products.c.retire_time).where(products.c.sku == stock.c.sku).scalar_subquery()
# Of a row of stock.
_IS_SOLD = "(SELECT retire_time FROM products WHERE products.sku = stock.sku) IS NULL"
_LOCKED = Query(
    select(stock.c.sku, stock.c.on_hand, stock.c.held, _RETIRE_TIME.label("retire_time"))
    .where(stock.c.sku.in_(bindparam("skus", expanding=True)))
    .order_by(stock.c.sku)
    .with_for_update()
    .with_hint(stock, BY_PRIMARY_KEY, "mysql")
)


async def read_stock(connection: Connection, skus: Sequence[str]) -> dict[str, Stock]:
    """The stock of those SKUs that exist, retired ones included."""
    found = {}
    for keys in _in_parts(skus):
        for row in await connection.execute(select(stock).where(stock.c.sku.in_(keys))):
            found[row.sku] = Stock(sku=row.sku, on_hand=row.on_hand, held=row.held, update_time=row.update_time)
    return found


async def lock_shelves(connection: Connection, skus: Iterable[str]) -> dict[str, Shelf]:
    """Lock the stock of those SKUs that exist, in byte order, and read it."""
    return shelves_of(await read_together(connection, *ask_shelves(skus)))


def ask_shelves(skus: Iterable[str]) -> list[Asked]:
    """The queries of `lock_shelves`, to be read together with others; `shelves_of` makes sense of their rows."""
    return [_LOCKED.asked(skus=keys) for keys in _in_parts(sorted(skus))]


def shelves_of(found: Iterable[Sequence[Any]]) -> dict[str, Shelf]:
    """The shelves by SKU."""
    return {
        row.sku: Shelf(row.on_hand, row.held, retired=row.retire_time is not None) for rows in found for row in rows
    }


async def add_stock(
    connection: Connection, *, on_hand: Mapping[str, int], held: Mapping[str, int], at: datetime
) -> None:
    """Add to the counters of locked rows; SKUs whose counters stay are not touched."""
    changes = _alike(on_hand, held)
    changes.pop((0, 0), None)
    for (more_on_hand, more_held), skus in changes.items():
        for keys in _in_parts(skus):
            more = {"on_hand": more_on_hand, "held": more_held}
            await add_alike(connection, stock.c.sku, keys, more, {"update_time": at})


async def add_believed(
    connection: Connection,
    *,
    on_hand: Mapping[str, int],
    held: Mapping[str, int],
    wanted: Collection[str],
    at: datetime,
) -> None:
    """As `add_stock`, of rows that nobody has looked at: it must be there, and what is `wanted` for sale.

    Otherwise the transaction ends in a ConflictError, at its COMMIT at the latest.
    """
    changes = [
        (more, skus, condition)
        for more, alike in _alike(on_hand, held).items()
        for condition, skus in (
            (_IS_SOLD, [sku for sku in alike if sku in wanted]),
            ("TRUE", [sku for sku in alike if sku not in wanted]),
        )
        if skus
    ]
    if len(changes) > 1:
        # Several statements would lock in another order than others do.
        await lock_shelves(connection, {*on_hand, *held})
    for (more_on_hand, more_held), skus, condition in changes:
        is_there = f"held + {more_held} >= 0 AND on_hand + {more_on_hand} >= held + {more_held}"
        more = {"on_hand": more_on_hand, "held": more_held}
        for keys in _in_parts(skus):
            await add_alike(
                connection, stock.c.sku, keys, more, {"update_time": at}, where=f"{is_there} AND {condition}"
            )


def _alike(on_hand: Mapping[str, int], held: Mapping[str, int]) -> dict[tuple[int, int], list[str]]:
    """The SKUs by how much is added to their counters."""
    # Most of a batch change by one or two: a statement for each distinct change is few statements, and many times
    # cheaper to build than one with a CASE for each SKU.
    alike = defaultdict(list)
    for sku in sorted({*on_hand, *held}):
        alike[on_hand.get(sku, 0), held.get(sku, 0)].append(sku)
    return alike


async def insert_movements(connection: Connection, rows: Sequence[Movement]) -> None:
    """Write ledger rows that stand for changes under locks held. Raises on a key that is there already."""
    await insert_rows(connection, movements, [_values(movement) for movement in rows])


async def claim_movements(
    connection: Connection, rows: Sequence[Movement], *, attempt: str
) -> tuple[dict[str, Movement], set[str]]:
    """Write those ledger rows whose keys are free. Answers the rows that stand under the keys, and which are new.

    `attempt` is drawn anew for each run of a transaction.
    """
    ordered = sorted(rows, key=lambda movement: movement.movement_id)
    await insert_if_absent(connection, movements, [{**_values(row), "attempt": attempt} for row in ordered])
    keys = [movement.movement_id for movement in ordered]
    found = (await connection.execute(select(movements).where(movements.c.movement_id.in_(keys)))).all()
    standing = {row.movement_id: _movement(row) for row in found}
    return standing, {row.movement_id for row in found if row.attempt == attempt}


async def delete_movements(connection: Connection, movement_ids: Sequence[str]) -> None:
    """Take back rows that this very transaction has claimed."""
    if movement_ids:
        await connection.execute(delete(movements).where(movements.c.movement_id.in_(movement_ids)))


async def list_movements(
    connection: Connection, sku: str, *, limit: int, after: tuple[datetime, str] | None
) -> list[Movement]:
    """The ledger of a SKU, newest first, from behind the row with that time and id on."""
    statement = (
        select(movements)
        .where(movements.c.sku == sku)
        .order_by(movements.c.create_time.desc(), movements.c.movement_id.desc())
        .limit(limit)
    )
    if after is not None:
        statement = statement.where(_older(*after))
    return [_movement(row) for row in await connection.execute(statement)]


def _older(create_time: datetime, movement_id: str) -> ColumnElement[bool]:
    # The first condition is what the index can start from; the second settles ties.
    return and_(
        movements.c.create_time <= create_time,
        or_(movements.c.create_time < create_time, movements.c.movement_id < movement_id),
    )


def _in_parts(keys: Sequence[str]) -> Iterator[list[str]]:
    remaining = iter(keys)
    while part := list(islice(remaining, _KEYS_AT_ONCE)):
        yield part


def _values(movement: Movement) -> dict[str, object]:
    return {
        "movement_id": movement.movement_id,
        "sku": movement.sku,
        "delta": movement.delta,
        "reason": movement.reason,
        "reservation_id": movement.reservation_id,
        "actor": movement.actor,
        "create_time": movement.create_time,
    }


def _movement(row: Row[tuple[object, ...]]) -> Movement:
    return Movement(
        movement_id=row.movement_id,
        sku=row.sku,
        delta=row.delta,
        reason=row.reason,
        reservation_id=row.reservation_id,
        actor=row.actor,
        create_time=row.create_time,
    )
