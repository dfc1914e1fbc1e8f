"""Puts the inventory service together; the only file of it that constructs things."""

import asyncio
from pathlib import Path

import grpc
from google.protobuf.descriptor import ServiceDescriptor

from inventory_service.config import InventorySettings
from inventory_service.service.catalog import CatalogService
from inventory_service.service.product_cache import ProductCache
from inventory_service.service.reservations import EXPIRE_AT_ONCE, FORGET_AT_ONCE, ReservationService
from inventory_service.service.stock import StockService
from inventory_service.servicer.catalog import CatalogServicer
from inventory_service.servicer.inventory import InventoryServicer
from inventory_service.sweeper import Sweeper
from mesh.clock import Clock
from mesh.config import database_url
from mesh.db import Database
from mesh.migrate import is_current, upgrade
from mesh.program import Kit
from shop.inventory.v1 import catalog_pb2, catalog_pb2_grpc, inventory_pb2, inventory_pb2_grpc

MIGRATIONS = Path(__file__).parent / "migrations"

_NAME = "inventory"
_EXPIRE_EVERY_S = 1.0
_FORGET_EVERY_S = 600.0


async def migrate(settings: InventorySettings) -> None:
    """Bring the database to the newest schema. Idempotent. Raises Failure UNAVAILABLE."""
    await upgrade(database_url(settings, _NAME), MIGRATIONS)


async def build(settings: InventorySettings, kit: Kit) -> "InventoryApp":
    """The service that the settings describe. Reaches for nothing; `ready` tells whether the database is there."""
    database = await kit.open_database(settings, _NAME)
    cache = ProductCache(ttl_s=settings.product_cache_s, clock=kit.clock)
    return InventoryApp(
        database,
        CatalogService(database, cache, clock=kit.clock, currency=settings.currency),
        StockService(database, cache, clock=kit.clock),
        ReservationService(database, clock=kit.clock),
        clock=kit.clock,
    )


class InventoryApp:
    """The service as `mesh.run` serves it."""

    name = _NAME
    descriptors: tuple[ServiceDescriptor, ...] = (
        catalog_pb2.DESCRIPTOR.services_by_name["CatalogService"],
        inventory_pb2.DESCRIPTOR.services_by_name["InventoryService"],
    )

    def __init__(
        self,
        database: Database,
        catalog: CatalogService,
        stock: StockService,
        reservations: ReservationService,
        *,
        clock: Clock,
    ) -> None:
        self.catalog = catalog
        self.stock = stock
        self.reservations = reservations
        self._database = database
        self._sweepers = (
            Sweeper("expired", reservations.expire, full=EXPIRE_AT_ONCE, every_s=_EXPIRE_EVERY_S, clock=clock),
            Sweeper("ended", reservations.forget, full=FORGET_AT_ONCE, every_s=_FORGET_EVERY_S, clock=clock),
        )

    def register(self, server: grpc.aio.Server) -> None:
        """Add the servicers."""
        catalog_pb2_grpc.add_CatalogServiceServicer_to_server(CatalogServicer(self.catalog), server)
        servicer = InventoryServicer(self.stock, self.reservations)
        inventory_pb2_grpc.add_InventoryServiceServicer_to_server(servicer, server)

    async def start(self) -> None:
        """Start giving back expired holds, and forgetting reservations that ended long ago."""
        for sweeper in self._sweepers:
            sweeper.start()

    async def ready(self) -> bool:
        """Whether the database is there with the schema that we expect."""
        return await is_current(self._database, MIGRATIONS)

    async def stop(self) -> None:
        """Stop sweeping, finish what waits, close the database."""
        await asyncio.gather(*(sweeper.stop() for sweeper in self._sweepers))
        await self.reservations.close()
        await self.stock.close()
        await self._database.close()
