"""Which provider the settings choose."""

import pytest
from pydantic import ValidationError

from checkout_service.config import CheckoutSettings
from checkout_service.payments.choose import open_provider
from checkout_service.payments.http_provider import HttpPaymentProvider
from checkout_service.payments.simulator import PaymentSimulator
from mesh.clock import SYSTEM_CLOCK
from mesh.db import Database

URL = "https://api.example.com"


@pytest.mark.parametrize("told", [{}, {"payment_url": URL, "payment_api_key": "sk_1"}], ids=["neither", "both"])
async def test_without_a_provider_of_ones_own_it_is_the_simulator(
    database: Database, book: Database, told: dict[str, str]
) -> None:
    async def send(_: bytes) -> None:
        """Nobody listens."""

    settings = CheckoutSettings.model_validate(told)
    provider = open_provider(
        settings.payment_url,
        settings.payment_api_key,
        database=database,
        book=book,
        clock=SYSTEM_CLOCK,
        send_webhook=send,
    )

    assert isinstance(provider, HttpPaymentProvider if told else PaymentSimulator)
    await provider.close()


@pytest.mark.parametrize(
    "told",
    [
        {"payment_url": URL},
        {"payment_api_key": "sk_1"},
        {"payment_url": "api.example.com", "payment_api_key": "sk_1"},
        {"payment_url": URL, "payment_api_key": ""},
    ],
    ids=str,
)
def test_a_provider_is_named_whole(told: dict[str, str]) -> None:
    with pytest.raises(ValidationError, match=r"(?i)payment_"):
        CheckoutSettings.model_validate(told)


def test_the_key_is_not_shown() -> None:
    settings = CheckoutSettings(payment_url=URL, payment_api_key="sk_very_secret")

    assert "sk_very_secret" not in repr(settings)
