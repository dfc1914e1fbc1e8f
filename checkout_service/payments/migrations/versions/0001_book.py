"""The simulated provider's book."""

import sqlalchemy as sa
from alembic import op

from mesh.db import ID, WORD, Utc

revision = "0001"
down_revision = None


def upgrade() -> None:
    _payments()


def _payments() -> None:
    op.create_table(
        "payments",
        sa.Column("payment_key", ID, primary_key=True),
        sa.Column("payment_id", ID, nullable=False),
        sa.Column("state", WORD, nullable=False),
        sa.Column("currency_code", WORD, nullable=False),
        sa.Column("amount_minor", sa.BigInteger, nullable=False),
        sa.Column("captured_minor", sa.BigInteger, nullable=False),
        sa.Column("refunded_minor", sa.BigInteger, nullable=False),
        sa.Column("behaviour", WORD, nullable=False),
        sa.Column("create_time", Utc(), nullable=False),
        sa.Column("update_time", Utc(), nullable=False),
        sa.CheckConstraint("captured_minor >= 0 AND captured_minor <= amount_minor", name="ck_payments_captured"),
        sa.CheckConstraint("refunded_minor >= 0 AND refunded_minor <= captured_minor", name="ck_payments_refunded"),
    )
