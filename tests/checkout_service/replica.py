"""Services of a shop with a clock and failpoints of their own, and further replicas of checkout, in this process."""

import asyncio
import contextlib
import dataclasses
import uuid
from collections.abc import AsyncIterator, Iterable
from functools import partial
from typing import Any

import grpc

import cart_service.app
import checkout_service.app
import inventory_service.app
from checkout_service.domain import CartView, OrderLine, Quote
from checkout_service.placing import NewOrder
from mesh.channel import open_channel
from mesh.clock import SYSTEM_CLOCK, Clock
from mesh.failpoint import Failpoints
from mesh.program import Program, open_kit
from tests.checkout_service.build import TOTALS, place_order
from tests.checkout_service.shop import SERVICE_CONFIG, Shop
from tests.support.servers import free_port

_APPS: dict[str, Any] = {
    "inventory": inventory_service.app,
    "cart": cart_service.app,
    "checkout": checkout_service.app,
}


@contextlib.asynccontextmanager
async def running(
    shop: Shop,
    name: str = "checkout",
    *,
    clock: Clock = SYSTEM_CLOCK,
    failpoints: Failpoints | None = None,
    port: int = 0,
) -> AsyncIterator[grpc.aio.Channel]:
    """A service over the databases of the shop; a channel to it. On the port where others dial it unless given one."""
    settings = shop.settings(name).model_copy(update={"grpc_port": port or shop.ports[name]})
    kit = dataclasses.replace(open_kit(settings, SERVICE_CONFIG, clock=clock), failpoints=failpoints)
    program = Program(settings, kit)
    build: Any = partial(_APPS[name].build, settings)
    await program.start([build])
    try:
        async with open_channel(f"127.0.0.1:{settings.grpc_port}", SERVICE_CONFIG) as channel:
            await asyncio.wait_for(channel.channel_ready(), 10)
            yield channel
    finally:
        await program.stop()


@contextlib.asynccontextmanager
async def two_replicas(shop: Shop) -> AsyncIterator[tuple[grpc.aio.Channel, grpc.aio.Channel]]:
    """Two replicas of checkout; others dial the first."""
    async with running(shop) as first, running(shop, port=free_port()) as second:
        yield first, second


def orders_of(sku: str, number: int, *, quantity: int = 1) -> Iterable[NewOrder]:
    """So many orders of one product by guests, each of a cart of its own, as the service hands them to the writer."""
    for _ in range(number):
        request = place_order(cart_id=str(uuid.uuid4()), request_id=str(uuid.uuid4()))
        cart = CartView(request.cart_id, 1, {sku: quantity})
        quote = Quote(lines=(OrderLine(sku, f"The {sku}", quantity, 1000),), totals=TOTALS)
        yield NewOrder(SYSTEM_CLOCK.uuid7(), request, cart, quote)
