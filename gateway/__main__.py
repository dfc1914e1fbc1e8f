"""Serve the HTTP rules of any protos: `python -m gateway --descriptor-set FILE --upstream pkg.Service=HOST:PORT`."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from gateway import settings
from gateway.app import OTLP_ENDPOINT, ConfigError, Gateway, GatewayConfig
from gateway.metrics import ACCESS_LOG, tell_requests_by
from gateway.reflect import reflect
from gateway.server import HttpServer
from mesh import log
from mesh.run import run, stop_signal

_USAGE_EXIT = 2
_GRACE_S = 10.0
_MOST_PORT = 65535
_LISTEN = "127.0.0.1:8080"


@dataclass(frozen=True, slots=True)
class Arguments:
    """What the command line asks for."""

    config: GatewayConfig
    host: str
    port: int


def main(argv: Sequence[str] | None = None) -> int:
    """Run until SIGTERM or SIGINT. Exit code 2, with every problem named, if that cannot begin."""
    log.set_up("INFO")
    tell_requests_by(log.access_lines(ACCESS_LOG))
    logging.getLogger("grpc_reflection").setLevel(logging.WARNING)
    try:
        return run(_serve(_arguments(argv)))
    except ConfigError as error:
        sys.stderr.writelines(f"gateway: {problem}\n" for problem in error.problems)
        return _USAGE_EXIT


async def _serve(arguments: Arguments) -> int:
    stop = stop_signal()
    gateway = Gateway(arguments.config)
    server = HttpServer(gateway.asgi(), host=arguments.host, port=arguments.port)
    try:
        port = await server.start()
        host = f"[{arguments.host}]" if ":" in arguments.host else arguments.host
        logging.getLogger("gateway").info("serving", extra={"url": f"http://{host}:{port}"})
        await stop.wait()
    except OSError as error:
        raise ConfigError([f"--listen {arguments.host}:{arguments.port}: {error.strerror}"]) from error
    finally:
        await server.stop(_GRACE_S)
        await gateway.close()
    return 0


class _Once(argparse.Action):
    """An option that is given once at most: of two values one would be passed over."""

    def __call__(self, _: object, namespace: argparse.Namespace, values: object, option: str | None = None) -> None:
        if getattr(namespace, self.dest) != self.default:
            raise ConfigError([f"{option} is given twice"])
        setattr(namespace, self.dest, values)


def _arguments(argv: Sequence[str] | None) -> Arguments:
    parser = argparse.ArgumentParser(prog="gateway", description="REST for gRPC services, from their HTTP rules.")
    once = partial(parser.add_argument, action=_Once, default="")
    once("--descriptor-set", metavar="FILE", help="FileDescriptorSet with imports")
    once("--reflect", metavar="HOST:PORT", help="ask this server for it, and serve all of it")
    parser.add_argument("--upstream", metavar="pkg.Service=HOST:PORT", action="append", default=[])
    once("--listen", metavar="HOST:PORT", help=f"{_LISTEN} unless told otherwise")
    once("--config", metavar="FILE", help=f"JSON object of {', '.join(settings.KEYS)}")
    once("--service-config", metavar="FILE", help="gRPC service config for the channels")
    parser.add_argument("--forward-header", metavar="NAME", action="append", default=[], help="pass on as metadata")
    once("--title", help="of the documentation")
    given, unknown = parser.parse_known_args(argv)
    problems = [f"unknown argument {argument!r}" for argument in unknown]
    values, wrong = settings.read(_read("--config", given.config, problems)) if given.config else ({}, [])
    problems += [f"--config {given.config}: {problem}" for problem in wrong]
    upstreams = {**values.pop("upstreams", {}), **dict(_upstream(text, problems) for text in given.upstream)}
    host, port = _address(given.listen or _LISTEN, problems)
    descriptor_set = _read("--descriptor-set", given.descriptor_set, problems)
    service_config = _read("--service-config", given.service_config, problems).decode(errors="replace")
    if given.descriptor_set and given.reflect:
        problems.append("--descriptor-set and --reflect cannot both be used")
    elif not (given.descriptor_set or given.reflect):
        problems.append("one of --descriptor-set and --reflect is needed")
    if not upstreams and not given.reflect:
        problems.append("--upstream is missing")
    if problems:
        raise ConfigError(problems)
    if given.reflect:
        descriptor_set, services = reflect(given.reflect)
        upstreams = {**dict.fromkeys(services, given.reflect), **upstreams}
    # What the command line says goes before the file.
    values["forward_headers"] = (*values.get("forward_headers", ()), *given.forward_header)
    values |= {"title": given.title} if given.title else {}
    values |= {"service_config": service_config} if service_config else {}
    values.setdefault("otlp_endpoint", os.environ.get(OTLP_ENDPOINT, ""))
    config = GatewayConfig(descriptor_set=descriptor_set, upstreams=upstreams, **values)
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
