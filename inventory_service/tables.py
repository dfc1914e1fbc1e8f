"""The tables of the inventory database. migrations/ makes them; a test proves that both agree."""

from sqlalchemy import BigInteger, CheckConstraint, Column, Index, Integer, MetaData, String, Table
from sqlalchemy.dialects import mysql

from mesh.db import ID, TEXT, WORD, Utc

metadata = MetaData()

# People's words, 200 characters at most.
SHORT_TEXT = String(200).with_variant(mysql.VARCHAR(200, charset="utf8mb4"), "mysql", "mariadb")
# A name with letter case taken out, which may make it longer; sorted by code point in both dialects.
FOLDED = String(600).with_variant(mysql.VARCHAR(600, charset="utf8mb4", collation="utf8mb4_bin"), "mysql", "mariadb")

products = Table(
    "products",
    metadata,
    Column("sku", ID, primary_key=True),
    Column("name", SHORT_TEXT, nullable=False),
    Column("name_folded", FOLDED, nullable=False),
    Column("description", TEXT, nullable=False),
    Column("category", WORD, nullable=False),
    Column("currency_code", WORD, nullable=False),
    Column("price_minor", BigInteger, nullable=False),
    Column("weight_grams", Integer, nullable=False),
    # Drawn anew with every change; tells also whose insert stands.
    Column("etag", ID, nullable=False),
    Column("create_time", Utc, nullable=False),
    Column("update_time", Utc, nullable=False),
    # A product is sold until then.
    Column("retire_time", Utc),
    CheckConstraint("price_minor > 0", name="products_price"),
    Index("products_by_category", "category", "sku"),
    Index("products_by_name", "name_folded", "sku"),
    Index("products_by_price", "price_minor", "sku"),
    Index("products_by_create_time", "create_time", "sku"),
)

# One row for each product, retired ones included. Written by increments only.
stock = Table(
    "stock",
    metadata,
    Column("sku", ID, primary_key=True),
    Column("on_hand", BigInteger, nullable=False),
    Column("held", BigInteger, nullable=False),
    Column("update_time", Utc, nullable=False),
    CheckConstraint("held >= 0", name="stock_held"),
    CheckConstraint("on_hand >= held", name="stock_available"),
)

# The ledger: every change of on_hand, whose sum it is. The key follows from what caused the change.
movements = Table(
    "movements",
    metadata,
    Column("movement_id", ID, primary_key=True),
    Column("sku", ID, nullable=False),
    Column("delta", BigInteger, nullable=False),
    Column("reason", SHORT_TEXT, nullable=False),
    # Empty for an adjustment.
    Column("reservation_id", ID, nullable=False),
    Column("actor", ID, nullable=False),
    Column("create_time", Utc, nullable=False),
    # Of an adjustment: the run of a transaction that inserted it, so that a repetition does not take it for its own.
    Column("attempt", ID),
    Index("movements_by_sku", "sku", "create_time", "movement_id"),
)

reservations = Table(
    "reservations",
    metadata,
    Column("reservation_id", ID, primary_key=True),
    Column("state", WORD, nullable=False),
    Column("epoch", BigInteger, nullable=False),
    # None for one that was barred before it came.
    Column("expire_time", Utc),
    Column("create_time", Utc, nullable=False),
    # The run of a transaction that inserted it, as above.
    Column("attempt", ID, nullable=False),
    # When it was given back or refused; None while it is held or sold. Some time later it is forgotten.
    Column("end_time", Utc),
    Index("reservations_by_expiry", "state", "expire_time"),
    Index("reservations_by_end_time", "end_time"),
)

# Each SKU of a reservation once. Never changed.
reservation_lines = Table(
    "reservation_lines",
    metadata,
    Column("reservation_id", ID, primary_key=True),
    Column("sku", ID, primary_key=True),
    Column("quantity", Integer, nullable=False),
    # What a refusal saw; None for a hold.
    Column("available", BigInteger),
    CheckConstraint("quantity > 0", name="reservation_lines_quantity"),
)
