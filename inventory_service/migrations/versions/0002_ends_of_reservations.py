"""When a reservation ended, so that it can be forgotten some time later.

What a program of before ends meanwhile gets no such time and is kept, which costs room only.
"""

import sqlalchemy as sa
from alembic import op

from mesh.db import Utc, db_now

revision = "0002"
down_revision = "0001"

_RESERVATIONS = sa.table("reservations", sa.column("state", sa.String), sa.column("end_time", Utc))
_ENDED = ("RELEASED", "EXPIRED", "REFUSED", "RETURNED")


def upgrade() -> None:
    op.add_column("reservations", sa.Column("end_time", Utc))
    op.create_index("reservations_by_end_time", "reservations", ["end_time"])
    # Of those that are there nobody knows when; they are kept as if it had been now.
    op.execute(sa.update(_RESERVATIONS).where(_RESERVATIONS.c.state.in_(_ENDED)).values(end_time=db_now()))
