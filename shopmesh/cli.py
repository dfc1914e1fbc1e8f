"""The command line: `shopmesh <command>`.

Exit codes: 0 done, 1 it was tried and failed, 2 wrong use; what is wrong stands on stderr, every problem at once, and
never as a traceback.
"""

import enum
import importlib
import sys
from typing import NoReturn

import typer

from mesh.errors import ConfigError

EXIT_MISUSE = 2

app = typer.Typer(
    help="A checkout that never oversells, never loses an order and never charges twice.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


class Process(enum.StrEnum):
    """What runs by itself: the four services, named as their packages, and the REST gateway."""

    IDENTITY = "identity_service"
    INVENTORY = "inventory_service"
    CART = "cart_service"
    CHECKOUT = "checkout_service"
    GATEWAY = "gateway"


@app.command()
def up() -> None:
    """Start everything in one process: databases, services, demo data, REST."""
    _run("shopmesh.up")


@app.command()
def serve(process: Process) -> None:
    """Start one service, or the gateway, by itself."""
    if process is Process.GATEWAY:
        _run("shopmesh.edge")
    _run("shopmesh.serve", process.value)


@app.command()
def migrate() -> None:
    """Bring every database to this version's schema, waiting up to 60 s for the database server."""
    _run("shopmesh.migrate")


@app.command()
def seed() -> None:
    """Add the demo catalogue to a running mesh, waiting up to 60 s for it; adds nothing twice."""
    _run("shopmesh.seed")


@app.command()
def config() -> None:
    """Print the settings as a program here would read them, secrets masked."""
    _run("shopmesh.settings")


def main() -> None:
    """Run the command line; what `shopmesh` and `python -m shopmesh` call. Exits the process."""
    app(prog_name="shopmesh")


def _run(module: str, *arguments: object) -> NoReturn:
    """Call `main` of a module which is imported only now, so that help and mistakes are answered at once."""
    try:
        code = importlib.import_module(module).main(*arguments)
    except ConfigError as error:
        sys.stderr.writelines(f"shopmesh: {problem}\n" for problem in error.problems)
        code = EXIT_MISUSE
    raise typer.Exit(code)
