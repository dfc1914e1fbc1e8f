"""A unary call to an upstream, made by whoever waits for it.

grpc.aio begins a task for each call, so that the loop has to come round to it twice more: a tenth of the time of a
request through the shim. What that task does is little, and is done here in the caller's. It is done with the parts
that grpc.aio itself is made of, which are not its public face: grpcio's version is pinned, and
tests/gateway/test_unary.py compares calls of either kind. docs/adr/0015 tells what they cost.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Generator
from typing import Any

import grpc
from grpc._cython import cygrpc  # type: ignore[attr-defined]

Metadata = tuple[tuple[str, str], ...]

_GONE = "Nobody waits for it."
_CODES = {code.value[0]: code for code in grpc.StatusCode}


class UnaryMethod:
    """One method of an upstream behind a channel without interceptors. Each use makes one RPC, to be awaited once."""

    def __init__(
        self,
        channel: grpc.aio.Channel,
        path: str,
        *,
        write: Callable[[Any], bytes],
        read: Callable[[bytes], Any],
    ) -> None:
        inner: Any = channel
        self._path = path.encode()
        # As code that is made from protos does: the path is looked up here and not for each call.
        self._handle = inner._channel.get_registered_call_handle(self._path)  # noqa: SLF001 - see above
        self._begin = inner._channel.call  # noqa: SLF001 - as above
        self._write = write
        self._read = read

    def __call__(self, message: Any, *, timeout: float, metadata: Metadata) -> UnaryRpc:
        """A call that has `timeout` seconds from now."""
        call = self._begin(self._path, time.time() + timeout, None, None, self._handle)
        return UnaryRpc(call, self._write(message), self._read, metadata)


class UnaryRpc:
    """One call; awaiting it answers the message. Raises grpc.aio.AioRpcError, and CancelledError once cancelled."""

    __slots__ = ("_call", "_data", "_metadata", "_read")

    def __init__(self, call: Any, data: bytes, read: Callable[[bytes], Any], metadata: Metadata) -> None:
        self._call = call
        self._data = data
        self._read = read
        self._metadata = metadata

    def cancel(self) -> None:
        """End it, if it has not ended yet."""
        if not self._call.done():
            self._call.cancel(_GONE)

    async def code(self) -> grpc.StatusCode:
        """How it ended, once it has."""
        return _CODES[(await self._call.status()).code()]

    def __await__(self) -> Generator[Any, None, Any]:
        return self._answered().__await__()

    async def _answered(self) -> Any:
        call = self._call
        try:
            data = await call.unary_unary(self._data, self._metadata, cygrpc.build_census_context())
        except asyncio.CancelledError:
            self.cancel()
            raise
        if call.is_ok():
            return self._read(data)
        if call.is_locally_cancelled():
            raise asyncio.CancelledError
        status = await call.status()
        raise grpc.aio.AioRpcError(
            _CODES[status.code()],
            grpc.aio.Metadata.from_tuple(await call.initial_metadata()),
            grpc.aio.Metadata.from_tuple(status.trailing_metadata() or ()),
            details=status.details(),
            debug_error_string=status.debug_error_string(),
        )
