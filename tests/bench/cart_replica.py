"""A cart service with an RPC beside it that does nothing, under the same interceptors: what any call costs at least."""

import grpc
from google.protobuf.descriptor import ServiceDescriptor

from cart_service.app import CartApp, build, migrate
from cart_service.config import CartSettings
from mesh import log, program
from mesh.program import Kit
from mesh.run import run
from shopmesh.parts import read_settings, service_config
from tests.mesh.echo import Echo


class WithNothing:
    """The cart service, and the echo of tests.mesh, which is called with an empty message."""

    name = "cart"

    def __init__(self, cart: CartApp) -> None:
        self._cart = cart
        self._echo = Echo()
        self.descriptors: tuple[ServiceDescriptor, ...] = (*cart.descriptors, *self._echo.descriptors)

    def register(self, server: grpc.aio.Server) -> None:
        """Add both."""
        self._cart.register(server)
        self._echo.register(server)

    async def start(self) -> None:
        """As the cart service does."""
        await self._cart.start()

    async def ready(self) -> bool:
        """As the cart service is."""
        return await self._cart.ready()

    async def stop(self) -> None:
        """As the cart service does."""
        await self._cart.stop()


def main() -> int:
    """Run until SIGTERM and answer the exit code, as `shopmesh serve cart_service` does."""
    settings = read_settings(apart=True)
    log.set_up(settings.common.log_level)
    cart = settings.by_kind[CartSettings]
    assert isinstance(cart, CartSettings)

    async def both(kit: Kit) -> WithNothing:
        return WithNothing(await build(cart, kit))

    return run(program.serve(cart, both, lambda: migrate(cart), service_config()))
