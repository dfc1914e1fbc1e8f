"""What the checkout service is told."""

from pydantic import Field

from mesh.config import Settings


class CheckoutSettings(Settings):
    """SHOP_* variables that only checkout reads."""

    # Secrets with which payment webhooks may be signed, comma-separated; the first signs what the simulator sends.
    webhook_secrets: str | None = Field(default=None, pattern=r"[^,\s]")
    # The one currency that orders are placed in.
    currency: str = Field(default="EUR", pattern="^[A-Z]{3}$")
    # How long a customer whose payment is pending has to pay, and stock stays held for it: with what follows, a day at
    # most.
    payment_timeout_s: int = Field(default=900, ge=1, le=86_100)
    # How long PlaceOrder waits for the order's end unless the caller asks for less.
    place_order_wait_s: float = Field(default=10.0, gt=0, le=60)
