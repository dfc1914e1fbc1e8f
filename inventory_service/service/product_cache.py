"""Products that were read a moment ago. A cache never decides: whoever writes or sells looks at the database.

In this process's memory even where there is a Redis: for so short a time a trip to it saves less than it costs.
"""

from collections.abc import Mapping, Sequence

from inventory_service.domain.catalog import Product
from mesh.cache import Memory
from mesh.clock import SYSTEM_CLOCK, Clock


class ProductCache:
    """Sold products by SKU, each for at most `ttl_s` seconds.

    A writer makes its own process forget the product; other processes, and a reader that was overtaken by a writer,
    may answer for `ttl_s` what was before, the price included.
    """

    def __init__(self, *, ttl_s: float, clock: Clock = SYSTEM_CLOCK) -> None:
        self._memory: Memory[Product] = Memory(clock=clock)
        self._ttl_s = ttl_s

    def get_many(self, skus: Sequence[str]) -> dict[str, Product]:
        """What is known of the SKUs; one that is absent is a miss."""
        return self._memory.get_many(skus)

    def put_many(self, products: Mapping[str, Product]) -> None:
        """Remember products as they were just read."""
        if self._ttl_s:
            self._memory.set_many(products, ttl_s=self._ttl_s)

    def forget(self, sku: str) -> None:
        """Read the product from the database next time."""
        self._memory.delete_many([sku])
