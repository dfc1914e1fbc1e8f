"""The relay as a process of its own, to be killed: python -m tests.checkout_service.relay_process DATABASE REDIS.

Its failpoints are those of SHOP_TEST_FAILPOINTS. It relays until it is ended.
"""

import asyncio
import os
import sys

from sqlalchemy.engine import make_url

from checkout_service.event_message import encode_event
from checkout_service.relay import Relay
from mesh.clock import SYSTEM_CLOCK
from mesh.db import open_database
from mesh.events import open_events
from mesh.failpoint import from_environment


async def main(database_url: str, redis_url: str) -> None:
    failpoints = from_environment(os.environ)
    database = await open_database(make_url(database_url), failpoints=failpoints)
    events = open_events(redis_url, failpoints=failpoints)
    Relay(database, events, encode=encode_event, clock=SYSTEM_CLOCK).start()
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
