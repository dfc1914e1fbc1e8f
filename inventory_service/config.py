"""What the inventory service is told."""

from pydantic import Field

from mesh.config import Settings


class InventorySettings(Settings):
    """The kit's settings and the inventory's own."""

    # How long GetProduct and BatchGetProducts may answer from the cache; the price and `available` lag by as much.
    product_cache_s: float = Field(default=1.0, ge=0, le=60)
    # The one currency that products are priced in; checkout reads the same variable.
    currency: str = Field(default="EUR", pattern="^[A-Z]{3}$")
