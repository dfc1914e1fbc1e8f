"""A coordinator is stopped in the middle of its steps, another finishes its orders, then the first goes on.

It is stopped for as long as its successor needs, which is longer than its lease. Three of the orders are called off
meanwhile, so that it wakes up to sell, to hold and to charge for what is over. Nothing of that leaves a trace.
"""

import asyncio
import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from checkout_service import tables
from checkout_service.payments.tables import payments
from inventory_service.tables import movements, reservations
from inventory_service.tables import stock as shelves
from mesh.failpoint import VARIABLE
from shop.checkout.v1 import checkout_pb2 as pb
from shop.checkout.v1 import checkout_pb2_grpc
from tests.checkout_service.audit import assert_settled
from tests.checkout_service.process import CheckoutProcess, channel_to
from tests.checkout_service.records import rows
from tests.checkout_service.shop import Shop, answered, database_names, running_shop, until
from tests.checkout_service.shopper import Shopper, end_of, new_product, place_order, stock, under_way
from tests.support.servers import free_port

# Between the look at the lease and the send of a command, the process waits for so long: the first order gets as far as
# its cart, the second to its stock, the third to giving back what it held, the fifth to its hold.
WAITS_S = 12
POINTS = ("call.BatchSettleCarts@1", "call.BatchCommit@2", "call.BatchRelease@1", "call.BatchReserve@5")
# The fourth is in the middle of a command, at the provider.
ORDERS = (
    ("tok_ok", "SETTLING"),
    ("tok_ok", "COMMITTING"),
    ("tok_decline", "RELEASING"),
    ("tok_slow", "AUTHORIZING"),
    ("tok_ok", "RESERVING"),
)
# Those that stop before they sell, charge and hold.
CALLED_OFF = (1, 3, 4)


class Slow(CheckoutProcess):
    """A coordinator that waits before it sends."""

    def _environment(self) -> dict[str, str]:
        waits = ",".join(f"{point.replace('@', f'=delay:{WAITS_S}@')}" for point in POINTS)
        return super()._environment() | {VARIABLE: waits}

    @contextlib.contextmanager
    def stopped(self) -> Iterator[None]:
        """Frozen meanwhile."""
        os.kill(self.pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(self.pid, signal.SIGCONT)

    def said(self, message: str) -> int:
        """How often its log has the words."""
        return (self.folder / "server.log").read_text().count(message)


@pytest.mark.survives("zombie-resumes", "zombie-between-check-and-send")
@pytest.mark.timeout(240)
async def test_a_coordinator_that_wakes_up_behind_its_successor_changes_nothing(
    mariadb_url: str, tmp_path: Path
) -> None:
    async with running_shop(Shop(tmp_path, database_names(mariadb_url)), without=("checkout",)) as shop:
        first = Slow(shop, tmp_path / "first", shop.ports["checkout"])
        second = CheckoutProcess(shop, tmp_path / "second", free_port())
        try:
            await first.up(shop.channels["checkout"])
            sku, guest = await new_product(shop, 20), Shopper(shop)
            requests = [place_order(await guest.fill(sku), token) for token, _ in ORDERS]
            calls, order_ids = [], []
            for request, (_, state) in zip(requests, ORDERS, strict=True):
                calls.append(asyncio.create_task(guest.send(request)))
                order_ids.append(await under_way(shop, request.cart_id, state))

            async with channel_to(second) as other:
                with first.stopped():
                    await second.up(other)
                    cancelling = [cancel(other, order_ids[number]) for number in CALLED_OFF]
                    await asyncio.gather(*cancelling)
                    await assert_settled(shop, within_s=60)
                    # A second settlement would take this out of the cart once more.
                    await guest.fill(sku, 2, cart_id=requests[0].cart_id)
                    after = await everything(shop)
            await until(lambda: dropped(first, len(requests)), within_s=60)
            await asyncio.gather(*calls, return_exceptions=True)

            assert await everything(shop) == after
            assert await guest.cart(requests[0].cart_id) == {sku: 2}
            ends = [end_of(await guest.order(order_id)) for order_id in order_ids]
            paid = ("PAID", "")
            assert (ends[0], ends[2]) == (paid, ("PAYMENT_FAILED", "CARD_DECLINED"))
            assert {ends[number] for number in CALLED_OFF} <= {("CANCELLED", "CANCELLED"), ("REFUNDED", "CANCELLED")}
            assert await stock(shop, sku) == (19, 0)
            # It is alive and well, and takes new orders.
            assert end_of(await guest.place(await guest.fill(sku))) == paid
            await assert_settled(shop)
        finally:
            first.remove()
            second.remove()


async def cancel(channel: grpc.aio.Channel, order_id: str) -> None:
    stub: Any = checkout_pb2_grpc.CheckoutServiceStub(channel)
    await answered(stub.CancelOrder(pb.CancelOrderRequest(order_id=order_id)))


async def dropped(process: Slow, number: int) -> bool:
    """Whether it has let so many sagas go, because somebody else moves them now."""
    return process.said("saga taken over") + process.said("saga left") >= number


async def everything(shop: Shop) -> dict[str, Any]:
    """All that coordinators write, wherever."""
    checkout = (tables.orders, tables.order_events, tables.sagas, tables.answers, tables.invoices, tables.cart_claims)
    found = {table.name: await rows(shop.databases["checkout"], table) for table in checkout}
    found |= {
        table.name: await rows(shop.databases["inventory"], table) for table in (reservations, movements, shelves)
    }
    return found | {"book": await rows(shop.databases["psp"], payments)}
