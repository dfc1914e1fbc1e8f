"""The cart service, put together: the only file here that constructs things."""

import asyncio
import contextlib
import logging
from datetime import timedelta
from pathlib import Path

import grpc
from google.protobuf.descriptor import ServiceDescriptor

from cart_service.catalogue import Catalogue
from cart_service.clients import InventoryClient
from cart_service.config import CartSettings
from cart_service.service import CartService
from cart_service.servicer import CartServicer
from mesh.clock import Clock
from mesh.config import database_url, service_address
from mesh.db import Database
from mesh.migrate import is_current, upgrade
from mesh.program import Kit
from shop.cart.v1 import cart_pb2, cart_pb2_grpc

MIGRATIONS = Path(__file__).parent / "migrations"
# What one clean-up transaction deletes at most, so that it never holds others up for long.
_CLEANUP_ROWS = 500

_log = logging.getLogger(__name__)


async def migrate(settings: CartSettings) -> None:
    """Bring the cart database to the newest schema. Idempotent. Raises Failure UNAVAILABLE."""
    await upgrade(database_url(settings, "cart"), MIGRATIONS)


async def build(settings: CartSettings, kit: Kit) -> "CartApp":
    """The cart service that the settings describe; touches neither network nor database."""
    database = await kit.open_database(settings, "cart")
    inventory = InventoryClient(kit.channels.to(service_address(settings, "inventory")), kit.calls_as("cart"))
    service = CartService(database, Catalogue(inventory, kit.cache, clock=kit.clock), clock=kit.clock)
    return CartApp(settings, database, service, clock=kit.clock)


class CartApp:
    """The cart service as programs run it."""

    name = "cart"
    descriptors: tuple[ServiceDescriptor, ...] = (cart_pb2.DESCRIPTOR.services_by_name["CartService"],)

    def __init__(self, settings: CartSettings, database: Database, service: CartService, *, clock: Clock) -> None:
        self._settings = settings
        self._database = database
        self.service = service
        self._clock = clock
        self._stopping = asyncio.Event()
        self._cleanup: asyncio.Task[None] | None = None

    def register(self, server: grpc.aio.Server) -> None:
        """Add the servicer."""
        cart_pb2_grpc.add_CartServiceServicer_to_server(CartServicer(self.service), server)

    async def start(self) -> None:
        """Start deleting expired carts now and then."""
        self._cleanup = asyncio.create_task(self._clean_up(), name="cart clean-up")

    async def ready(self) -> bool:
        """Whether the database is reachable and has our schema."""
        return await is_current(self._database, MIGRATIONS)

    async def stop(self) -> None:
        """End the clean-up, finish writes under way, close the database."""
        self._stopping.set()
        if self._cleanup is not None:
            await self._cleanup
        await self.service.close()
        await self._database.close()

    async def _clean_up(self) -> None:
        failing = False
        while not self._stopping.is_set():
            await self._pause()
            try:
                await self._delete_expired()
            except Exception:  # noqa: BLE001 - the loop outlives a database that is away
                if not failing:
                    _log.warning("clean-up of carts failed and goes on trying", exc_info=True)
                failing = True
            else:
                failing = False

    async def _pause(self) -> None:
        # Replicas started together drift apart.
        pause_s = self._settings.cart_cleanup_every_s * self._clock.uniform(0.5, 1.5)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(pause_s):
                await self._stopping.wait()

    async def _delete_expired(self) -> None:
        ttl = timedelta(seconds=self._settings.cart_ttl_s)
        while not self._stopping.is_set() and await self.service.delete_expired(ttl=ttl, at_most=_CLEANUP_ROWS):
            pass
