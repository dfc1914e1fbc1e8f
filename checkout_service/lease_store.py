"""Who moves which saga, in the database: leases of coordinators and take-overs. No function commits."""

from datetime import datetime, timedelta

from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from checkout_service.saga import OPERATOR, Saga
from checkout_service.tables import coordinators, sagas
from mesh.db import BY_PRIMARY_KEY, insert_if_absent, now


async def renew_lease(connection: AsyncConnection, owner: str, lasts: timedelta) -> datetime:
    """Make the lease of `owner` last that much longer from now. Answers the database's time."""
    at = await now(connection)
    await insert_if_absent(connection, coordinators, [{"owner": owner, "lease_until": at + lasts}])
    await connection.execute(update(coordinators).where(coordinators.c.owner == owner).values(lease_until=at + lasts))
    return at


async def end_lease(connection: AsyncConnection, owner: str) -> None:
    """Give the lease up at once, so that others need not wait for its end."""
    await connection.execute(coordinators.delete().where(coordinators.c.owner == owner))


async def forget_coordinators(connection: AsyncConnection, *, older_than: datetime) -> None:
    """Delete leases that ended before `older_than`; an owner without one counts as dead in any case."""
    await connection.execute(coordinators.delete().where(coordinators.c.lease_until < older_than))


async def take_over(connection: AsyncConnection, owner: str, limit: int) -> int:
    """Take over at most `limit` sagas whose owner has no lease any more, counting their epoch up. Answers how many."""
    at = await now(connection)
    owners = {row.owner for row in await connection.execute(select(sagas.c.owner).where(sagas.c.owner > "").distinct())}
    alive = {
        row.owner
        for row in await connection.execute(select(coordinators.c.owner).where(coordinators.c.lease_until > at))
    }
    orphaned = owners - alive - {owner, OPERATOR}
    if not orphaned:
        return 0
    locked = await connection.execute(
        select(sagas.c.saga_id)
        .where(sagas.c.owner.in_(sorted(orphaned)))
        .order_by(sagas.c.saga_id)
        .limit(limit)
        .with_for_update()
    )
    saga_ids = [row.saga_id for row in locked]
    if saga_ids:
        await connection.execute(
            update(sagas)
            .where(sagas.c.saga_id.in_(saga_ids))
            # In new hands a command is tried at once: what made it fail may have been the hands.
            .values(owner=owner, epoch=sagas.c.epoch + 1, next_attempt_time=None)
            .with_hint(BY_PRIMARY_KEY, dialect_name="mysql")
        )
    return len(saga_ids)


async def owned(connection: AsyncConnection, owner: str) -> list[str]:
    """The ids of all sagas that `owner` has to move."""
    rows = await connection.execute(select(sagas.c.saga_id).where(sagas.c.owner == owner))
    return [row.saga_id for row in rows]


async def seize(connection: AsyncConnection, saga: Saga, owner: str) -> None:
    """Give a saga to `owner` whoever has it, to be tried afresh now. The row must be locked; its epoch counts up."""
    await connection.execute(
        update(sagas)
        .where(sagas.c.saga_id == saga.saga_id)
        .values(owner=owner, epoch=saga.epoch + 1, stuck_reason="")
        .values(attempts=0, authorizations=0, next_attempt_time=None)
    )
