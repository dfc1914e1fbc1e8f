"""A shim before the probe: a process of its own, whose memory can be looked at."""

import socket
import sys
from pathlib import Path

from tests.support.servers import Server

_PAGE_KIB = 4


class Shim(Server):
    """`python -m gateway` with the probe's descriptor set."""

    package = "shopmesh"

    def __init__(self, folder: Path, descriptor_set: bytes, service: str, upstream: str) -> None:
        super().__init__(folder)
        self._set = descriptor_set
        self._upstream = f"{service}={upstream}"

    @property
    def url(self) -> str:
        """Where it serves HTTP."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def memory_kib(self) -> int:
        """What it holds in memory now, in KiB."""
        return int(Path(f"/proc/{self.pid}/statm").read_text().split()[1]) * _PAGE_KIB

    @property
    def log(self) -> str:
        """What it has written."""
        return (self.folder / "server.log").read_text(errors="replace")

    def _initialise(self) -> None:
        (self.folder / "set.binpb").write_bytes(self._set)

    def _command(self) -> list[str]:
        listen = f"127.0.0.1:{self.port}"
        options = ["--descriptor-set", "set.binpb", "--upstream", self._upstream, "--listen", listen]
        return [sys.executable, "-m", "gateway", *options]

    def _answers(self, connection: socket.socket) -> bool:
        connection.sendall(b"GET /livez HTTP/1.1\r\nhost: fuzz\r\n\r\n")
        return connection.recv(12) == b"HTTP/1.1 200"
