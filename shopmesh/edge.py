"""`shopmesh serve gateway`: REST in front of the services, in a process of its own; and what that gateway serves."""

import logging
import os
import re
from importlib import resources

from google.protobuf.descriptor_pb2 import FileDescriptorSet

from gateway.app import OTLP_ENDPOINT, Gateway, GatewayConfig
from gateway.metrics import ACCESS_LOG, tell_requests_by
from gateway.server import HttpServer
from mesh import log
from mesh.config import Settings, service_address
from mesh.errors import ConfigError
from mesh.run import run, stop_signal
from shopmesh.parts import read_settings, service_config

_PART_OF_PACKAGE = re.compile(r"shop\.([a-z]+)\.v[0-9]+")
# Of the headers that come over REST, what a service reads beyond those that every gateway passes on.
_FORWARDED = ("shop-signature",)

# What the services take, less what gRPC adds: see mesh/run.py.
_MAX_METADATA_BYTES = 63 << 10

_log = logging.getLogger(__name__)


def main() -> int:
    """Run until SIGTERM or SIGINT and answer the exit code. Raises ConfigError for wrong use."""
    settings = read_settings().common
    log.set_up(settings.log_level)
    tell_requests_by(log.access_lines(ACCESS_LOG))
    return run(_serve(settings))


def gateway_config(settings: Settings) -> GatewayConfig:
    """The gateway for every service of the contract, each at the address that the settings give its part."""
    descriptor_set = resources.files("shop").joinpath("descriptor_set.binpb").read_bytes()
    upstreams = {
        f"{file.package}.{service.name}": service_address(settings, match[1])
        for file in FileDescriptorSet.FromString(descriptor_set).file
        if (match := _PART_OF_PACKAGE.fullmatch(file.package))
        for service in file.service
    }
    return GatewayConfig(
        descriptor_set=descriptor_set,
        upstreams=upstreams,
        service_config=service_config(),
        forward_headers=_FORWARDED,
        max_metadata_bytes=_MAX_METADATA_BYTES,
        title="shopmesh",
        redis_url=settings.redis_url,
        otlp_endpoint=os.environ.get(OTLP_ENDPOINT, ""),
    )


async def _serve(settings: Settings) -> int:
    stop = stop_signal()
    gateway = Gateway(gateway_config(settings))
    server = HttpServer(gateway.asgi(), host=settings.bind, port=settings.http_port)
    try:
        port = await server.start()
        _log.info("serving", extra={"bind": settings.bind, "http_port": port})
        await stop.wait()
        await server.stop(settings.drain_s)
    except OSError as error:
        why = os.strerror(error.errno or 0)
        raise ConfigError([f"SHOP_HTTP_PORT: {settings.bind}:{settings.http_port}: {why}"]) from error
    finally:
        await gateway.close()
    return 0
