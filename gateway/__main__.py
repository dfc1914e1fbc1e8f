"""Serve the HTTP rules of any protos: `python -m gateway --descriptor-set FILE --upstream pkg.Service=HOST:PORT`."""

from __future__ import annotations

import argparse
import asyncio
import logging
import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import uvloop

from gateway.app import ConfigError, Gateway, GatewayConfig
from gateway.server import HttpServer

_USAGE_EXIT = 2
_GRACE_S = 10.0
_MOST_PORT = 65535


@dataclass(frozen=True, slots=True)
class Arguments:
    """What the command line asks for."""

    config: GatewayConfig
    host: str
    port: int


def main(argv: Sequence[str] | None = None) -> int:
    """Run until SIGTERM or SIGINT. Exit code 2, with every problem named, if that cannot begin."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    try:
        uvloop.run(_serve(_arguments(argv)))
    except ConfigError as error:
        sys.stderr.writelines(f"gateway: {problem}\n" for problem in error.problems)
        return _USAGE_EXIT
    return 0


async def _serve(arguments: Arguments) -> None:
    gateway = Gateway(arguments.config)
    server = HttpServer(gateway.asgi(), host=arguments.host, port=arguments.port)
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    try:
        port = await server.start()
        logging.getLogger("gateway").info("serving http://%s:%d", arguments.host, port)
        await stop.wait()
    except OSError as error:
        raise ConfigError([f"--listen {arguments.host}:{arguments.port}: {error.strerror}"]) from error
    finally:
        await server.stop(_GRACE_S)
        await gateway.close()


def _arguments(argv: Sequence[str] | None) -> Arguments:
    parser = argparse.ArgumentParser(prog="gateway", description="REST for gRPC services, from their HTTP rules.")
    parser.add_argument("--descriptor-set", metavar="FILE", default="", help="FileDescriptorSet with imports")
    parser.add_argument("--upstream", metavar="pkg.Service=HOST:PORT", action="append", default=[])
    parser.add_argument("--listen", metavar="HOST:PORT", default="127.0.0.1:8080")
    parser.add_argument("--service-config", metavar="FILE", default="", help="gRPC service config for the channels")
    parser.add_argument("--forward-header", metavar="NAME", action="append", default=[], help="pass on as metadata")
    parser.add_argument("--title", default="API", help="of the documentation")
    given, unknown = parser.parse_known_args(argv)
    problems = [f"unknown argument {argument!r}" for argument in unknown]
    upstreams = dict(_upstream(text, problems) for text in given.upstream)
    if not given.upstream:
        problems.append("--upstream is missing")
    host, port = _address(given.listen, problems)
    if not given.descriptor_set:
        problems.append("--descriptor-set is missing")
    descriptor_set = _read("--descriptor-set", given.descriptor_set, problems)
    service_config = _read("--service-config", given.service_config, problems)
    if problems:
        raise ConfigError(problems)
    config = GatewayConfig(
        descriptor_set=descriptor_set,
        upstreams=upstreams,
        service_config=service_config.decode(errors="replace") or None,
        forward_headers=tuple(given.forward_header),
        title=given.title,
    )
    return Arguments(config=config, host=host, port=port)


def _upstream(text: str, problems: list[str]) -> tuple[str, str]:
    service, equals, address = text.partition("=")
    if not (service and equals and address):
        problems.append(f"--upstream {text!r} is not of the form pkg.Service=HOST:PORT")
    return service, address


def _address(text: str, problems: list[str]) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    if not host or not port.isdecimal() or int(port) > _MOST_PORT:
        problems.append(f"--listen {text!r} is not of the form HOST:PORT")
        return "", 0
    return host.strip("[]"), int(port)


def _read(option: str, name: str, problems: list[str]) -> bytes:
    if not name:
        return b""
    try:
        return Path(name).read_bytes()
    except OSError as error:
        problems.append(f"{option} {name}: {error.strerror}")
        return b""


if __name__ == "__main__":
    sys.exit(main())
