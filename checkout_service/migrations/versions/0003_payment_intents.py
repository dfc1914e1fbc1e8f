"""Which intent at an HTTP payment provider stands for an order's payment."""

import sqlalchemy as sa
from alembic import op

from mesh.db import ID, WORD, Utc

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.create_table(
        "payment_intents",
        sa.Column("payment_key", ID, primary_key=True),
        sa.Column("intent_id", ID, nullable=False),
        sa.Column("currency_code", WORD, nullable=False),
        sa.Column("amount_minor", sa.BigInteger, nullable=False),
        sa.Column("create_time", Utc(), nullable=False),
        sa.CheckConstraint("amount_minor >= 0", name="ck_payment_intents_amount"),
    )
