"""Checkout as a process of its own, to be killed and started again, and ways to make others hang."""

import asyncio
import contextlib
import os
import socket
import sqlite3
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import grpc

from mesh.channel import open_channel
from tests.checkout_service.shop import SERVICE_CONFIG, Shop
from tests.support.servers import Server

_READY_S = 20


class CheckoutProcess(Server):
    """`python -m checkout_service` for a shop whose other services the test runs itself."""

    package = "shopmesh"

    def __init__(self, shop: Shop, folder: Path, port: int) -> None:
        super().__init__(folder)
        self.port = port
        self._shop = shop

    @property
    def url(self) -> str:
        """Where it serves gRPC."""
        return f"127.0.0.1:{self.port}"

    async def up(self, channel: grpc.aio.Channel) -> None:
        """Start it, and wait until the channel reaches it."""
        await asyncio.to_thread(self.start)
        await asyncio.wait_for(channel.channel_ready(), _READY_S)

    def _initialise(self) -> None:
        """It makes its own data."""

    def _command(self) -> list[str]:
        return [sys.executable, "-m", "checkout_service"]

    def _environment(self) -> dict[str, str]:
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("SHOP_")}
        return inherited | self._shop.environment(self.port)

    def _answers(self, connection: socket.socket) -> bool:
        # A gRPC server greets with its HTTP/2 settings.
        return connection.recv(1) != b""


@contextlib.asynccontextmanager
async def channel_to(process: CheckoutProcess) -> AsyncIterator[grpc.aio.Channel]:
    """A channel to one process."""
    async with open_channel(process.url, SERVICE_CONFIG) as channel:
        yield channel


@contextlib.asynccontextmanager
async def write_locked(path: Path) -> AsyncIterator[None]:
    """Nobody else can write to the SQLite database meanwhile: who tries hangs."""
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    try:
        # Who writes just now may be a service in this very loop, which has to go on to come to its end.
        await asyncio.to_thread(connection.execute, "BEGIN IMMEDIATE")
        yield
    finally:
        connection.close()
