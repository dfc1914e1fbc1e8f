"""Products that were read a moment ago. A cache never decides: whoever writes or sells looks at the database."""

from collections.abc import Mapping, Sequence
from datetime import datetime

import orjson

from inventory_service.domain.catalog import Facts, Money, Product
from mesh.cache import Cache

# Changes with the shape of what is stored, so that two versions of the program can share one cache.
_PREFIX = "inventory:product:1:"


class ProductCache:
    """Sold products by SKU, each for at most `ttl_s` seconds.

    A reader that is overtaken by a writer may put back what the writer has just made it forget, so even the price may
    be as old as `ttl_s`.
    """

    def __init__(self, cache: Cache, *, ttl_s: float) -> None:
        self._cache = cache
        self._ttl_s = ttl_s

    async def get_many(self, skus: Sequence[str]) -> dict[str, Product]:
        """What is known of the SKUs; one that is absent is a miss."""
        if not self._ttl_s:
            return {}
        found = await self._cache.get_many([_PREFIX + sku for sku in skus])
        return {key.removeprefix(_PREFIX): _product(value) for key, value in found.items()}

    async def put_many(self, products: Mapping[str, Product]) -> None:
        """Remember products as they were just read."""
        if products and self._ttl_s:
            values = {_PREFIX + sku: orjson.dumps(_value(product)) for sku, product in products.items()}
            await self._cache.set_many(values, ttl_s=self._ttl_s)

    async def forget(self, sku: str) -> None:
        """Read the product from the database next time."""
        await self._cache.delete_many([_PREFIX + sku])


def _value(product: Product) -> dict[str, object]:
    facts, price = product.facts, product.facts.price
    return {
        "sku": product.sku,
        "facts": {
            "name": facts.name,
            "description": facts.description,
            "category": facts.category,
            "price": {"currency_code": price.currency_code, "minor_units": price.minor_units},
            "weight_grams": facts.weight_grams,
        },
        "available": product.available,
        "etag": product.etag,
        "create_time": product.create_time,
        "update_time": product.update_time,
    }


def _product(value: bytes) -> Product:
    fields = orjson.loads(value)
    facts = fields["facts"]
    return Product(
        sku=fields["sku"],
        facts=Facts(**{**facts, "price": Money(**facts["price"])}),
        available=fields["available"],
        etag=fields["etag"],
        create_time=datetime.fromisoformat(fields["create_time"]),
        update_time=datetime.fromisoformat(fields["update_time"]),
    )
