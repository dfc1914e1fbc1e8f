"""Builders of requests, and the questions that tests ask the database behind the service's back."""

import uuid
from collections.abc import Collection
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

from sqlalchemy import func, select, update

from inventory_service.app import InventoryApp
from inventory_service.domain.catalog import Draft, Facts, Money
from inventory_service.domain.reservation import Commit, Line, Release, Reserve, State
from inventory_service.domain.stock import Adjust
from inventory_service.store import Connection
from inventory_service.tables import movements, reservation_lines, reservations, stock
from mesh.db import Database, now

MUG = Facts(name="Mug", description="Holds coffee.", category="kitchen", price=Money("EUR", 1299), weight_grams=350)


@dataclass(frozen=True)
class Replica:
    """One running copy of the service, and its database."""

    app: InventoryApp
    database: Database

    async def put(self, sku: str, units: int = 0, **facts: Any) -> None:
        """A product with that much on hand."""
        await self.app.catalog.create_product(Draft(sku=sku, facts=replace(MUG, **facts)))
        if units:
            await self.app.stock.adjust_stock(adjust(sku, units))

    async def counters(self, sku: str) -> tuple[int, int]:
        """On hand and held."""
        found = await self.app.stock.get_stock(sku)
        return found.on_hand, found.held

    async def end_of_time_for(self, *reservation_ids: str, prefix: str = "") -> None:
        """Make their time be over a second ago, by the database's clock; with a prefix, all with such ids."""

        async def body(connection: Connection) -> None:
            past = await now(connection) - timedelta(seconds=1)
            ids = reservations.c.reservation_id
            chosen = ids.startswith(prefix) if prefix else ids.in_(reservation_ids)
            await connection.execute(update(reservations).where(chosen).values(expire_time=past))

        await self.database.transact("test", body)


async def assert_balanced(database: Database) -> None:
    """I1 and I2: on_hand is the ledger's sum, held the sum of open lines, and nothing is promised that is not there."""

    async def read(connection: Connection) -> list[dict[str, Any]]:
        counters = await connection.execute(select(stock.c.sku, stock.c.on_hand, stock.c.held))
        ledger = await connection.execute(select(movements.c.sku, func.sum(movements.c.delta)).group_by("sku"))
        is_open = reservations.c.state == State.HELD.value
        held = await connection.execute(
            select(reservation_lines.c.sku, func.sum(reservation_lines.c.quantity))
            .join(reservations, reservations.c.reservation_id == reservation_lines.c.reservation_id)
            .where(is_open)
            .group_by(reservation_lines.c.sku)
        )
        received, promised = dict(map(tuple, ledger.all())), dict(map(tuple, held.all()))
        return [
            {
                "sku": row.sku,
                "counters": (row.on_hand, row.held),
                "facts": (int(received.get(row.sku, 0)), int(promised.get(row.sku, 0))),
            }
            for row in counters
        ]

    for shelf in await database.transact("audit", read, read_only=True):
        assert shelf["counters"] == shelf["facts"], shelf
        assert 0 <= shelf["counters"][1] <= shelf["counters"][0], shelf


def reserve(reservation_id: str, *lines: tuple[str, int], epoch: int = 0, ttl_s: int = 900) -> Reserve:
    return Reserve(reservation_id=reservation_id, lines=tuple(Line(*line) for line in lines), epoch=epoch, ttl_s=ttl_s)


def commit(reservation_id: str, *, epoch: int = 0) -> Commit:
    return Commit(reservation_id=reservation_id, actor="checkout", epoch=epoch)


def release(reservation_id: str, *, epoch: int = 0, return_committed: bool = False) -> Release:
    return Release(reservation_id=reservation_id, actor="checkout", epoch=epoch, return_committed=return_committed)


def adjust(sku: str, delta: int, *, request_id: str = "", reason: str = "received") -> Adjust:
    return Adjust(sku=sku, delta=delta, reason=reason, request_id=request_id or str(uuid.uuid4()), actor="operator-1")


def skus(products: Collection[Any]) -> list[str]:
    return [product.sku for product in products]
