"""Accounts, token families and signing keys."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql

from mesh.db import ID, WORD, Utc

revision = "0001"
down_revision = None

EMAIL = sa.String(254).with_variant(mysql.VARCHAR(254, charset="ascii", collation="ascii_bin"), "mysql", "mariadb")
NAME = sa.String(200).with_variant(mysql.VARCHAR(200, charset="utf8mb4"), "mysql", "mariadb")
PASSWORD_HASH = sa.String(128).with_variant(
    mysql.VARCHAR(128, charset="ascii", collation="ascii_bin"), "mysql", "mariadb"
)


def upgrade() -> None:
    op.create_table(
        "customers",
        sa.Column("email", EMAIL, primary_key=True),
        sa.Column("customer_id", ID, nullable=False),
        sa.Column("name", NAME, nullable=False),
        sa.Column("role", WORD, nullable=False),
        sa.Column("password_hash", PASSWORD_HASH, nullable=False),
        sa.Column("create_time", Utc, nullable=False),
        sa.Index("customers_by_id", "customer_id", unique=True),
    )
    op.create_table(
        "token_families",
        sa.Column("family_hash", ID, primary_key=True),
        sa.Column("customer_id", ID, nullable=False),
        sa.Column("token_hash", ID, nullable=False),
        sa.Column("expire_time", Utc, nullable=False),
        sa.Column("revoke_time", Utc),
        sa.Index("token_families_by_expiry", "expire_time"),
    )
    op.create_table(
        "signing_keys",
        sa.Column("generation", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("private_key", ID, nullable=False),
        sa.Column("create_time", Utc, nullable=False),
    )
