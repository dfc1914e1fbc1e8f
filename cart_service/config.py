"""What the cart service is told."""

from pydantic import Field

from mesh.config import Settings


class CartSettings(Settings):
    """The kit's settings and the cart's own."""

    # A cart nobody changed for this long is deleted; keys against repetition are kept as long, and 30 days at least.
    cart_ttl_s: int = Field(default=30 * 24 * 3600, ge=1)
    # How often expired carts are looked for.
    cart_cleanup_every_s: float = Field(default=600.0, gt=0)
