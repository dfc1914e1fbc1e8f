"""What the checkout service is told."""

from typing import Self

from pydantic import Field, model_validator

from mesh.config import Settings


class CheckoutSettings(Settings):
    """SHOP_* variables that only checkout reads."""

    # Secrets with which payment webhooks may be signed, comma-separated; the first signs what the simulator sends.
    webhook_secrets: str | None = Field(default=None, pattern=r"[^,\s]")
    # The payment provider's HTTP API and its key, both or neither; without them payment is simulated.
    payment_url: str | None = Field(default=None, pattern=r"^https?://[^\s/?#]+/?$")
    payment_api_key: str | None = Field(default=None, pattern="^[!-~]+$", repr=False)
    # The one currency that orders are placed in.
    currency: str = Field(default="EUR", pattern="^[A-Z]{3}$")
    # How long a customer whose payment is pending has to pay, and stock stays held for it: with what follows, a day at
    # most.
    payment_timeout_s: int = Field(default=900, ge=1, le=86_100)
    # How long PlaceOrder waits for the order's end unless the caller asks for less.
    place_order_wait_s: float = Field(default=10.0, gt=0, le=60)

    @model_validator(mode="after")
    def _provider_is_whole(self) -> Self:
        if (self.payment_url is None) != (self.payment_api_key is None):
            raise ValueError("SHOP_PAYMENT_URL and SHOP_PAYMENT_API_KEY must be given together")
        return self

    @property
    def simulates_payment(self) -> bool:
        """Whether the payment provider is our own simulator, with its book in the database `psp`."""
        return self.payment_url is None
