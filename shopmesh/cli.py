"""The command line: `shopmesh <command>`.

Exit codes: 0 done, 1 it was tried and failed, 2 wrong use; what is wrong stands on stderr, every problem at once, and
never as a traceback.
"""

import enum
import importlib
import sys
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from mesh.errors import ConfigError

EXIT_MISUSE = 2

app = typer.Typer(
    help="A checkout that never oversells, never loses an order and never charges twice.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
saga = typer.Typer(help="Look at sagas, and help the ones that are stuck.", no_args_is_help=True)
app.add_typer(saga, name="saga")

SagaId = Annotated[str, typer.Argument(metavar="SAGA_ID", help="The saga's id, which is its order's.")]
Reason = Annotated[str, typer.Option(help="Why; it is kept with your name.")]


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
def emulate(
    *,
    customers: Annotated[int, typer.Option(help="How many customers shop at once.")] = 200,
    http: Annotated[str | None, typer.Option(metavar="URL", help="Where REST answers.")] = None,
    grpc: Annotated[str | None, typer.Option(metavar="HOST:PORT", help="Where gRPC answers.")] = None,
    grpc_share: Annotated[float, typer.Option(help="The share of customers who speak gRPC, 0 to 1.")] = 0.2,
    seed: Annotated[int, typer.Option(help="The same seed makes the same customers.")] = 1,
    journal: Annotated[Path | None, typer.Option(help="Where to write what was acknowledged.")] = None,
    audit: Annotated[bool, typer.Option(help="Audit the databases afterwards.")] = True,
    pace: Annotated[float, typer.Option(help="How slowly they move: 1 brisk, 0 without a thought.")] = 1.0,
) -> None:
    """Let customers shop in a running mesh, and compare what they were told with what is."""
    options = {"customers": customers, "http": http, "grpc": grpc, "grpc_share": grpc_share, "seed": seed}
    _run("shopmesh.outside", "emulate", **options, journal=journal, audit=audit, pace=pace)


@app.command()
def audit(
    *,
    journal: Annotated[Path | None, typer.Option(help="What an emulator was told, to compare as well.")] = None,
    since: Annotated[Path | None, typer.Option(help="Look at what changed since this was last written.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print findings as JSON.")] = False,
) -> None:
    """Prove from the databases that orders, stock and money agree; exit 1 with what does not."""
    _run("shopmesh.outside", "audit", journal=journal, since=since, as_json=as_json)


@app.command()
def config() -> None:
    """Print the settings as a program here would read them, secrets masked."""
    _run("shopmesh.settings")


class Resolution(enum.StrEnum):
    """What is known of the money of a stuck saga."""

    CHARGED = "charged"
    NOT_CHARGED = "not_charged"
    REPAID = "repaid"


@saga.command("list")
def list_sagas(
    *,
    state: Annotated[str, typer.Option(help="Only sagas in this state, such as CAPTURING.")] = "",
    everything: Annotated[bool, typer.Option("--all", help="Those that rest, too.")] = False,
    stuck: Annotated[bool, typer.Option(help="Only sagas that wait for an operator.")] = False,
) -> None:
    """List sagas that do not rest, oldest first."""
    _run("shopmesh.sagas", "list", state=state, only_open=not everything, stuck=stuck)


@saga.command("show")
def show_saga(saga_id: SagaId) -> None:
    """Show one saga and all that happened to it."""
    _run("shopmesh.sagas", "show", saga_id=saga_id)


@saga.command("retry")
def retry_saga(saga_id: SagaId, *, reason: Reason) -> None:
    """Try its present step again now."""
    _run("shopmesh.sagas", "retry", saga_id=saga_id, reason=reason)


@saga.command("abort")
def abort_saga(saga_id: SagaId, *, reason: Reason) -> None:
    """Turn it back; refused once its stock is sold."""
    _run("shopmesh.sagas", "abort", saga_id=saga_id, reason=reason)


@saga.command("resolve")
def resolve_saga(saga_id: SagaId, resolution: Resolution, *, reason: Reason) -> None:
    """Tell it what became of the money; refused if the payment provider says otherwise."""
    _run("shopmesh.sagas", "resolve", saga_id=saga_id, resolution=resolution.value, reason=reason)


def main() -> None:
    """Run the command line; what `shopmesh` and `python -m shopmesh` call. Exits the process."""
    app(prog_name="shopmesh")


def _run(module: str, *arguments: object, **options: object) -> NoReturn:
    """Call `main` of a module which is imported only now, so that help and mistakes are answered at once."""
    try:
        code = importlib.import_module(module).main(*arguments, **options)
    except ConfigError as error:
        sys.stderr.writelines(f"shopmesh: {problem}\n" for problem in error.problems)
        code = EXIT_MISUSE
    raise typer.Exit(code)
