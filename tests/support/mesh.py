"""The whole shop as one process, `shopmesh up`, on free ports with a data folder of its own."""

import os
import socket
import sys
from collections.abc import Mapping
from pathlib import Path

from tests.support.servers import Server, free_port


class Mesh(Server):
    """A running `shopmesh up`. By default on SQLite and without Redis; `settings` are further SHOP_* variables.

    Ready means that the gateway's /readyz says so. A kill and a start find the same data on the same ports.
    """

    package = "shopmesh"

    def __init__(self, folder: Path, settings: Mapping[str, str] | None = None) -> None:
        super().__init__(folder)
        self.grpc_port = free_port()
        self._settings = dict(settings or {})

    @property
    def url(self) -> str:
        """Where REST is served."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def grpc_address(self) -> str:
        """Where gRPC is served, for all services."""
        return f"127.0.0.1:{self.grpc_port}"

    def _initialise(self) -> None:
        """The program makes its own data."""

    def _command(self) -> list[str]:
        return [str(Path(sys.executable).parent / "shopmesh"), "up"]

    def _environment(self) -> dict[str, str]:
        # What a developer has set for a mesh of their own is not for this one.
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("SHOP_")}
        own = {
            "SHOP_HTTP_PORT": str(self.port),
            "SHOP_GRPC_PORT": str(self.grpc_port),
            "SHOP_DATA_DIR": str(self.folder / "data"),
        }
        return inherited | own | self._settings

    def _answers(self, connection: socket.socket) -> bool:
        connection.sendall(b"GET /readyz HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")
        return connection.recv(12) == b"HTTP/1.1 200"
