"""A door to the process's Prometheus registry: `/metrics` over HTTP, for services that run without the gateway."""

import asyncio
import threading
from wsgiref.simple_server import WSGIServer

from prometheus_client import start_http_server


class MetricsDoor:
    """Shows the registry from a thread of its own, so that a scrape is answered by a busy loop's process too."""

    def __init__(self, *, bind: str, port: int) -> None:
        self._bind = bind
        self._port = port
        self._opened: tuple[WSGIServer, threading.Thread] | None = None

    def open(self) -> int:
        """Listen, and answer the bound port. Raises OSError when it is taken."""
        try:
            self._opened = start_http_server(self._port, addr=self._bind)
        except OSError as error:
            raise OSError(f"metrics port {self._port} on {self._bind} cannot be bound: {error.strerror}") from error
        return self._opened[0].server_port

    async def close(self) -> None:
        """Stop listening, if it does."""
        if self._opened is None:
            return
        server, thread = self._opened
        self._opened = None
        await asyncio.to_thread(server.shutdown)
        server.server_close()
        await asyncio.to_thread(thread.join)
