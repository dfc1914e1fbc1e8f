"""What people wish of sagas, sagas that are parked, payments to be looked for, and who did what."""

import sqlalchemy as sa
from alembic import op

from mesh.db import ID, TEXT, WORD, Utc

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    # With defaults, so that programs of the version before may go on writing.
    op.add_column("sagas", sa.Column("wish", WORD, nullable=False, server_default=""))
    op.add_column("sagas", sa.Column("stuck_reason", WORD, nullable=False, server_default=""))
    op.add_column("sagas", sa.Column("check_time", Utc(), nullable=True))
    op.create_index("ix_sagas_check_time", "sagas", ["check_time"])
    op.create_table(
        "saga_log",
        sa.Column("saga_id", ID, primary_key=True),
        sa.Column("entry_id", ID, primary_key=True),
        sa.Column("kind", WORD, nullable=False),
        sa.Column("actor", ID, nullable=False),
        sa.Column("reason", TEXT, nullable=False),
        sa.Column("detail", TEXT, nullable=False),
        sa.Column("create_time", Utc(), nullable=False),
    )
