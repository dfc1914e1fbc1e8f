"""The use cases of InventoryService that are about stock itself: reading it, adjusting it, its ledger."""

from collections import Counter
from collections.abc import Callable, Sequence
from datetime import datetime
from functools import partial

from inventory_service.domain.catalog import product_not_found
from inventory_service.domain.stock import Adjust, Adjustments, Movement, Stock
from inventory_service.service.product_cache import ProductCache
from inventory_service.store import Connection
from inventory_service.store import stock as store
from mesh.batch import Batcher
from mesh.channel import current_deadline
from mesh.clock import Clock
from mesh.db import Database, now
from mesh.errors import Failure
from mesh.paging import Page, aware_time, decode_token, page, page_size
from mesh.validate import Violations

_MOST_SKUS = 1000


class StockService:
    """Stock as the database has it this moment, never out of a cache. Make it on the running loop."""

    def __init__(self, database: Database, cache: ProductCache, *, clock: Clock) -> None:
        self._database = database
        self._cache = cache
        self._clock = clock
        self._adjusting: Batcher[Adjust, Stock] = Batcher("adjust stock", self._adjust)

    async def close(self) -> None:
        """Finish what waits."""
        await self._adjusting.close()

    async def get_stock(self, sku: str) -> Stock:
        """The stock of one SKU. Raises NOT_FOUND PRODUCT_NOT_FOUND."""
        _check_sku(sku)
        found = await self._read([sku])
        if sku not in found:
            raise product_not_found(sku)
        return found[sku]

    async def batch_get_stock(self, skus: Sequence[str]) -> list[Stock]:
        """The stock of many SKUs in the order of the request, unknown ones left out."""
        violations = Violations()
        violations.count("skus", len(skus), most=_MOST_SKUS)
        for number, sku in enumerate(skus[:_MOST_SKUS]):
            violations.identifier(f"skus[{number}]", sku)
        violations.raise_if_any()
        found = await self._read(list(dict.fromkeys(skus)))
        return [found[sku] for sku in skus if sku in found]

    async def adjust_stock(self, request: Adjust) -> Stock:
        """Receive, correct or write off stock, once for each operator and request_id. Answers the present stock.

        Raises NOT_FOUND PRODUCT_NOT_FOUND, FAILED_PRECONDITION STOCK_HELD when less would remain than orders hold, and
        ALREADY_EXISTS IDEMPOTENCY_KEY_REUSED for a key that has adjusted something else. A refusal uses up no key.
        """
        stock = await self._adjusting.submit(request, deadline=current_deadline())
        self._cache.forget(request.sku)
        return stock

    async def list_stock_movements(self, sku: str, *, page_size_asked: int, page_token: str) -> Page[Movement]:
        """Every change of a SKU's on_hand, newest first. Raises NOT_FOUND PRODUCT_NOT_FOUND."""
        violations = Violations()
        violations.identifier("sku", sku)
        size = page_size(violations, page_size_asked)
        listing = ("movements", sku)
        after = decode_token(violations, page_token, listing, _read_key)
        violations.raise_if_any()

        async def read(connection: Connection) -> list[Movement]:
            if not await store.read_stock(connection, [sku]):
                raise product_not_found(sku)
            return await store.list_movements(connection, sku, limit=size + 1, after=after)

        found = await self._database.transact("list movements", read, read_only=True)
        return page(found, size, listing=listing, key=_key_of)

    async def _read(self, skus: Sequence[str]) -> dict[str, Stock]:
        return await self._database.transact(
            "read stock", lambda connection: store.read_stock(connection, skus), read_only=True
        )

    async def _adjust(self, requests: Sequence[Adjust]) -> list[Stock | Failure]:
        return await self._database.transact(
            "adjust stock", partial(_adjust, requests=requests, draw_attempt=self._clock.uuid7)
        )


async def _adjust(
    connection: Connection, *, requests: Sequence[Adjust], draw_attempt: Callable[[], str]
) -> list[Stock | Failure]:
    at = await now(connection)
    rows = [request.movement(at) for request in requests]
    claimed = {row.movement_id: row for row in reversed(rows)}
    standing, fresh = await store.claim_movements(connection, list(claimed.values()), attempt=draw_attempt())
    skus = {request.sku for request in requests}
    adjustments = Adjustments(standing, fresh, await store.lock_shelves(connection, skus))
    failures = [adjustments.apply(request, row) for request, row in zip(requests, rows, strict=True)]
    await store.delete_movements(connection, sorted(fresh - adjustments.done.keys()))
    added: Counter[str] = Counter()
    for movement in adjustments.done.values():
        added[movement.sku] += movement.delta
    await store.add_stock(connection, on_hand=added, held={}, at=at)
    stock = await store.read_stock(connection, sorted(skus))
    return [failure or stock[request.sku] for request, failure in zip(requests, failures, strict=True)]


def _check_sku(sku: str) -> None:
    violations = Violations()
    violations.identifier("sku", sku)
    violations.raise_if_any()


def _key_of(movement: Movement) -> tuple[str, str]:
    return movement.create_time.isoformat(), movement.movement_id


def _read_key(key: Sequence[str]) -> tuple[datetime, str]:
    create_time, movement_id = key
    return aware_time(create_time), movement_id
