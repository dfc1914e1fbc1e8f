"""Carts to buy, put into a cart database by SQL: the rows that the cart service leaves behind two calls of AddItem.

`check_against` proves it, on a cart that was filled through the service's own door. Ids are digests, so they lie in
their tables as scattered as those that clients draw.
"""

# ruff: noqa: S608 - every word of these statements is written here

import hashlib
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pymysql.cursors import Cursor  # type: ignore[import-untyped]

SKUS = 1000


@dataclass(frozen=True, slots=True)
class Kind:
    """What lies in the carts: SQL expressions for the SKUs, of a cart's `name` and number `seq`."""

    skus: tuple[str, ...]


def _sku(number: str) -> str:
    return f"CONCAT('SKU-', LPAD({number}, 4, '0'))"


_FIRST = f"CRC32(CONCAT(%(name)s, seq)) MOD {SKUS}"
# Another one than the first, wherever that lies.
_SECOND = f"({_FIRST} + 1 + CRC32(CONCAT(seq, %(name)s)) MOD {SKUS - 1}) MOD {SKUS}"
SPREAD = Kind((_sku(_FIRST), _sku(_SECOND)))
HOT = Kind((_sku("0"), _sku("1")))


def only(sku: str) -> Kind:
    """Carts that hold one unit of this SKU and nothing else."""
    return Kind((f"'{sku}'",))


def add_carts(cursor: Cursor, database: str, kind: Kind, *, name: str, number: int) -> list[str]:
    """Put so many guests' carts into the database, each SKU once, and answer their ids. `name` is used once."""
    words, seq = {"name": name}, f"FROM {database}.seq_1_to_{number}"
    at, cart_id = "UTC_TIMESTAMP(6)", _uuid("CONCAT(%(name)s, '/', seq)")
    cursor.execute(
        f"INSERT INTO {database}.carts (cart_id, customer_id, version, create_time, update_time)"
        f" SELECT {cart_id}, '', {len(kind.skus)}, {at}, {at} {seq}",
        words,
    )
    for position, sku in enumerate(kind.skus, start=1):
        cursor.execute(
            f"INSERT INTO {database}.cart_items (cart_id, sku, quantity, position)"
            f" SELECT {cart_id}, {sku}, 1, {position} {seq}",
            words,
        )
        # AddItem gives a key of its own to a request that came without one.
        key = _uuid(f"CONCAT(%(name)s, '/', seq, '/', {position})")
        cursor.execute(
            f"INSERT INTO {database}.cart_requests (cart_id, request_id, sku, quantity, create_time)"
            f" SELECT {cart_id}, {key}, {sku}, 1, {at} {seq}",
            words,
        )
    return [str(uuid.UUID(_digest(f"{name}/{seq}"))) for seq in range(1, number + 1)]


def rows_of(cursor: Cursor, database: str, cart_id: str) -> list[Any]:
    """All that the database holds of a cart, but for ids and times."""
    found: list[Any] = []
    for columns, table in (
        ("customer_id, version", "carts"),
        ("sku, quantity, position", "cart_items"),
        ("sku, quantity", "cart_requests"),
    ):
        cursor.execute(f"SELECT {columns} FROM {database}.{table} WHERE cart_id = %s ORDER BY 1, 2", (cart_id,))
        found.append(cursor.fetchall())
    return found


def skus_of(cursor: Cursor, database: str, cart_id: str) -> Sequence[str]:
    """What lies in a cart, in the order in which it was put in."""
    cursor.execute(f"SELECT sku FROM {database}.cart_items WHERE cart_id = %s ORDER BY position", (cart_id,))
    return [sku for (sku,) in cursor.fetchall()]


def _digest(text: str) -> str:
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()


def _uuid(text: str) -> str:
    """SQL for the digest of a text, in the form of a UUID."""
    dashed = f"MD5({text})"
    for place in (9, 14, 19, 24):
        dashed = f"INSERT({dashed}, {place}, 0, '-')"
    return dashed
