"""What carts know of products: prices and names to show, and what may be put in.

Whatever is asked while one call to the inventory service is under way is asked together in the next. A read may be
seconds behind and does without what it cannot learn; a write asks anew and fails when there is no answer.
"""

import asyncio
import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

import orjson

from cart_service.prices import Money, Product
from mesh.batch import Batcher
from mesh.cache import Cache, Memory
from mesh.clock import SYSTEM_CLOCK, Clock
from mesh.errors import Failure

# How long a price is kept, here and in the cache that replicas share: a cart's may lag by both together. It is there to
# be looked at; checkout asks anew.
_KNOWN_TTL_S = 5.0
_SHARED_TTL_S = 1.5
# How long a read waits for prices before it answers without.
_PATIENCE_S = 0.5
# What the contract's batch calls take.
_MAX_SKUS = 1000

_log = logging.getLogger(__name__)


class Inventory(Protocol):
    """The part of the inventory service that carts need; both raise Failure."""

    async def products(self, skus: Sequence[str]) -> dict[str, Product]:
        """The products that are sold, by SKU."""

    async def available(self, skus: Sequence[str]) -> dict[str, int]:
        """How many can be bought now, by SKU; unknown ones are left out."""


@dataclass(frozen=True, slots=True)
class Offer:
    """A product that is sold, and how many of it there are."""

    product: Product
    available: int


class Catalogue:
    """Combined look-ups in the inventory service, products cached. Make it on the running loop."""

    def __init__(self, inventory: Inventory, cache: Cache, *, clock: Clock = SYSTEM_CLOCK) -> None:
        self._inventory = inventory
        self._cache = cache
        self._known: Memory[Product] = Memory(clock=clock)
        self._offers: Batcher[str, Offer | None] = Batcher("offers", self._find_offers, max_items=_MAX_SKUS, lanes=2)
        self._products: Batcher[str, Product | None] = Batcher(
            "products", self._find_products, max_items=_MAX_SKUS, lanes=2
        )

    async def offer(self, sku: str, *, deadline: float | None) -> Offer | None:
        """What can be bought of the SKU now; None if it is not sold. `deadline` in loop time. Raises Failure."""
        return await self._offers.submit(sku, deadline=deadline)

    async def products(self, skus: Iterable[str]) -> dict[str, Product]:
        """The products by SKU as they were some seconds ago at most; absent if not sold or not to be learnt now."""
        wanted = list(skus)
        found = self._known.get_many(wanted)
        missing = [sku for sku in wanted if sku not in found]
        return found | await self._ask(missing) if missing else found

    async def close(self) -> None:
        """End the look-ups."""
        await asyncio.gather(self._offers.close(), self._products.close())

    async def _ask(self, skus: list[str]) -> dict[str, Product]:
        try:
            async with asyncio.timeout(_PATIENCE_S):
                answers = await self._products.submit_many(skus)
        except (Failure, TimeoutError) as error:
            _log.warning("no prices to show", extra={"cause": str(error) or "slow"})
            return {}
        failures = [answer for answer in answers if isinstance(answer, Failure)]
        if failures:
            _log.warning("no prices to show", extra={"cause": str(failures[0])})
        return {answer.sku: answer for answer in answers if isinstance(answer, Product)}

    async def _find_products(self, skus: Sequence[str]) -> list[Product | None]:
        wanted = sorted(set(skus))
        cached = await self._cache.get_many([_key(sku) for sku in wanted])
        products = {sku: _product(cached[_key(sku)]) for sku in wanted if _key(sku) in cached}
        self._known.set_many(products, ttl_s=_KNOWN_TTL_S)
        missing = [sku for sku in wanted if sku not in products]
        if missing:
            asked = await self._inventory.products(missing)
            await self._remember(asked)
            products |= asked
        return [products.get(sku) for sku in skus]

    async def _find_offers(self, skus: Sequence[str]) -> list[Offer | None]:
        wanted = sorted(set(skus))
        # Both are over before the failure of one is told, so that none is left behind.
        products, available = await asyncio.gather(
            self._inventory.products(wanted), self._inventory.available(wanted), return_exceptions=True
        )
        if isinstance(products, BaseException):
            raise products
        if isinstance(available, BaseException):
            raise available
        await self._remember(products)
        offers = {sku: Offer(product, available.get(sku, 0)) for sku, product in products.items()}
        return [offers.get(sku) for sku in skus]

    async def _remember(self, products: dict[str, Product]) -> None:
        self._known.set_many(products, ttl_s=_KNOWN_TTL_S)
        values = {_key(sku): _bytes(product) for sku, product in products.items()}
        await self._cache.set_many(values, ttl_s=_SHARED_TTL_S)


def _key(sku: str) -> str:
    return f"cart:product:{sku}"


def _bytes(product: Product) -> bytes:
    return orjson.dumps([product.sku, product.name, product.price.currency_code, product.price.minor_units])


def _product(value: bytes) -> Product:
    sku, name, currency_code, minor_units = orjson.loads(value)
    return Product(sku, name, Money(currency_code, minor_units))
