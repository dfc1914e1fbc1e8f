"""The SQL of carts: set-oriented functions of a connection that never commit."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Table, bindparam, delete, select, tuple_
from sqlalchemy.ext.asyncio import AsyncConnection

from cart_service.domain import AddItem, Books, Cart, Command, Line, Outcome, SetItemQuantity, Settle, decide
from cart_service.tables import cart_items, cart_requests, carts, settlements
from mesh.db import BY_PRIMARY_KEY, NOW, now, now_of
from mesh.moment import fix_moment
from mesh.mysql import FromMoment
from mesh.query import Query, read_together
from mesh.rows import delete_rows, insert_if_absent, insert_rows, set_alike_where, upsert

_CART_AND_LINES = Query(
    select(
        carts.c.cart_id,
        carts.c.customer_id,
        carts.c.version,
        carts.c.update_time,
        cart_items.c.sku,
        cart_items.c.quantity,
        cart_items.c.position,
    )
    .select_from(carts.outerjoin(cart_items, carts.c.cart_id == cart_items.c.cart_id))
    .where(carts.c.cart_id.in_(bindparam("cart_ids", expanding=True)))
    .order_by(carts.c.cart_id, cart_items.c.position)
)
_LOCK = Query(
    select(carts.c.cart_id, NOW)
    .where(carts.c.cart_id.in_(bindparam("cart_ids", expanding=True)))
    .order_by(carts.c.cart_id)
    .with_for_update()
    .with_hint(carts, BY_PRIMARY_KEY, "mysql")
)
_SETTLED = Query(
    select(settlements.c.order_id, settlements.c.cart_id).where(
        settlements.c.order_id.in_(bindparam("order_ids", expanding=True))
    )
)


async def read(connection: AsyncConnection, cart_ids: Iterable[str]) -> dict[str, Cart]:
    """The carts that exist, by id. One statement, so a cart and its lines are of one moment."""
    return _carts(await _CART_AND_LINES.rows(connection, cart_ids=sorted(set(cart_ids))))


def _carts(rows: Sequence[Any]) -> dict[str, Cart]:
    lines: dict[str, dict[str, Line]] = {row.cart_id: {} for row in rows}
    for row in rows:
        if row.sku is not None:
            lines[row.cart_id][row.sku] = Line(row.sku, row.quantity, row.position)
    heads = {row.cart_id: row for row in rows}
    return {
        cart_id: Cart(cart_id, row.customer_id, row.version, lines[cart_id], row.update_time if row.version else None)
        for cart_id, row in heads.items()
    }


async def write(connection: AsyncConnection, commands: Sequence[Command]) -> list[Outcome]:
    """Decide the commands in their order on locked carts and write back what changed; answer each its outcome.

    The rows of the carts are locked in one order, so that writers in other processes wait instead of deadlocking.
    Repeating it after a COMMIT whose fate is unknown adds and settles nothing twice.
    """
    await _create(connection, commands)
    at, before = await _load(connection, commands)
    after, outcomes = decide(before, commands, at=at)
    await _save_carts(connection, before, after, at)
    await _save_keys(connection, before, after, at)
    return outcomes


async def settle_seen(connection: AsyncConnection, settling: Sequence[Settle], seen: Mapping[str, Cart]) -> list[Cart]:
    """As `write`, of carts that are believed to be as they were seen, each of which loses something.

    When one has changed since, or its order was settled before, the transaction ends in a ConflictError, at its COMMIT
    at the latest.
    """
    at = await fix_moment(connection)
    # The time is known to the database alone, and told to nobody here.
    before = Books(dict(seen), {}, {})
    after, _ = decide(before, settling, at=None)
    changes = _changes(before, after)
    alike: dict[int, list[str]] = defaultdict(list)
    for earlier, cart in changes:
        alike[earlier.version].append(cart.cart_id)
    if len(alike) > 1:
        # Several statements would lock in another order than others do.
        await _LOCK.rows(connection, cart_ids=sorted(seen))
    for version, cart_ids in sorted(alike.items()):
        values = {"version": version + 1, "update_time": at.plus()}
        await set_alike_where(connection, carts.c.cart_id, cart_ids, values, {"version": [version]})
    await _save_lines(connection, changes)
    await insert_rows(connection, settlements, _settled_rows(before, after, at.plus()))
    return [after.carts[command.cart_id] for command in settling]


async def delete_expired(connection: AsyncConnection, *, ttl: timedelta, keys_ttl: timedelta, at_most: int) -> int:
    """Delete carts that nobody changed for `ttl`, and keys older than `keys_ttl`, at most that many of each.

    Answers how many rows of carts and keys were deleted.
    """
    at = await now(connection)
    old_carts = await _expired_carts(connection, at - ttl, at_most)
    await connection.execute(delete(cart_items).where(cart_items.c.cart_id.in_(old_carts)))
    await connection.execute(delete(carts).where(carts.c.cart_id.in_(old_carts)))
    before = at - keys_ttl
    requests = await _oldest(connection, cart_requests, before, at_most)
    await delete_rows(connection, [cart_requests.c.cart_id, cart_requests.c.request_id], requests)
    orders = [order_id for (order_id,) in await _oldest(connection, settlements, before, at_most)]
    await connection.execute(delete(settlements).where(settlements.c.order_id.in_(orders)))
    return len(old_carts) + len(requests) + len(orders)


async def _create(connection: AsyncConnection, commands: Sequence[Command]) -> None:
    # Only a row can be locked, so a cart's row is there before it is decided what the cart holds.
    creating = {c.cart_id for c in commands if isinstance(c, AddItem | SetItemQuantity) and c.may_create}
    if creating:
        at = (await fix_moment(connection)).plus()
        blank = {"customer_id": "", "version": 0, "create_time": at, "update_time": at}
        await insert_if_absent(connection, carts, [{"cart_id": cart_id, **blank} for cart_id in sorted(creating)])


async def _load(connection: AsyncConnection, commands: Sequence[Command]) -> tuple[datetime, Books]:
    """Lock the carts that exist; the database's time, and what stands."""
    cart_ids = sorted({command.cart_id for command in commands})
    order_ids = sorted({command.order_id for command in commands if isinstance(command, Settle)})
    locked, rows, settled = await read_together(
        connection,
        _LOCK.asked(cart_ids=cart_ids),
        _CART_AND_LINES.asked(cart_ids=cart_ids),
        _SETTLED.asked(order_ids=order_ids),
    )
    books = Books(
        carts=_carts(rows),
        additions=await _additions(connection, {(c.cart_id, c.key) for c in commands if isinstance(c, AddItem)}),
        settlements={row.order_id: row.cart_id for row in settled},
    )
    return await now_of(connection, locked), books


async def _additions(connection: AsyncConnection, keys: set[tuple[str, str]]) -> dict[tuple[str, str], tuple[str, int]]:
    if not keys:
        return {}
    table = cart_requests.c
    query = select(table.cart_id, table.request_id, table.sku, table.quantity)
    rows = await connection.execute(query.where(tuple_(table.cart_id, table.request_id).in_(sorted(keys))))
    return {(row.cart_id, row.request_id): (row.sku, row.quantity) for row in rows}


async def _save_carts(connection: AsyncConnection, before: Books, after: Books, at: datetime) -> None:
    changes = _changes(before, after)
    heads = [
        {
            "cart_id": cart.cart_id,
            "customer_id": cart.customer_id,
            "version": cart.version,
            "create_time": at,
            "update_time": cart.update_time,
        }
        for _, cart in changes
    ]
    await upsert(connection, carts, heads, changing=("customer_id", "version", "update_time"))
    await _save_lines(connection, changes)


def _changes(before: Books, after: Books) -> list[tuple[Cart, Cart]]:
    """Each cart that has changed, as it was and as it is."""
    return [
        (before.carts.get(cart_id, Cart(cart_id)), cart)
        for cart_id, cart in after.carts.items()
        if before.carts.get(cart_id) is not cart
    ]


async def _save_lines(connection: AsyncConnection, changes: Sequence[tuple[Cart, Cart]]) -> None:
    gone = [(cart.cart_id, sku) for earlier, cart in changes for sku in earlier.lines if sku not in cart.lines]
    lines = [
        {"cart_id": cart.cart_id, "sku": line.sku, "quantity": line.quantity, "position": line.position}
        for earlier, cart in changes
        for line in cart.lines.values()
        if earlier.lines.get(line.sku) != line
    ]
    await delete_rows(connection, [cart_items.c.cart_id, cart_items.c.sku], gone)
    await upsert(connection, cart_items, lines, changing=("quantity", "position"))


async def _save_keys(connection: AsyncConnection, before: Books, after: Books, at: datetime) -> None:
    added = [
        {"cart_id": cart_id, "request_id": key, "sku": sku, "quantity": quantity, "create_time": at}
        for (cart_id, key), (sku, quantity) in after.additions.items()
        if (cart_id, key) not in before.additions
    ]
    await insert_rows(connection, cart_requests, added)
    # No lock keeps two writers apart who settle a cart that is not there; either's row will do.
    await insert_if_absent(connection, settlements, _settled_rows(before, after, at))


def _settled_rows(before: Books, after: Books, at: datetime | FromMoment) -> list[dict[str, Any]]:
    return [
        {"order_id": order_id, "cart_id": cart_id, "create_time": at}
        for order_id, cart_id in sorted(after.settlements.items())
        if order_id not in before.settlements
    ]


async def _expired_carts(connection: AsyncConnection, before: datetime, at_most: int) -> list[str]:
    oldest = select(carts.c.cart_id).where(carts.c.update_time < before).order_by(carts.c.update_time).limit(at_most)
    found = sorted((await connection.execute(oldest)).scalars())
    # Looked at again under the lock: somebody may just have come back to the cart.
    still = select(carts.c.cart_id).where(carts.c.cart_id.in_(found), carts.c.update_time < before)
    lock = still.order_by(carts.c.cart_id).with_for_update().with_hint(carts, BY_PRIMARY_KEY, "mysql")
    return list((await connection.execute(lock)).scalars())


async def _oldest(connection: AsyncConnection, table: Table, before: datetime, at_most: int) -> list[tuple[str, ...]]:
    query = select(*table.primary_key.columns).where(table.c.create_time < before)
    rows = await connection.execute(query.order_by(table.c.create_time).limit(at_most))
    return [tuple(row) for row in rows]
