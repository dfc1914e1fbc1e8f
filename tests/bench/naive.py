"""The peer `naive`: one transaction for each reservation, all of them on one row, with the plain driver.

Writes what Reserve writes: the reservation, its line, the held units. The hot row comes last, so that its lock is held
for as short as can be.
"""

from functools import partial

import aiomysql

from mesh.clock import SYSTEM_CLOCK
from tests.bench.drive import drive
from tests.bench.peer import connected
from tests.bench.sample import Load, Sample

_RESERVATION = (
    "INSERT INTO reservations (reservation_id, state, epoch, expire_time, create_time, attempt)"
    " VALUES (%s, 'HELD', 0, UTC_TIMESTAMP(6) + INTERVAL 86400 SECOND, UTC_TIMESTAMP(6), %s)"
)
_LINE = "INSERT INTO reservation_lines (reservation_id, sku, quantity) VALUES (%s, %s, 1)"
_HOLD = "UPDATE stock SET held = held + 1, update_time = UTC_TIMESTAMP(6) WHERE sku = %s AND on_hand - held >= 1"


async def measure(port: int, database: str, sku: str, load: Load) -> Sample:
    """Reserve one unit of the SKU again and again."""
    async with connected(port, database) as pool:
        return await drive(lambda _: pool.commit(partial(_reserve, sku)), load)


async def _reserve(sku: str, cursor: aiomysql.Cursor) -> bool:
    reservation_id = SYSTEM_CLOCK.uuid7()
    await cursor.execute(_RESERVATION, (reservation_id, reservation_id))
    await cursor.execute(_LINE, (reservation_id, sku))
    held: int = await cursor.execute(_HOLD, (sku,))
    return held == 1
