"""Products, stock, its ledger, and reservations."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql

from mesh.db import ID, TEXT, WORD, Utc

revision = "0001"
down_revision = None

SHORT_TEXT = sa.String(200).with_variant(mysql.VARCHAR(200, charset="utf8mb4"), "mysql", "mariadb")
FOLDED = sa.String(600).with_variant(mysql.VARCHAR(600, charset="utf8mb4", collation="utf8mb4_bin"), "mysql", "mariadb")


def upgrade() -> None:
    _catalogue()
    _stock()
    _reservations()


def _catalogue() -> None:
    op.create_table(
        "products",
        sa.Column("sku", ID, primary_key=True),
        sa.Column("name", SHORT_TEXT, nullable=False),
        sa.Column("name_folded", FOLDED, nullable=False),
        sa.Column("description", TEXT, nullable=False),
        sa.Column("category", WORD, nullable=False),
        sa.Column("currency_code", WORD, nullable=False),
        sa.Column("price_minor", sa.BigInteger, nullable=False),
        sa.Column("weight_grams", sa.Integer, nullable=False),
        sa.Column("etag", ID, nullable=False),
        sa.Column("create_time", Utc, nullable=False),
        sa.Column("update_time", Utc, nullable=False),
        sa.Column("retire_time", Utc),
        sa.CheckConstraint("price_minor > 0", name="products_price"),
        sa.Index("products_by_category", "category", "sku"),
        sa.Index("products_by_name", "name_folded", "sku"),
        sa.Index("products_by_price", "price_minor", "sku"),
        sa.Index("products_by_create_time", "create_time", "sku"),
    )


def _stock() -> None:
    op.create_table(
        "stock",
        sa.Column("sku", ID, primary_key=True),
        sa.Column("on_hand", sa.BigInteger, nullable=False),
        sa.Column("held", sa.BigInteger, nullable=False),
        sa.Column("update_time", Utc, nullable=False),
        sa.CheckConstraint("held >= 0", name="stock_held"),
        sa.CheckConstraint("on_hand >= held", name="stock_available"),
    )
    op.create_table(
        "movements",
        sa.Column("movement_id", ID, primary_key=True),
        sa.Column("sku", ID, nullable=False),
        sa.Column("delta", sa.BigInteger, nullable=False),
        sa.Column("reason", SHORT_TEXT, nullable=False),
        sa.Column("reservation_id", ID, nullable=False),
        sa.Column("actor", ID, nullable=False),
        sa.Column("create_time", Utc, nullable=False),
        sa.Column("attempt", ID),
        sa.Index("movements_by_sku", "sku", "create_time", "movement_id"),
    )


def _reservations() -> None:
    op.create_table(
        "reservations",
        sa.Column("reservation_id", ID, primary_key=True),
        sa.Column("state", WORD, nullable=False),
        sa.Column("epoch", sa.BigInteger, nullable=False),
        sa.Column("expire_time", Utc),
        sa.Column("create_time", Utc, nullable=False),
        sa.Column("attempt", ID, nullable=False),
        sa.Index("reservations_by_expiry", "state", "expire_time"),
    )
    op.create_table(
        "reservation_lines",
        sa.Column("reservation_id", ID, primary_key=True),
        sa.Column("sku", ID, primary_key=True),
        sa.Column("quantity", sa.Integer, nullable=False),
        sa.Column("available", sa.BigInteger),
        sa.CheckConstraint("quantity > 0", name="reservation_lines_quantity"),
    )
