"""Puts the checkout service together; the only file here that constructs things."""

from datetime import timedelta
from pathlib import Path

import grpc
from google.api.httpbody_pb2 import HttpBody
from google.protobuf.descriptor import ServiceDescriptor

from checkout_service import webhooks
from checkout_service.clients import CartClient, CatalogClient, InventoryClient
from checkout_service.commands import Commands
from checkout_service.config import CheckoutSettings
from checkout_service.engine import Engine
from checkout_service.event_message import encode_event
from checkout_service.lease import Lease
from checkout_service.payment_checks import PaymentChecks
from checkout_service.payments.choose import open_provider
from checkout_service.payments.provider import PaymentProvider
from checkout_service.payments.simulator import SendWebhook
from checkout_service.relay import Relay
from checkout_service.saga import Patience
from checkout_service.saga_service import SagaService
from checkout_service.saga_servicer import SagaServicer
from checkout_service.service import CheckoutService, Terms
from checkout_service.servicer import SIGNATURE_HEADER, CheckoutServicer, encode_order
from checkout_service.wishes import Desk
from mesh import status
from mesh.clock import Clock
from mesh.config import database_url, service_address
from mesh.db import Database
from mesh.migrate import is_current, upgrade
from mesh.program import Kit, kept_secret
from shop.checkout.v1 import checkout_pb2, checkout_pb2_grpc, saga_pb2, saga_pb2_grpc

MIGRATIONS = Path(__file__).parent / "migrations"
BOOK_MIGRATIONS = Path(__file__).parent / "payments" / "migrations"
_WEBHOOK_TIMEOUT_S = 5.0


async def migrate(settings: CheckoutSettings) -> None:
    """Bring the databases of checkout and of the payment simulator to their newest schema."""
    await upgrade(database_url(settings, "checkout"), MIGRATIONS)
    if settings.simulates_payment:
        await upgrade(database_url(settings, "psp"), BOOK_MIGRATIONS)


async def build(settings: CheckoutSettings, kit: Kit) -> "CheckoutApp":
    """The service, ready to be registered. Touches neither network nor database."""
    database = await kit.open_database(settings, "checkout")
    book = await kit.open_database(settings, "psp")
    calls = kit.calls_as("checkout")
    inventory_channel = kit.channels.to(service_address(settings, "inventory"))
    carts = CartClient(kit.channels.to(service_address(settings, "cart")), calls)
    catalog = CatalogClient(inventory_channel, calls)
    inventory = InventoryClient(inventory_channel, calls)
    secrets = _webhook_secrets(settings)
    own_channel = kit.channels.to(service_address(settings, "checkout"))
    provider = open_provider(
        settings.payment_url,
        settings.payment_api_key,
        database=database,
        book=book,
        clock=kit.clock,
        send_webhook=_webhook_sender(own_channel, secrets[0], kit.clock),
        failpoints=kit.failpoints,
    )
    payment_timeout = timedelta(seconds=settings.payment_timeout_s)
    patience = Patience(payment=payment_timeout)
    commands = Commands(inventory, carts, provider, payment_timeout=payment_timeout)
    relay = Relay(database, kit.events, encode=encode_event, clock=kit.clock)
    engine = Engine(
        database,
        commands,
        Lease(database, kit.clock),
        PaymentChecks(database, provider),
        encode=encode_order,
        announce=relay.wake,
        patience=patience,
        clock=kit.clock,
    )
    desk = Desk(database=database, owner=engine.owner, encode=encode_order, patience=patience)
    terms = Terms(currency_code=settings.currency, wait_s=settings.place_order_wait_s, webhook_secrets=secrets)
    service = CheckoutService(database, engine, carts, catalog, terms=terms, desk=desk, clock=kit.clock)
    return CheckoutApp(
        database=database,
        book=book if settings.simulates_payment else None,
        clients=(carts, catalog, inventory),
        provider=provider,
        engine=engine,
        relay=relay,
        service=service,
        sagas=SagaService(desk, engine, commands, kit.clock),
    )


class CheckoutApp:
    """The checkout service as programs run it."""

    name = "checkout"
    descriptors: tuple[ServiceDescriptor, ...] = (
        checkout_pb2.DESCRIPTOR.services_by_name["CheckoutService"],
        saga_pb2.DESCRIPTOR.services_by_name["SagaService"],
    )

    def __init__(
        self,
        *,
        database: Database,
        book: Database | None,
        clients: tuple[CartClient, CatalogClient, InventoryClient],
        provider: PaymentProvider,
        engine: Engine,
        relay: Relay,
        service: CheckoutService,
        sagas: SagaService,
    ) -> None:
        self._database = database
        self._book = book
        self._clients = clients
        self._provider = provider
        self._engine = engine
        self._relay = relay
        self.service = service
        self._sagas = sagas

    def register(self, server: grpc.aio.Server) -> None:
        """Add the servicers."""
        checkout_pb2_grpc.add_CheckoutServiceServicer_to_server(CheckoutServicer(self.service), server)
        saga_pb2_grpc.add_SagaServiceServicer_to_server(SagaServicer(self._sagas), server)

    async def start(self) -> None:
        """Take the lease, recover sagas, watch what comes from outside, tell what happened."""
        self._engine.start()
        self._relay.start()

    async def ready(self) -> bool:
        """Whether the database, and the simulator's book if there is one, can be reached and have their schema."""
        booked = self._book is None or await is_current(self._book, BOOK_MIGRATIONS)
        return booked and await is_current(self._database, MIGRATIONS)

    async def stop(self) -> None:
        """Leave the sagas where they stand, then close everything."""
        await self._engine.stop()
        await self._relay.stop()
        await self.service.close()
        for client in self._clients:
            await client.close()
        await self._provider.close()
        await self._database.close()


def _webhook_secrets(settings: CheckoutSettings) -> list[str]:
    given = [secret.strip() for secret in (settings.webhook_secrets or "").split(",") if secret.strip()]
    return given or [kept_secret(settings.data_dir, "webhook-secret")]


def _webhook_sender(channel: grpc.aio.Channel, secret: str, clock: Clock) -> SendWebhook:
    """How the simulator's webhooks reach us: over the network, signed, as any provider's would."""
    stub = checkout_pb2_grpc.CheckoutServiceStub(channel)

    async def send(body: bytes) -> None:
        signature = webhooks.sign(body, secret, at=int(clock.now().timestamp()))
        request = HttpBody(content_type="application/json", data=body)
        metadata = ((SIGNATURE_HEADER, signature),)
        try:
            await stub.ReceivePaymentEvent(request, timeout=_WEBHOOK_TIMEOUT_S, metadata=metadata)
        except grpc.aio.AioRpcError as error:
            raise status.from_rpc_error(error) from error

    return send
