"""An HTTP server on the running loop: uvicorn, with bounds, and without a hand on the process's signals."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Generator
from typing import Any

import uvicorn

from gateway.protocol import Limits, bounded

__all__ = ["HttpServer", "Limits"]

_BACKLOG = 2048
_LAST_WORDS_S = 0.5


class HttpServer:
    """Serves one ASGI app on one address, from `start` to `stop`, once."""

    def __init__(self, app: Any, *, host: str, port: int, limits: Limits | None = None) -> None:
        """A `port` of 0 lets the system choose one."""
        self._address = (host, port)
        limits = limits or Limits()
        self._config = uvicorn.Config(
            app,
            http=bounded(limits),
            loop="none",
            ws="none",
            lifespan="off",
            log_config=None,
            log_level="error",
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_keep_alive=max(1, int(limits.keep_alive_s)),
        )
        self._server = _Server(self._config)
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> int:
        """Bind, serve in a task, and answer the bound port. Raises OSError when the address cannot be had."""
        host, port = self._address
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listener = socket.create_server((host, port), family=family, backlog=_BACKLOG)
        # Connections inherit it. asyncio sets it by itself, but not where a socket does not name its protocol.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        listener.setblocking(False)
        self._task = asyncio.create_task(self._server.serve(sockets=[listener]), name="http-server")
        await self._server.up.wait()
        return int(listener.getsockname()[1])

    async def stop(self, grace_s: float) -> None:
        """Stop accepting, give requests in flight grace_s to finish, cancel the rest. Idempotent."""
        if self._task is None:
            return
        self._config.timeout_graceful_shutdown = grace_s  # type: ignore[assignment]  # wait_for takes floats
        self._server.should_exit = True
        await self._task
        # Whoever is cancelled has something to say yet.
        if tasks := set(self._server.server_state.tasks):
            await asyncio.wait(tasks, timeout=_LAST_WORDS_S)
        for connection in list(self._server.server_state.connections):
            connection.transport.abort()


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.up = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        try:
            await super().startup(sockets)
        finally:
            self.up.set()

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """Leave signals to whoever runs the process."""
        yield
