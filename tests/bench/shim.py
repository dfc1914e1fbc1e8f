"""`python -m gateway` in front of a server that offers reflection, with all that is on by default."""

import contextlib
import json
import tempfile
from collections.abc import Iterator

from gateway import __main__ as gateway
from tests.bench.mesh import Mesh
from tests.support.servers import free_port


@contextlib.contextmanager
def shim(mesh: Mesh, name: str, upstream: str, **config: object) -> Iterator[str]:
    """One such process, by its URL; `config` are keys of docs/gateway.md."""
    port = free_port()
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        json.dump(config, file)
        file.flush()
        address = f"127.0.0.1:{port}"
        with mesh.replica(name, port, main, "--reflect", upstream, "--listen", address, "--config", file.name):
            yield f"http://{address}"


def main(*arguments: str) -> int:
    """Run until SIGTERM and answer the exit code."""
    return gateway.main(arguments)
