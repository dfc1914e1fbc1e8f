"""A program of the mesh for test_accept: its server's serving ends by itself, and nobody tells it to stop."""

import sys

import pytest

from mesh import log
from mesh.auth import Authenticator
from mesh.run import GrpcHost, run, stop_signal
from tests.mesh.echo import SECRET, Echo, no_keys


async def fail(_: object) -> None:
    raise RuntimeError("as grpc.aio's loop would with something that nobody thought of")


async def main() -> int:
    stop = stop_signal()
    host = GrpcHost([Echo()], Authenticator(SECRET, no_keys), bind="127.0.0.1", port=0)
    await host.start()
    await stop.wait()
    await host.stop(30)
    return 0


if __name__ == "__main__":
    log.set_up("info")
    # What grpc.aio's loop asks for the next call of an unknown method.
    pytest.MonkeyPatch().setattr("mesh.accept._Server._request_call", fail)
    sys.exit(run(main()))
