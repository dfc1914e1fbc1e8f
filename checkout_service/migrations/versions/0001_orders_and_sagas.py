"""Orders, their keys and answers, invoices, sagas and what moves them."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql

from mesh.db import ID, TEXT, WORD, Utc

revision = "0001"
down_revision = None

KEY = sa.String(160).with_variant(mysql.VARCHAR(160, charset="ascii", collation="ascii_bin"), "mysql", "mariadb")
BYTES = sa.LargeBinary().with_variant(mysql.MEDIUMBLOB(), "mysql", "mariadb")


def upgrade() -> None:
    _order_keys()
    _answers()
    _cart_claims()
    _orders()
    _order_lines()
    _order_events()
    _invoices()
    _outbox()
    _sagas()
    _inbox()
    _coordinators()


def _order_keys() -> None:
    op.create_table(
        "order_keys",
        sa.Column("key_id", KEY, primary_key=True),
        sa.Column("order_id", ID, nullable=False),
        sa.Column("fingerprint", WORD, nullable=False),
        sa.Column("create_time", Utc(), nullable=False),
    )


def _answers() -> None:
    op.create_table(
        "answers",
        sa.Column("key_id", KEY, primary_key=True),
        sa.Column("order_id", ID, nullable=False),
        sa.Column("answer", BYTES, nullable=False),
    )


def _cart_claims() -> None:
    op.create_table(
        "cart_claims",
        sa.Column("cart_id", ID, primary_key=True),
        sa.Column("order_id", ID, nullable=False),
        sa.Column("ordered_version", sa.BigInteger, nullable=False),
        sa.Column("update_time", Utc(), nullable=False),
        sa.Index("ix_cart_claims_update_time", "update_time"),
    )


def _orders() -> None:
    op.create_table(
        "orders",
        sa.Column("order_id", ID, primary_key=True),
        sa.Column("key_id", KEY, nullable=False),
        sa.Column("state", WORD, nullable=False),
        sa.Column("reason", WORD, nullable=False),
        sa.Column("sequence", sa.Integer, nullable=False),
        sa.Column("currency_code", WORD, nullable=False),
        sa.Column("subtotal_minor", sa.BigInteger, nullable=False),
        sa.Column("discount_minor", sa.BigInteger, nullable=False),
        sa.Column("shipping_minor", sa.BigInteger, nullable=False),
        sa.Column("tax_minor", sa.BigInteger, nullable=False),
        sa.Column("total_minor", sa.BigInteger, nullable=False),
        sa.Column("cart_id", ID, nullable=False),
        sa.Column("cart_version", sa.BigInteger, nullable=False),
        sa.Column("customer_id", ID, nullable=False),
        sa.Column("country", WORD, nullable=False),
        sa.Column("postal_code", sa.String(20), nullable=False),
        sa.Column("address", sa.String(500), nullable=False),
        sa.Column("phone_number", sa.String(40), nullable=False),
        sa.Column("promotion_codes", TEXT, nullable=False),
        sa.Column("source", WORD, nullable=False),
        sa.Column("notes", TEXT, nullable=False),
        sa.Column("delivery_instructions", TEXT, nullable=False),
        sa.Column("payment_id", ID, nullable=False),
        sa.Column("create_time", Utc(), nullable=False),
        sa.Column("update_time", Utc(), nullable=False),
        sa.Column("created_by", ID, nullable=False),
        sa.Column("updated_by", ID, nullable=False),
        sa.CheckConstraint(
            "total_minor = subtotal_minor - discount_minor + shipping_minor + tax_minor", name="ck_orders_total_adds_up"
        ),
        sa.CheckConstraint("total_minor >= 0", name="ck_orders_total_not_negative"),
        sa.Index("ix_orders_customer", "customer_id", "order_id"),
    )


def _order_lines() -> None:
    op.create_table(
        "order_lines",
        sa.Column("order_id", ID, primary_key=True),
        sa.Column("sku", ID, primary_key=True),
        sa.Column("name", sa.String(200), nullable=False),
        sa.Column("quantity", sa.Integer, nullable=False),
        sa.Column("unit_minor", sa.BigInteger, nullable=False),
        sa.Column("available", sa.BigInteger, nullable=True),
        sa.CheckConstraint("quantity > 0", name="ck_order_lines_quantity"),
    )


def _order_events() -> None:
    op.create_table(
        "order_events",
        sa.Column("order_id", ID, primary_key=True),
        sa.Column("sequence", sa.Integer, primary_key=True),
        sa.Column("state", WORD, nullable=False),
        sa.Column("reason", WORD, nullable=False),
        sa.Column("actor", ID, nullable=False),
        sa.Column("create_time", Utc(), nullable=False),
    )


def _invoices() -> None:
    op.create_table(
        "invoices",
        sa.Column("order_id", ID, primary_key=True),
        sa.Column("invoice_number", WORD, nullable=False),
        sa.Column("currency_code", WORD, nullable=False),
        sa.Column("subtotal_minor", sa.BigInteger, nullable=False),
        sa.Column("discount_minor", sa.BigInteger, nullable=False),
        sa.Column("shipping_minor", sa.BigInteger, nullable=False),
        sa.Column("tax_minor", sa.BigInteger, nullable=False),
        sa.Column("total_minor", sa.BigInteger, nullable=False),
        sa.Column("create_time", Utc(), nullable=False),
    )


def _outbox() -> None:
    op.create_table(
        "outbox",
        sa.Column("order_id", ID, primary_key=True),
        sa.Column("sequence", sa.Integer, primary_key=True),
        sa.Column("state", WORD, nullable=False),
        sa.Column("create_time", Utc(), nullable=False),
    )


def _sagas() -> None:
    op.create_table(
        "sagas",
        sa.Column("saga_id", ID, primary_key=True),
        sa.Column("state", WORD, nullable=False),
        sa.Column("epoch", sa.BigInteger, nullable=False),
        sa.Column("owner", ID, nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("authorizations", sa.Integer, nullable=False),
        sa.Column("last_error", sa.String(200), nullable=False),
        sa.Column("deadline", Utc(), nullable=True),
        sa.Column("next_attempt_time", Utc(), nullable=True),
        sa.Column("fails_as_state", WORD, nullable=False),
        sa.Column("fails_as_reason", WORD, nullable=False),
        sa.Column("held_until", Utc(), nullable=True),
        sa.Column("payment_token", sa.String(255), nullable=False),
        sa.Column("create_time", Utc(), nullable=False),
        sa.Column("update_time", Utc(), nullable=False),
        sa.Index("ix_sagas_owner", "owner", "saga_id"),
        sa.Index("ix_sagas_state", "state", "saga_id"),
    )


def _inbox() -> None:
    op.create_table(
        "inbox",
        sa.Column("event_id", ID, primary_key=True),
        sa.Column("order_id", ID, nullable=False),
        sa.Column("kind", WORD, nullable=False),
        sa.Column("payment_id", ID, nullable=False),
        sa.Column("create_time", Utc(), nullable=False),
        sa.Index("ix_inbox_order", "order_id"),
    )


def _coordinators() -> None:
    op.create_table(
        "coordinators",
        sa.Column("owner", ID, primary_key=True),
        sa.Column("lease_until", Utc(), nullable=False),
    )
