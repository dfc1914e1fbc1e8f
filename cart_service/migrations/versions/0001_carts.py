"""Carts, their items, keys against repetition, settlements."""

import sqlalchemy as sa
from alembic import op

from mesh.db import ID, Utc

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "carts",
        sa.Column("cart_id", ID, primary_key=True),
        sa.Column("customer_id", ID, nullable=False),
        sa.Column("version", sa.BigInteger, nullable=False),
        sa.Column("create_time", Utc, nullable=False),
        sa.Column("update_time", Utc, nullable=False),
        sa.CheckConstraint("version >= 0", name="carts_version"),
        sa.Index("carts_by_update_time", "update_time"),
    )
    op.create_table(
        "cart_items",
        sa.Column("cart_id", ID, primary_key=True),
        sa.Column("sku", ID, primary_key=True),
        sa.Column("quantity", sa.Integer, nullable=False),
        sa.Column("position", sa.BigInteger, nullable=False),
        sa.CheckConstraint("quantity BETWEEN 1 AND 10000", name="cart_items_quantity"),
    )
    op.create_table(
        "cart_requests",
        sa.Column("cart_id", ID, primary_key=True),
        sa.Column("request_id", ID, primary_key=True),
        sa.Column("sku", ID, nullable=False),
        sa.Column("quantity", sa.Integer, nullable=False),
        sa.Column("create_time", Utc, nullable=False),
        sa.Index("cart_requests_by_create_time", "create_time"),
    )
    op.create_table(
        "settlements",
        sa.Column("order_id", ID, primary_key=True),
        sa.Column("cart_id", ID, nullable=False),
        sa.Column("create_time", Utc, nullable=False),
        sa.Index("settlements_by_create_time", "create_time"),
    )


def downgrade() -> None:
    for table in ("settlements", "cart_requests", "cart_items", "carts"):
        op.drop_table(table)
