"""Puts the identity service together; the only file of it that constructs things."""

import asyncio
import logging
import random
from pathlib import Path

import grpc
from google.protobuf.descriptor import ServiceDescriptor

from identity_service.config import IdentitySettings
from identity_service.passwords import Passwords
from identity_service.service import IdentityService
from identity_service.servicer import IdentityServicer
from mesh.config import database_url
from mesh.db import Database
from mesh.migrate import is_current, upgrade
from mesh.program import Kit
from shop.identity.v1 import identity_pb2, identity_pb2_grpc

MIGRATIONS = Path(__file__).parent / "migrations"

_NAME = "identity"
_SWEEP_EVERY_S = 3600.0
_RETRY_S = 2.0

_log = logging.getLogger(__name__)


async def migrate(settings: IdentitySettings) -> None:
    """Bring the database to the newest schema. Idempotent. Raises Failure UNAVAILABLE."""
    await upgrade(database_url(settings, _NAME), MIGRATIONS)


async def build(settings: IdentitySettings, kit: Kit) -> "IdentityApp":
    """The service that the settings describe. Reaches for nothing; `ready` tells whether the database is there."""
    database = await kit.open_database(settings, _NAME)
    passwords = Passwords(threads=settings.hash_threads)
    service = IdentityService(database, passwords, clock=kit.clock)
    demo = settings.embedded if settings.demo is None else settings.demo
    return IdentityApp(service, database, passwords, demo=demo)


class IdentityApp:
    """The service as `mesh.run` serves it."""

    name = _NAME
    descriptors: tuple[ServiceDescriptor, ...] = (identity_pb2.DESCRIPTOR.services_by_name["IdentityService"],)

    def __init__(self, service: IdentityService, database: Database, passwords: Passwords, *, demo: bool) -> None:
        self.service = service
        self._database = database
        self._passwords = passwords
        self._demo = demo
        # Whoever is told of the demo's accounts may use them at once.
        self._can_sign_in = not demo
        self._stopping = asyncio.Event()
        self._housekeeping: asyncio.Task[None] | None = None

    def register(self, server: grpc.aio.Server) -> None:
        """Add the servicer."""
        identity_pb2_grpc.add_IdentityServiceServicer_to_server(IdentityServicer(self.service), server)

    async def start(self) -> None:
        """Start the housekeeping: the demo's accounts at once, expired tokens now and then."""
        self._housekeeping = asyncio.create_task(self._keep_house(), name="identity housekeeping")

    async def ready(self) -> bool:
        """Whether the database is there with the schema that we expect, and whoever may sign in can."""
        return self._can_sign_in and await is_current(self._database, MIGRATIONS)

    async def stop(self) -> None:
        """End the housekeeping and close what `build` opened."""
        self._stopping.set()
        if self._housekeeping is not None:
            await self._housekeeping
        self._passwords.close()
        await self._database.close()

    async def _keep_house(self) -> None:
        failing = False
        while not self._stopping.is_set():
            try:
                if self._demo:
                    await self.service.ensure_demo_accounts()
                self._can_sign_in = True
                await self.service.sweep()
            except Exception:  # noqa: BLE001 - the loop outlives a database that is away or not yet migrated
                if not failing:
                    _log.warning("identity housekeeping failed and goes on trying", exc_info=True)
                failing = True
            else:
                failing = False
            await self._pause(_RETRY_S if failing else _SWEEP_EVERY_S)

    async def _pause(self, about_s: float) -> None:
        try:
            async with asyncio.timeout(about_s * random.uniform(0.5, 1.5)):  # noqa: S311 - jitter, not a secret
                await self._stopping.wait()
        except TimeoutError:
            return
