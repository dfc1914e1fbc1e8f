"""The use cases of CatalogService."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from inventory_service.domain.catalog import (
    Change,
    Draft,
    Facts,
    Product,
    check_etag,
    product_exists,
    product_not_found,
    select,
)
from inventory_service.service.product_cache import ProductCache
from inventory_service.store import Connection
from inventory_service.store import products as store
from mesh.clock import Clock
from mesh.db import Database
from mesh.errors import FieldViolation, invalid
from mesh.paging import Page, decode_token, page, page_size
from mesh.validate import Violations

_MOST_SKUS = 1000


class CatalogService:
    """Products. Reading one answers from a cache of a second or so; lists and writes go to the database."""

    def __init__(self, database: Database, cache: ProductCache, *, clock: Clock, currency: str = "EUR") -> None:
        self._database = database
        self._cache = cache
        self._clock = clock
        self._currency = currency

    async def list_products(
        self, *, page_size_asked: int, page_token: str, category: str, in_stock: bool, q: str, order_by: str
    ) -> Page[Product]:
        """Products that are sold, a page at a time."""
        violations = Violations()
        size = page_size(violations, page_size_asked)
        selection = select(violations, category=category, in_stock=in_stock, q=q, order_by=order_by)
        after = decode_token(violations, page_token, selection, selection.read_key)
        violations.raise_if_any()
        found = await self._database.transact(
            "list products",
            lambda connection: store.list_products(connection, selection, limit=size + 1, after=after),
            read_only=True,
        )
        return page(found, size, listing=selection, key=selection.key_of)

    async def get_product(self, sku: str) -> Product:
        """One product. Raises NOT_FOUND PRODUCT_NOT_FOUND if it never existed or is retired."""
        violations = Violations()
        violations.identifier("sku", sku)
        violations.raise_if_any()
        products = await self._read([sku])
        if sku not in products:
            raise product_not_found(sku)
        return products[sku]

    async def batch_get_products(self, skus: Sequence[str]) -> tuple[list[Product], list[str]]:
        """The products in the order of the request, and the SKUs that are not sold."""
        violations = Violations()
        violations.count("skus", len(skus), most=_MOST_SKUS)
        for number, sku in enumerate(skus[:_MOST_SKUS]):
            violations.identifier(f"skus[{number}]", sku)
        violations.raise_if_any()
        products = await self._read(list(dict.fromkeys(skus)))
        return [products[sku] for sku in skus if sku in products], [sku for sku in skus if sku not in products]

    async def create_product(self, draft: Draft) -> Product:
        """Add a product with no stock. Raises ALREADY_EXISTS PRODUCT_EXISTS for a SKU in use."""
        self._check_currency(draft.facts)
        # Drawn here and not in the transaction: a repeated one recognises its own work.
        etag = self._clock.uuid7()

        async def create(connection: Connection) -> Product:
            if not await store.insert_product(connection, draft.sku, draft.facts, etag=etag):
                raise product_exists(draft.sku)
            return (await store.read_products(connection, [draft.sku]))[draft.sku]

        return await self._database.transact("create product", create)

    async def update_product(self, change: Change) -> Product:
        """Change a product's fields. Raises NOT_FOUND PRODUCT_NOT_FOUND, ABORTED ETAG_MISMATCH."""
        if "price" in change.fields:
            self._check_currency(change.facts)
        etag = self._clock.uuid7()
        product = await self._database.transact("update product", partial(_update, change=change, etag=etag))
        self._cache.forget(change.sku)
        return product

    async def delete_product(self, sku: str, *, etag: str) -> None:
        """Retire a product; one that is retired already is fine. Raises as `update_product` does."""
        violations = Violations()
        violations.identifier("sku", sku)
        violations.raise_if_any()

        async def retire(connection: Connection) -> None:
            locked = await store.lock_product(connection, sku)
            if locked is None:
                raise product_not_found(sku)
            if not locked.retired:
                check_etag(locked.product.etag, etag)
                await store.retire_product(connection, sku)

        await self._database.transact("delete product", retire)
        self._cache.forget(sku)

    def _check_currency(self, facts: Facts) -> None:
        # Nobody could order what is priced in another currency.
        if facts.price.currency_code != self._currency:
            raise invalid(
                FieldViolation("product.price.currency_code", f"must be {self._currency}, the shop's currency")
            )

    async def _read(self, skus: list[str]) -> dict[str, Product]:
        products = self._cache.get_many(skus)
        missing = [sku for sku in skus if sku not in products]
        if missing:
            read = await self._database.transact(
                "read products", lambda connection: store.read_products(connection, missing), read_only=True
            )
            self._cache.put_many(read)
            products.update(read)
        return products


async def _update(connection: Connection, *, change: Change, etag: str) -> Product:
    locked = await store.lock_product(connection, change.sku)
    if locked is None or locked.retired:
        raise product_not_found(change.sku)
    # An etag that only we know stands for a repeated transaction whose first COMMIT went through after all.
    if locked.product.etag != etag:
        check_etag(locked.product.etag, change.etag)
        await store.write_facts(connection, change.sku, _changed(locked.product.facts, change), etag=etag)
    return (await store.read_products(connection, [change.sku]))[change.sku]


def _changed(facts: Facts, change: Change) -> Facts:
    return replace(facts, **{name: getattr(change.facts, name) for name in change.fields})
