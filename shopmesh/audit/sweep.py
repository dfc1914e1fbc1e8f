"""The whole audit: every row of every table is read once, in the order of its key, in pieces.

What is keyed by orders is read side by side. What is not, the ledger and the idempotency keys, is weighed against what
the orders say should be there (see Balance); only where that does not come out even is it looked at row by row.
"""

from collections import Counter
from datetime import datetime

from checkout_service.log_store import LogKind
from checkout_service.tables import cart_claims, saga_log
from shopmesh.audit import keys, ledger, stock
from shopmesh.audit.books import Books, pages
from shopmesh.audit.examine import Checks, Look, Looks
from shopmesh.audit.provider import PROVIDER
from shopmesh.audit.sieve import Sieve, Sifted, ids_in
from shopmesh.audit.spans import Balance


class Sweep:
    """Examines everything. Afterwards `sums` are the ledger's, by SKU, of what was written before `settled_before`."""

    def __init__(self, books: Books, checks: Checks, *, settled_before: datetime) -> None:
        self._books = books
        self._checks = checks
        self._settled_before = settled_before
        self._ledger = Balance()
        self._keys = Balance()
        # Orders that are looked at one by one, so that they are in no balance.
        self._set_aside: set[str] = set()
        self.sums: Counter[str] = Counter()

    async def looks(self) -> Looks:
        """Everything to be looked at."""
        yield Look(self._checks.provider, [PROVIDER])
        async for look in self._at_orders():
            yield look
        async for look in self._at_ledger():
            yield look
        async for look in self._at_keys():
            yield look
        async for look in self._at_stock():
            yield look

    async def _at_orders(self) -> Looks:
        # What these name may be an order that looks plain enough otherwise.
        checkout, is_stray = self._books.checkout, saga_log.c.kind == LogKind.STRAY_PAYMENT
        for named in (pages(checkout, cart_claims.c.order_id), pages(checkout, saga_log.c.saga_id, is_stray)):
            async for page in named:
                yield Look(self._checks.orders, page)
        async for sifted in Sieve(self._books).sifted():
            self._weigh(sifted)
            yield Look(self._checks.orders, sifted.suspects, examined=sifted.examined)

    def _weigh(self, sifted: Sifted) -> None:
        self._ledger.open(sifted.span)
        self._keys.open(sifted.span)
        self._set_aside.update(sifted.suspects)
        for expected in sifted.expected:
            self._keys.add(expected.key)
            for movement in expected.movements:
                self._ledger.add(movement)

    async def _at_ledger(self) -> Looks:
        inventory = self._books.inventory
        found = await ledger.read_ledger(
            inventory, self._ledger, settled_before=self._settled_before, set_aside=self._set_aside
        )
        self.sums = found.sums
        yield Look(self._checks.ledger, found.suspects)
        async for look in self._at_orders_in(self._ledger):
            yield look
        if off := self._ledger.off():
            async for page in ledger.rows_caused_in(inventory, off):
                yield Look(self._checks.ledger, page)

    async def _at_keys(self) -> Looks:
        checkout = self._books.checkout
        yield Look(self._checks.keys, await keys.read_keys(checkout, self._keys, set_aside=self._set_aside))
        async for look in self._at_orders_in(self._keys):
            yield look
        if off := self._keys.off():
            async for page in keys.keys_of_orders_in(checkout, off):
                yield Look(self._checks.keys, page)

    async def _at_stock(self) -> Looks:
        inventory = self._books.inventory
        suspects = stock.suspects_among(inventory, self.sums, settled_before=self._settled_before)
        async for page, wrong in suspects:
            yield Look(self._checks.stock, wrong, examined=len(page))
        yield Look(self._checks.stock, await stock.without_stock(inventory, self.sums, reserved=True))

    async def _at_orders_in(self, balance: Balance) -> Looks:
        for span in balance.off():
            yield Look(self._checks.orders, sorted(await ids_in(self._books, span)))
