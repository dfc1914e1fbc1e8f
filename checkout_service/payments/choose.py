"""Which payment provider an order is paid with: the one that the settings name, else the simulator."""

from checkout_service.payments.http_provider import HttpPaymentProvider
from checkout_service.payments.intents import Intents
from checkout_service.payments.provider import PaymentProvider
from checkout_service.payments.psp_client import PspClient
from checkout_service.payments.simulator import PaymentSimulator, SendWebhook
from mesh.clock import Clock
from mesh.db import Database
from mesh.failpoint import Failpoints


def open_provider(
    url: str | None,
    api_key: str | None,
    *,
    database: Database,
    book: Database,
    clock: Clock,
    send_webhook: SendWebhook,
    failpoints: Failpoints | None = None,
) -> PaymentProvider:
    """The HTTP provider at `url`, its intents kept in checkout's `database`; without one, the simulator over `book`.

    Needs the running loop. Touches neither network nor database.
    """
    if url and api_key:
        return HttpPaymentProvider(PspClient(url, api_key, failpoints=failpoints), Intents(database))
    return PaymentSimulator(book, clock, send_webhook)
