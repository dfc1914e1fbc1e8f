"""`shopmesh serve <service>`: one service in a process of its own."""

from functools import partial

from mesh import log, program
from mesh.run import run
from shopmesh.parts import PARTS, read_settings, service_config


def main(package: str) -> int:
    """Run until SIGTERM or SIGINT and answer the exit code. Raises ConfigError for wrong use."""
    settings = read_settings(apart=True)
    log.set_up(settings.common.log_level)
    part = next(part for part in PARTS if part.package == package)
    migrate = partial(part.migrate, settings)
    return run(program.serve(settings.of(part), part.build(settings), migrate, service_config()))
