"""Writing the messages of a request to its call.

grpc.aio does so by itself when it is given an iterator, but takes a write that fails for the end of the call: one whose
deadline passes, or that its service ends early, while it is written to, would end in INTERNAL. Here such a write says
nothing, and who reads the call learns how it has ended. grpc.aio's own write cannot be told to; the one beneath it is
not part of its public face (grpcio's version is pinned, and tests/gateway/test_inflow.py ends calls amid writes).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterable, Callable
from typing import Any

import grpc
from google.protobuf.message import Message
from grpc._cython import cygrpc  # type: ignore[attr-defined]

from gateway.errors import HttpError
from gateway.inflow import ClientGoneError

_log = logging.getLogger("gateway")


def pour(rpc: Any, messages: AsyncIterable[Message], write: Callable[[Message], bytes]) -> None:
    """Begin to write all messages to a call that streams its request; what they raise cancels it."""
    writing = asyncio.create_task(_pour(rpc, messages, write), name="request stream")
    rpc.add_done_callback(lambda _: writing.cancel())


async def _pour(rpc: Any, messages: AsyncIterable[Message], write: Callable[[Message], bytes]) -> None:
    inner = rpc._cython_call  # noqa: SLF001 - see above
    try:
        await rpc.wait_for_connection()
        async for message in messages:
            await inner.send_serialized_message(write(message))
        await inner.send_receive_close()
    except (grpc.aio.AioRpcError, cygrpc.InternalError):
        return
    except (HttpError, ClientGoneError):
        # Whoever waits for the call asks the messages which.
        rpc.cancel()
    except Exception:  # noqa: BLE001 - whoever waits for the call learns that it is over
        _log.exception("request stream failed")
        rpc.cancel()
