"""Time and randomness as things that are handed in, so that a simulation can replace both."""

import secrets
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime


@dataclass(frozen=True, slots=True)
class Clock:
    """Wall-clock time in UTC, monotonic seconds for durations, and random bytes."""

    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    monotonic: Callable[[], float] = time.monotonic
    random_bytes: Callable[[int], bytes] = secrets.token_bytes

    def uuid7(self) -> str:
        """A new UUIDv7: 48 bits of milliseconds, 74 fresh random bits (RFC 9562 section 5.7)."""
        milliseconds = int(self.now().timestamp() * 1000)
        value = milliseconds << 80 | int.from_bytes(self.random_bytes(10))
        value = value & ~(0xF << 76) | 0x7 << 76
        value = value & ~(0x3 << 62) | 0x2 << 62
        return str(uuid.UUID(int=value))

    def uniform(self, low: float, high: float) -> float:
        """A random number from `low` to `high`: what spreads retries and rounds."""
        return low + (high - low) * int.from_bytes(self.random_bytes(7)) / (1 << 56)


SYSTEM_CLOCK = Clock()
