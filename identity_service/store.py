"""The statements of the identity database. Functions of a connection; none commits."""

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import Row, delete, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from identity_service.domain import REFRESH_TOKEN_TTL, Account, Customer, Family, NewAccount, RefreshToken, Role
from identity_service.tables import customers, signing_keys, token_families
from mesh.db import db_now, now
from mesh.rows import insert_if_absent

# What use cases hand from `transact` to the functions here, without a look inside.
Connection = AsyncConnection

_SWEEP_AT_ONCE = 1000


async def insert_accounts(connection: Connection, accounts: Sequence[NewAccount]) -> None:
    """Make the accounts whose addresses are free and pass over the others. Idempotent by e-mail."""
    create_time = await now(connection)
    rows = [
        {
            "email": account.email,
            "customer_id": account.customer_id,
            "name": account.name,
            "role": account.role.value,
            "password_hash": account.password_hash,
            "create_time": create_time,
        }
        for account in accounts
    ]
    await insert_if_absent(connection, customers, rows)


async def accounts_by_email(connection: Connection, emails: Sequence[str]) -> dict[str, Account]:
    """The accounts among `emails` (normal addresses), by address."""
    found = await connection.execute(select(customers).where(customers.c.email.in_(emails)))
    return {row.email: Account(_customer(row), row.password_hash) for row in found}


async def customer_by_id(connection: Connection, customer_id: str) -> Customer | None:
    """The customer of that id, or None."""
    row = (await connection.execute(select(customers).where(customers.c.customer_id == customer_id))).one_or_none()
    return None if row is None else _customer(row)


async def rename_customer(connection: Connection, customer_id: str, name: str) -> None:
    """Set the name."""
    await connection.execute(update(customers).where(customers.c.customer_id == customer_id).values(name=name))


async def replace_password_hash(connection: Connection, account: Account, password_hash: str) -> None:
    """Set the hash, unless it has changed since `account` was read."""
    unchanged = (customers.c.email == account.customer.email) & (customers.c.password_hash == account.password_hash)
    await connection.execute(update(customers).where(unchanged).values(password_hash=password_hash))


async def start_family(connection: Connection, customer_id: str, token: RefreshToken) -> None:
    """Make the family of a customer's first token. Idempotent by family."""
    row = {
        "family_hash": token.family_hash,
        "customer_id": customer_id,
        "token_hash": token.token_hash,
        "expire_time": await now(connection) + REFRESH_TOKEN_TTL,
    }
    await insert_if_absent(connection, token_families, [row])


async def lock_family(connection: Connection, token: RefreshToken) -> tuple[Family | None, datetime]:
    """The family of a shown token, locked, and the database's time."""
    statement = select(token_families).where(token_families.c.family_hash == token.family_hash).with_for_update()
    row = (await connection.execute(statement)).one_or_none()
    return (None if row is None else _family(row)), await now(connection)


async def rotate(connection: Connection, successor: RefreshToken, *, at: datetime) -> None:
    """Make `successor` the only token of its family that works, for another term from `at`."""
    await connection.execute(
        update(token_families)
        .where(token_families.c.family_hash == successor.family_hash)
        .values(token_hash=successor.token_hash, expire_time=at + REFRESH_TOKEN_TTL)
    )


async def revoke_family(connection: Connection, token: RefreshToken) -> None:
    """End the family of the token, if there is one. Idempotent."""
    standing = (token_families.c.family_hash == token.family_hash) & token_families.c.revoke_time.is_(None)
    await connection.execute(update(token_families).where(standing).values(revoke_time=db_now()))


async def sweep_families(connection: Connection) -> int:
    """Forget expired families, at most 1,000, and answer how many there were."""
    expired = (
        select(token_families.c.family_hash)
        .where(token_families.c.expire_time <= db_now())
        .order_by(token_families.c.expire_time)
        .limit(_SWEEP_AT_ONCE)
    )
    hashes = (await connection.execute(expired)).scalars().all()
    await connection.execute(delete(token_families).where(token_families.c.family_hash.in_(hashes)))
    return len(hashes)


async def private_keys(connection: Connection, candidate: str) -> list[str]:
    """The keys that sign tokens, oldest first; `candidate` becomes the first one if there is none yet.

    Replicas that start at once agree, because only one of them can insert generation 1.
    """
    keys = select(signing_keys.c.private_key).order_by(signing_keys.c.generation)
    standing = (await connection.execute(keys)).scalars().all()
    if standing:
        return list(standing)
    row = {"generation": 1, "private_key": candidate, "create_time": await now(connection)}
    await insert_if_absent(connection, signing_keys, [row])
    return list((await connection.execute(keys)).scalars())


def _customer(row: Row[tuple[object, ...]]) -> Customer:
    return Customer(
        customer_id=row.customer_id,
        email=row.email,
        name=row.name,
        role=Role(row.role),
        create_time=row.create_time,
    )


def _family(row: Row[tuple[object, ...]]) -> Family:
    return Family(
        customer_id=row.customer_id,
        token_hash=row.token_hash,
        expire_time=row.expire_time,
        revoked=row.revoke_time is not None,
    )
