"""The shim's JSON codec beside google.protobuf.json_format."""

import gc
from collections.abc import Mapping

from tests.gateway.codec_speed import MAKERS, reading, writing


async def measure() -> Mapping[str, float]:
    """How many times as fast it is, by way and message. To be run in a process of its own."""
    gc.disable()
    return {f"{race.__name__} {make.__name__}": race(make()).ratio() for race in (writing, reading) for make in MAKERS}
