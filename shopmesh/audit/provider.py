"""The payment provider: whether its book is here to be compared with."""

from collections.abc import Sequence

from sqlalchemy import func, select

from checkout_service.payments.intents import payment_intents
from shopmesh.audit.books import Books, read
from shopmesh.audit.findings import Fault, Finding, Invariant

PROVIDER = "provider"


class ProviderCheck:
    """Tells which orders' money could not be compared with the book of who took it."""

    covers = ()

    def __init__(self, books: Books) -> None:
        self._books = books

    async def judge(self, subjects: Sequence[str]) -> list[Finding]:
        """At most two notices, on the provider."""
        intents = select(func.count()).select_from(payment_intents).where(payment_intents.c.intent_id != "")
        (rows,) = await read(self._books.checkout, intents)
        elsewhere = int(rows[0][0])
        faults = []
        if elsewhere:
            message = f"{elsewhere} payments were made at a provider whose book is not here"
            faults.append(Fault("book-elsewhere", f"{message}: they were compared with our own rows only"))
        if self._books.psp is None:
            message = "there is no provider's book: no money was compared with it"
            faults.append(Fault("book-absent", message))
        return [Finding(Invariant.MONEY, one, fault, is_notice=True) for one in subjects for fault in faults]
