"""Both payment providers for tests of what any must keep, the hostile one for those of what one must survive."""

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from checkout_service.payments.http_provider import HttpPaymentProvider
from checkout_service.payments.intents import Intents
from checkout_service.payments.provider import Authorization, PaymentProvider
from checkout_service.payments.psp_client import PspClient
from checkout_service.payments.simulator import PaymentSimulator
from checkout_service.payments.tables import payments
from mesh.clock import SYSTEM_CLOCK
from mesh.db import Database
from tests.checkout_service.records import rows
from tests.support.psp import API_KEY, HostilePsp, hostile_psp

TIMEOUT_S = 0.3


@dataclass(frozen=True)
class Provided:
    """A provider, another one as a second replica has it, and what its book says was captured and refunded."""

    provider: PaymentProvider
    replica: PaymentProvider
    money: Callable[[str], Awaitable[tuple[int, int]]]


def wish(key: str = "o-1", token: str = "tok_ok", amount_minor: int = 2963) -> Authorization:
    """Someone pays."""
    return Authorization(payment_key=key, token=token, amount_minor=amount_minor, currency_code="EUR")


def http_provider(url: str, database: Database, *, timeout_s: float = TIMEOUT_S) -> HttpPaymentProvider:
    """A provider that speaks to the one at `url`."""
    return HttpPaymentProvider(PspClient(url, API_KEY, timeout_s=timeout_s), Intents(database))


def moved(psp: HostilePsp, order_id: str = "o-1") -> list[tuple[str, int]]:
    """The order's money, as it moved."""
    return [(move.kind, move.amount) for move in psp.book.movements if move.order_id == order_id]


def statuses(psp: HostilePsp, order_id: str = "o-1") -> list[str]:
    """Where the order's intents stand, oldest first."""
    return [intent.status for intent in psp.book.of_order(order_id)]


@pytest.fixture
async def psp(tmp_path: Path) -> AsyncIterator[HostilePsp]:
    """A hostile provider with an empty book."""
    async with hostile_psp(tmp_path) as psp:
        yield psp


@pytest.fixture
async def remote(psp: HostilePsp, database: Database) -> AsyncIterator[HttpPaymentProvider]:
    """What speaks to the hostile provider."""
    provider = http_provider(psp.url, database)
    yield provider
    await provider.close()


@pytest.fixture(params=["simulator", "http"])
async def provided(
    request: pytest.FixtureRequest, database: Database, book: Database, psp: HostilePsp
) -> AsyncIterator[Provided]:
    """Each provider in its turn."""
    provided = _simulated(book) if request.param == "simulator" else _remote(psp, database)
    yield provided
    await provided.provider.close()
    await provided.replica.close()


def _simulated(book: Database) -> Provided:
    async def money(key: str) -> tuple[int, int]:
        entries = await rows(book, payments, payment_key=key)
        return sum(row["captured_minor"] for row in entries), sum(row["refunded_minor"] for row in entries)

    async def send(_: bytes) -> None:
        """Nobody listens."""

    first, second = (PaymentSimulator(book, SYSTEM_CLOCK, send) for _ in range(2))
    return Provided(first, second, money)


def _remote(psp: HostilePsp, database: Database) -> Provided:
    async def money(key: str) -> tuple[int, int]:
        return psp.book.money(key)

    first, second = (http_provider(psp.url, database, timeout_s=5) for _ in range(2))
    return Provided(first, second, money)
