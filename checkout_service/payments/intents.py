"""Which intent at the provider stands for a payment key: one row per key, written before that intent is confirmed.

This row is what makes a second charge impossible: whoever may have created an intent of his own, everybody confirms the
one whose row stands. A row without an intent bars the key; nothing will ever be confirmed for it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import BigInteger, CheckConstraint, Column, Table, select
from sqlalchemy.ext.asyncio import AsyncConnection

from checkout_service.tables import metadata
from mesh.batch import Batcher
from mesh.db import BY_PRIMARY_KEY, ID, WORD, Database, Utc, now
from mesh.errors import Failure
from mesh.rows import insert_if_absent

payment_intents = Table(
    "payment_intents",
    metadata,
    Column("payment_key", ID, primary_key=True),
    # Empty where the key is barred.
    Column("intent_id", ID, nullable=False),
    # What was asked for, in minor units.
    Column("currency_code", WORD, nullable=False),
    Column("amount_minor", BigInteger, nullable=False),
    Column("create_time", Utc(), nullable=False),
    CheckConstraint("amount_minor >= 0", name="ck_payment_intents_amount"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Intent:
    """The intent that stands for a key and what was asked for with it; without an id the key is barred."""

    payment_key: str
    intent_id: str = ""
    currency_code: str = ""
    amount_minor: int = 0

    @property
    def is_barred(self) -> bool:
        """Whether nothing may be paid under this key any more."""
        return not self.intent_id


class Intents:
    """The rows, for many callers at once. Both methods raise UNAVAILABLE when the database is away."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._writes: Batcher[Intent, Intent] = Batcher("payment intents", self._keep_many)
        self._reads: Batcher[str, Intent | None] = Batcher("payment intent look-up", self._find_many)

    async def keep(self, intent: Intent) -> Intent:
        """Write the intent down unless its key has one, and answer the one that stands, durable. Idempotent."""
        return await self._writes.submit(intent)

    async def find(self, payment_key: str) -> Intent | None:
        """The intent that stands for the key."""
        return await self._reads.submit(payment_key)

    async def close(self) -> None:
        """Finish what waits. The database stays open: it is somebody else's."""
        await self._writes.close()
        await self._reads.close()

    async def _keep_many(self, intents: Sequence[Intent]) -> list[Intent | Failure]:
        async def body(connection: AsyncConnection) -> list[Intent | Failure]:
            await _add(connection, intents)
            standing = await _read(connection, [intent.payment_key for intent in intents])
            return [standing[intent.payment_key] for intent in intents]

        return await self._database.transact("payment_intents", body)

    async def _find_many(self, keys: Sequence[str]) -> list[Intent | Failure | None]:
        found = await self._database.transact(
            "payment_intents_find", lambda connection: _read(connection, keys), read_only=True
        )
        return [found.get(key) for key in keys]


async def _add(connection: AsyncConnection, intents: Sequence[Intent]) -> None:
    at = await now(connection)
    rows = [
        {
            "payment_key": intent.payment_key,
            "intent_id": intent.intent_id,
            "currency_code": intent.currency_code,
            "amount_minor": intent.amount_minor,
            "create_time": at,
        }
        for intent in sorted(intents, key=lambda intent: intent.payment_key)
    ]
    await insert_if_absent(connection, payment_intents, rows)


async def _read(connection: AsyncConnection, keys: Sequence[str]) -> dict[str, Intent]:
    statement = (
        select(
            payment_intents.c.payment_key,
            payment_intents.c.intent_id,
            payment_intents.c.currency_code,
            payment_intents.c.amount_minor,
        )
        .where(payment_intents.c.payment_key.in_(sorted(set(keys))))
        .with_hint(payment_intents, BY_PRIMARY_KEY, "mysql")
    )
    rows = await connection.execute(statement)
    return {row.payment_key: Intent(**row._mapping) for row in rows}  # noqa: SLF001 - the row's public mapping
