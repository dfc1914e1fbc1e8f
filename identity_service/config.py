"""What the identity service is told."""

from pydantic import Field

from mesh.config import Settings


class IdentitySettings(Settings):
    """The settings that all programs share, and those of this service."""

    # How many passwords are hashed at once: each takes a core and 19 MiB while it lasts.
    hash_threads: int = Field(default=2, ge=1, le=64)
