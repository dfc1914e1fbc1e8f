"""kill -9 between two exact moments of an order: the next start finishes it alone, holds nothing back, charges once."""

import asyncio
import signal
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytest_asyncio

from checkout_service import tables
from checkout_service.payments.tables import payments
from mesh.failpoint import VARIABLE
from shop.checkout.v1 import checkout_pb2 as pb
from tests.checkout_service.audit import assert_settled
from tests.checkout_service.process import CheckoutProcess
from tests.checkout_service.records import rows
from tests.checkout_service.shop import Shop, database_names, running_shop
from tests.checkout_service.shopper import Shopper, end_of, new_product, place_order, stock

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(240)]

PAID, REFUNDED = ("PAID", ""), ("REFUNDED", "CANCELLED")
UNWRITTEN = "transact.place_orders=crash_before"
CAPTURE_REFUSED = ("PAYMENT_FAILED", "CAPTURE_DECLINED")


class Fragile(CheckoutProcess):
    """A checkout that dies where it is told to."""

    def die_at(self, failpoint: str) -> None:
        """Arm the failpoint; without one, none."""
        fresh = self._armed.with_suffix(".new")
        fresh.parent.mkdir(parents=True, exist_ok=True)
        fresh.write_text(failpoint)
        fresh.rename(self._armed)

    async def died(self) -> None:
        """Wait until it has."""
        assert self._process is not None
        assert await asyncio.to_thread(self._process.wait, 30) == -signal.SIGKILL
        self.kill()

    @property
    def _armed(self) -> Path:
        return self.folder.with_suffix(".failpoints")

    def _environment(self) -> dict[str, str]:
        return super()._environment() | {VARIABLE: f"@{self._armed}"}


@dataclass
class Dying:
    """A shop on MariaDB whose checkout dies and is started again."""

    shop: Shop
    process: Fragile
    guest: Shopper

    async def dies(self, failpoint: str, request: pb.PlaceOrderRequest | pb.CancelOrderRequest) -> None:
        """Send a request; the process dies at the failpoint, and is started again."""
        self.process.die_at(failpoint)
        method = type(request).__name__.removesuffix("Request")
        calling = asyncio.create_task(self.guest.call(method, request))
        await self.process.died()
        calling.cancel()
        await asyncio.gather(calling, return_exceptions=True)
        self.process.die_at("")
        await self.process.up(self.shop.channels["checkout"])


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def dying(mariadb_url: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Dying]:
    folder = tmp_path_factory.mktemp("dying")
    async with running_shop(Shop(folder, database_names(mariadb_url)), without=("checkout",)) as shop:
        process = Fragile(shop, folder / "process", shop.ports["checkout"])
        process.die_at("")
        await process.up(shop.channels["checkout"])
        yield Dying(shop, process, Shopper(shop))
        process.remove()


@pytest.mark.parametrize(
    ("failpoint", "token", "end"),
    [
        pytest.param(UNWRITTEN, "tok_ok", PAID, marks=pytest.mark.survives("kill-before-order-row")),
        pytest.param(
            "call.BatchReserve=crash_before", "tok_ok", PAID, marks=pytest.mark.survives("kill-after-order-row")
        ),
        pytest.param(
            "call.BatchReserve=crash_after", "tok_ok", PAID, marks=pytest.mark.survives("kill-before-reserve-recorded")
        ),
        # The provider's first entry sets the money aside, its second takes it.
        pytest.param(
            "transact.payment_book=crash_after@1",
            "tok_ok",
            PAID,
            marks=pytest.mark.survives("kill-before-charge-recorded"),
        ),
        pytest.param(
            "transact.payment_book=crash_after@2",
            "tok_ok",
            PAID,
            marks=pytest.mark.survives("kill-before-charge-recorded", "kill-before-paid"),
        ),
        pytest.param("call.BatchCommit=crash_after", "tok_ok", PAID, marks=pytest.mark.survives("kill-before-paid")),
        pytest.param(
            "call.BatchRelease=crash_after",
            "tok_capture_decline",
            CAPTURE_REFUSED,
            marks=pytest.mark.survives("kill-while-undoing"),
        ),
    ],
)
async def test_an_order_whose_coordinator_dies_ends_as_if_it_had_not(
    dying: Dying, failpoint: str, token: str, end: tuple[str, str]
) -> None:
    shop, sku = dying.shop, await new_product(dying.shop, 3)
    request = place_order(await dying.guest.fill(sku), token)

    await dying.dies(failpoint, request)

    if failpoint == UNWRITTEN:
        assert await rows(shop.databases["checkout"], tables.orders, cart_id=request.cart_id) == []
    order = await dying.guest.send(request)
    assert end_of(order) == end
    assert len(await rows(shop.databases["psp"], payments, payment_key=order.order_id)) == 1
    await assert_settled(shop)
    assert await stock(shop, sku) == ((2, 0) if end == PAID else (3, 0))


@pytest.mark.survives("kill-while-undoing")
@pytest.mark.parametrize("failpoint", ["call.BatchRelease=crash_before", "transact.payment_book=crash_after"])
async def test_a_refund_whose_coordinator_dies_is_made_once(dying: Dying, failpoint: str) -> None:
    shop, sku = dying.shop, await new_product(dying.shop, 3)
    order = await dying.guest.place(await dying.guest.fill(sku, 2))

    await dying.dies(failpoint, pb.CancelOrderRequest(order_id=order.order_id))

    assert end_of(await dying.guest.order_in(order.order_id, "REFUNDED")) == REFUNDED
    [entry] = await rows(shop.databases["psp"], payments, payment_key=order.order_id)
    assert entry["refunded_minor"] == entry["captured_minor"] == order.total.minor_units
    await assert_settled(shop)
    assert await stock(shop, sku) == (3, 0)
