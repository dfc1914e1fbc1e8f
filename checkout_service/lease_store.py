"""Who moves which saga, in the database: leases of coordinators and take-overs. No function commits."""

from datetime import datetime, timedelta

from sqlalchemy import bindparam, delete, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from checkout_service.saga import OPERATOR, Saga
from checkout_service.tables import coordinators, sagas
from mesh.db import BY_PRIMARY_KEY, now
from mesh.rows import insert_if_absent

_LEASE = update(coordinators).where(coordinators.c.owner == bindparam("me")).values(lease_until=bindparam("ends"))
_OWNERS = select(sagas.c.owner).where(sagas.c.owner > "").distinct()
_ALIVE = select(coordinators.c.owner).where(coordinators.c.lease_until > bindparam("at"))
_ORPHANED = (
    select(sagas.c.saga_id)
    .where(sagas.c.owner.in_(bindparam("orphaned", expanding=True)))
    .order_by(sagas.c.saga_id)
    .limit(bindparam("most"))
    .with_for_update()
)
_TAKE_OVER = (
    update(sagas)
    .where(sagas.c.saga_id.in_(bindparam("saga_ids", expanding=True)))
    # In new hands a command is tried at once: what made it fail may have been the hands.
    .values(owner=bindparam("me"), epoch=sagas.c.epoch + 1, next_attempt_time=None)
    .with_hint(BY_PRIMARY_KEY, dialect_name="mysql")
)
_OWNED = select(sagas.c.saga_id).where(sagas.c.owner == bindparam("me"))


async def renew_lease(connection: AsyncConnection, owner: str, lasts: timedelta) -> datetime:
    """Make the lease of `owner` last that much longer from now. Answers the database's time."""
    at = await now(connection)
    if not (await connection.execute(_LEASE, {"me": owner, "ends": at + lasts})).rowcount:
        await insert_if_absent(connection, coordinators, [{"owner": owner, "lease_until": at + lasts}])
    return at


async def end_lease(connection: AsyncConnection, owner: str) -> None:
    """Give the lease up at once, so that others need not wait for its end."""
    await connection.execute(delete(coordinators).where(coordinators.c.owner == owner))


async def forget_coordinators(connection: AsyncConnection, *, older_than: datetime) -> None:
    """Delete leases that ended before `older_than`; an owner without one counts as dead in any case."""
    await connection.execute(delete(coordinators).where(coordinators.c.lease_until < older_than))


async def dead_owners(connection: AsyncConnection, owner: str) -> list[str]:
    """Who moves sagas without a lease."""
    at = await now(connection)
    # In this order: who begins in between has a lease before it has sagas.
    owners = set((await connection.execute(_OWNERS)).scalars())
    alive = set((await connection.execute(_ALIVE, {"at": at})).scalars())
    orphaned = owners - alive - {owner, OPERATOR}
    return sorted(orphaned)


async def take_over(connection: AsyncConnection, owner: str, limit: int) -> int:
    """Take over at most `limit` sagas whose owner has no lease any more, counting their epoch up. Answers how many."""
    orphaned = await dead_owners(connection, owner)
    if not orphaned:
        return 0
    locked = await connection.execute(_ORPHANED, {"orphaned": orphaned, "most": limit})
    saga_ids = list(locked.scalars())
    if saga_ids:
        await connection.execute(_TAKE_OVER, {"saga_ids": saga_ids, "me": owner})
    return len(saga_ids)


async def owned(connection: AsyncConnection, owner: str) -> list[str]:
    """The ids of all sagas that `owner` has to move."""
    return list((await connection.execute(_OWNED, {"me": owner})).scalars())


async def seize(connection: AsyncConnection, saga: Saga, owner: str) -> None:
    """Give a saga to `owner` whoever has it, to be tried afresh now. The row must be locked; its epoch counts up."""
    await connection.execute(
        update(sagas)
        .where(sagas.c.saga_id == saga.saga_id)
        .values(owner=owner, epoch=saga.epoch + 1, stuck_reason="")
        .values(attempts=0, authorizations=0, next_attempt_time=None)
    )
