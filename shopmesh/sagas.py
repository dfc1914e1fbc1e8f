"""`shopmesh saga list|show|retry|abort|resolve`: the operator's hands on a running mesh.

It speaks to checkout with the secret that the services share, so it works wherever a service could run, and what it
asks for is kept under the name of whoever is logged in there.
"""

import asyncio
import getpass
import re
import sys
from collections.abc import Awaitable, Callable, Iterable
from importlib import resources
from typing import Any

import grpc
from google.protobuf.message import Message
from rich.console import Console
from rich.table import Table

from mesh.auth import ServiceCredential
from mesh.channel import Calls, open_channel
from mesh.config import Settings, service_address
from mesh.errors import Failure
from mesh.program import kept_secret, misuse
from shop.checkout.v1 import saga_pb2, saga_pb2_grpc
from shop.type.v1.money_pb2 import Money
from shopmesh.parts import read_settings

# grpc's stubs are typed as synchronous.
_Do = Callable[[Any, Calls], Awaitable[None]]
# So wide that nothing is cut, whatever the terminal: an id that is shortened cannot be copied.
_console = Console(highlight=False, soft_wrap=True, width=500)


def main(command: str, **options: Any) -> int:
    """Run one command and answer its exit code: 1 when checkout refused or could not be reached, 2 for wrong use."""
    unreadable = [f"{name}: is not UTF-8" for name, value in options.items() if not _is_text(value)]
    if unreadable:
        return misuse(unreadable)
    return asyncio.run(_with_checkout(read_settings().common, _COMMANDS[command](**options)))


def _list(*, state: str, only_open: bool, stuck: bool) -> _Do:
    async def do(stub: Any, calls: Calls) -> None:
        sagas: list[saga_pb2.Saga] = []
        request = saga_pb2.ListSagasRequest(state=state, open=only_open, stuck=stuck, page_size=100)
        while True:
            page = await calls(stub.ListSagas, request)
            sagas.extend(page.sagas)
            if not page.next_page_token:
                break
            request.page_token = page.next_page_token
        _print_table(sagas)

    return do


def _show(*, saga_id: str) -> _Do:
    async def do(stub: Any, calls: Calls) -> None:
        _print_saga(await calls(stub.GetSaga, saga_pb2.GetSagaRequest(saga_id=saga_id)))

    return do


def _change(method: str, request: Message) -> _Do:
    async def do(stub: Any, calls: Calls) -> None:
        _print_table([await calls(getattr(stub, method), request)])

    return do


def _retry(*, saga_id: str, reason: str) -> _Do:
    return _change("RetrySaga", saga_pb2.RetrySagaRequest(saga_id=saga_id, reason=reason))


def _abort(*, saga_id: str, reason: str) -> _Do:
    return _change("AbortSaga", saga_pb2.AbortSagaRequest(saga_id=saga_id, reason=reason))


def _resolve(*, saga_id: str, reason: str, resolution: str) -> _Do:
    request = saga_pb2.ResolveSagaRequest(saga_id=saga_id, reason=reason, resolution=resolution)
    return _change("ResolveSaga", request)


_COMMANDS: dict[str, Callable[..., _Do]] = {
    "list": _list,
    "show": _show,
    "retry": _retry,
    "abort": _abort,
    "resolve": _resolve,
}


def _is_text(value: object) -> bool:
    # What a shell hands over in other bytes comes as surrogates, which no message can carry.
    return not isinstance(value, str) or value.isascii() or not any("\ud800" <= letter <= "\udfff" for letter in value)


async def _with_checkout(settings: Settings, do: _Do) -> int:
    secret = settings.service_secret or kept_secret(settings.data_dir, "service-secret")
    service_config = resources.files("shop").joinpath("service_config.json").read_text()
    channel: grpc.aio.Channel
    async with open_channel(service_address(settings, "checkout"), service_config) as channel:
        try:
            await do(saga_pb2_grpc.SagaServiceStub(channel), Calls(ServiceCredential(_who(), secret)))
        except Failure as failure:
            sys.stderr.writelines(f"shopmesh: {line}\n" for line in _told(failure))
            return 1
    return 0


def _who() -> str:
    # An id of the contract, whatever the machine calls its users.
    return f"cli.{re.sub(r'[^A-Za-z0-9._-]', '-', getpass.getuser())}"[:64]


def _told(failure: Failure) -> Iterable[str]:
    yield f"{failure.reason}: {failure.message}"
    for violation in failure.fields:
        yield f"{violation.field}: {violation.message}"


def _print_table(sagas: Iterable[saga_pb2.Saga]) -> None:
    table = Table("saga", "state", "stuck", "wish", "tries", "owed", "since", "last error", box=None)
    for saga in sagas:
        since = saga.update_time.ToDatetime().isoformat(timespec="seconds")
        tries = str(saga.attempts)
        table.add_row(
            saga.saga_id, saga.state, saga.stuck_reason, saga.wish, tries, _money(saga), since, saga.last_error
        )
    _console.print(table)


def _print_saga(saga: saga_pb2.Saga) -> None:
    _print_table([saga])
    _console.print(f"epoch {saga.epoch}, owner {saga.owner or 'none: it rests'}")
    timeline = Table("time", "what", "who", "why", box=None)
    for entry in saga.timeline:
        timeline.add_row(
            entry.time.ToDatetime().isoformat(timespec="milliseconds"), entry.what, entry.actor, entry.text
        )
    _console.print(timeline)


def _money(saga: saga_pb2.Saga) -> str:
    owed: Money = saga.owed
    return f"{owed.minor_units} {owed.currency_code}" if saga.HasField("owed") else ""
