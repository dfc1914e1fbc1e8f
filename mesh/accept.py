"""Taking in unary calls, several of a method at a time.

grpc.aio's server asks its core for the next call of a method only after it has taken in the one before, which is a few
turns of its loop and a round through its poller's thread: where many come at once they queue inside gRPC, and a
service that answers them in batches sees small ones. Acceptors ask for several, and hand each call to grpc.aio's own
code behind that. The server that they are for takes in the calls of unknown methods by itself as well, since one of
them could end grpc.aio's serving. All is made of the parts that grpc.aio's server itself is made of, which are not its
public face: grpcio's version is pinned, and tests/mesh/test_accept.py tries them. docs/adr/0016 tells what they bring.
"""

# Annotations stay unevaluated: grpc's stubs make generic what at run time is not.
from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Coroutine, Sequence
from typing import Any, Never

import grpc
from grpc._cython import cygrpc  # type: ignore[attr-defined]

# Beside the one of grpc.aio's server itself. Few are nearly as good, more no better.
_AT_ONCE = 8
_EXIT_FAILED = 1

_log = logging.getLogger(__name__)


def open_server(options: Sequence[tuple[str, Any]]) -> grpc.aio.Server:
    """A server of grpc.aio that no call ends. Generic handlers are not asked: methods have to be registered.

    Should its serving end all the same, it ends the process with exit code 1.
    """
    server = grpc.aio.server()
    inner: Any = server
    inner._server = _Server(inner._loop, None, (), (), tuple(options), None)  # noqa: SLF001 - see above
    return server


class _Server(cygrpc.AioServer):  # type: ignore[misc]
    """What grpc.aio's server has inside, but for how it ends."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._no_methods = cygrpc._MethodResolver([], {})  # noqa: SLF001 - see above
        self._calls: set[_Driven] = set()

    async def _request_call(self) -> Never:
        """Answer UNIMPLEMENTED to the calls of methods that are not registered, until the server stops.

        grpc.aio's server decodes their paths, and serves nobody any more behind one that is not UTF-8.
        """
        loop = asyncio.get_running_loop()
        while True:
            state = await super()._request_call()
            call = cygrpc._handle_rpc("", self._no_methods, (), state, loop, False)  # noqa: SLF001 - see above
            _Driven(cygrpc._schedule_rpc_coro(call, state, loop, ""), self._calls)  # noqa: SLF001 - see above

    def _serving_task_crash_handler(self, serving: asyncio.Task[None]) -> None:
        """End the process, for whoever watches over it to start it anew.

        Not in order: grpc.aio has freed what the core is about to write the next calls into, so that nothing that runs
        on can be trusted.
        """
        if self.is_running() and not serving.cancelled():
            _log.critical("serving ended by itself", exc_info=serving.exception())
            logging.shutdown()
            os._exit(_EXIT_FAILED)


class Acceptors:
    """Of one server. Without them it works as well, but slower."""

    def __init__(self, server: grpc.aio.Server) -> None:
        inner: Any = server
        self._inner = inner._server  # noqa: SLF001 - see above
        self._handlers: dict[str, grpc.RpcMethodHandler[Any, Any]] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._calls: set[_Driven] = set()

    def add(self, path: str, handler: grpc.RpcMethodHandler[Any, Any]) -> None:
        """Take in the calls of a method that is registered with the server. Those of streams are left to it."""
        if not (handler.request_streaming or handler.response_streaming):
            self._handlers[path] = handler

    def start(self) -> None:
        """Begin, once the server has started."""
        for path, handler in self._handlers.items():
            for number in range(_AT_ONCE):
                self._tasks.append(asyncio.create_task(self._accept(path, handler), name=f"accept {path} {number}"))

    async def stop(self) -> None:
        """Return when no more calls are taken in, which is soon after the server has begun to stop."""
        for outcome in await asyncio.gather(*self._tasks, return_exceptions=True):
            if isinstance(outcome, BaseException):
                # The server has taken in calls without it, and what comes behind has to be stopped as well.
                _log.error("acceptor broke", exc_info=outcome)

    async def _accept(self, path: str, handler: grpc.RpcMethodHandler[Any, Any]) -> None:
        loop, encoded = asyncio.get_running_loop(), path.encode()
        while self._inner.is_running():
            try:
                state = await self._inner._request_registered_call(encoded)  # noqa: SLF001 - see above
            except cygrpc._RequestCallError:  # noqa: SLF001 - as above
                # The server stops, or the call was gone before it was taken in.
                continue
            call = cygrpc._handle_unary_unary_rpc(handler, state, loop)  # noqa: SLF001 - as above
            _Driven(cygrpc._schedule_rpc_coro(call, state, loop, path), self._calls)  # noqa: SLF001 - as above


class _Driven:
    """A coroutine that is driven by the futures it waits for, where a task of its own would be much for so little.

    It is among `alive` until it ends, since the loop itself keeps nothing alive.
    """

    __slots__ = ("_alive", "_send")

    def __init__(self, coroutine: Coroutine[Any, Any, None], alive: set[_Driven]) -> None:
        self._send = coroutine.send
        self._alive = alive
        alive.add(self)
        self._go_on(None)

    def _go_on(self, _: object) -> None:
        try:
            future = self._send(None)
        except StopIteration:
            self._alive.discard(self)
            return
        except Exception:  # noqa: BLE001 - whatever it is
            # Of one call: whoever took it in goes on.
            _log.exception("the watch over a call broke")
            self._alive.discard(self)
            return
        # As a task does for what it waits for.
        future._asyncio_future_blocking = False  # noqa: SLF001 - what asyncio calls its protocol
        future.add_done_callback(self._go_on)
