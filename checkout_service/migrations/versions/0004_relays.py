"""Who publishes what the outbox holds."""

import sqlalchemy as sa
from alembic import op

from mesh.db import ID, WORD, Utc

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    op.create_table(
        "relays",
        sa.Column("name", WORD, primary_key=True),
        sa.Column("owner", ID, nullable=False),
        sa.Column("lease_until", Utc(), nullable=False),
    )
