"""Services whose calls are taken in as grpc.aio does it by itself (docs/adr/0016): what a shim has behind it elsewhere.

How much of a service's speed is left behind a shim depends on how fast the service is. The bars of the shim are about
one that takes calls in as any other of grpc.aio; our own are more than twice as fast, and told beside it.
"""

import os

from mesh import accept
from shopmesh import edge, serve
from tests.bench import context


def inventory() -> int:
    """`shopmesh serve inventory_service`, until SIGTERM; answers the exit code."""
    _as_it_comes()
    return serve.main("inventory_service")


def echo() -> int:
    """The service that echoes, likewise."""
    _as_it_comes()
    return context.main()


def gateway(http_port: str, inventory_address: str) -> int:
    """`shopmesh serve gateway` at a port of its own, in front of this inventory."""
    os.environ.update(SHOP_HTTP_PORT=http_port, SHOP_INVENTORY_ADDR=inventory_address)
    return edge.main()


def _as_it_comes() -> None:
    # Of this process alone. There is no setting for it: nobody but the bench would want one.
    accept._AT_ONCE = 0
