"""A boundary cannot be written without a failpoint: whoever tries finds one of these tests in the way.

What is named here as an exception has its reason beside it.
"""

import ast
from collections import Counter
from collections.abc import Iterator, Mapping

import pytest

from tests.chaos.boundaries import (
    RPCS,
    SERVICES,
    Module,
    boundaries,
    failpoints,
    is_calls,
    modules,
    name_of,
    of_module,
    parsed,
    rpc_of,
)

# Where connections are opened and transactions begun.
_OPENS = frozenset({"create_async_engine", "create_engine", "open_engine", "begin", "begin_nested", "connect"})
_MAY_OPEN = {
    "mesh/db.py",
    # Those of mesh/db.py, which keeps them there.
    "mesh/kept.py",
    # Migrations run before the shop opens, one process at a time; MySQL has no transactions for them.
    "mesh/migrate.py",
}
# The latter is Kit.open_database, which hands the failpoints on.
_MAKE_DATABASES = {"mesh/db.py", "mesh/program.py"}
_MAY_CALL_DIRECTLY: Mapping[str, str] = {
    "checkout_service/app.py": "the simulated provider's webhooks: the provider's own call, which it repeats",
    "mesh/auth.py": "fetching the keys that verify tokens: it changes nothing, and is repeated",
    "gateway/upstream.py": "the shim passes its clients' calls on; it keeps nothing, and they repeat them",
    "gateway/service_config.py": "asks gRPC's core what it thinks of a config; nobody is there to be called",
    "gateway/unary.py": "as gateway/upstream.py, whose unary calls it makes",
    "mesh/channel.py": "gives the methods that Calls is handed their time-outs",
    "mesh/interceptors.py": "the server's side: handlers, not calls",
}


def test_the_boundaries_of_all_layers_are_found() -> None:
    found = failpoints()

    assert {"transact.saga_steps", "transact.write carts", "call.BatchReserve", "transact.payment_book"} <= set(found)


def test_a_transactions_name_stands_at_one_place_only() -> None:
    names = Counter(boundary.name for boundary in boundaries() if boundary.name.startswith("transact."))

    assert [name for name, count in names.items() if count > 1] == []


def test_nobody_but_the_kit_opens_connections_or_begins_transactions() -> None:
    assert {module.file for module in modules() if _calls(module, _OPENS)} - _MAY_OPEN == set()


def test_nobody_but_the_kit_makes_databases() -> None:
    assert {
        module.file
        for module in modules()
        for call in module.calls
        # As in `open_database(...)`; `kit.open_database(...)` is how everybody gets theirs.
        if isinstance(call.func, ast.Name) and call.func.id in {"open_database", "Database"}
    } == _MAKE_DATABASES


def test_nobody_ends_a_transaction_by_hand() -> None:
    assert not any(_calls(module, frozenset({"connection.commit", "connection.rollback"})) for module in modules())


def test_no_rpc_is_made_but_through_calls() -> None:
    direct = {module.file for module in modules() for _ in _direct(module)}

    assert direct == set(_MAY_CALL_DIRECTLY)


def test_each_rpc_that_is_called_has_a_request_named_after_it() -> None:
    requests = {method.name: method.input_type.name for service in SERVICES for method in service.methods}
    called = {boundary.name.removeprefix("call.") for boundary in boundaries() if boundary.name.startswith("call.")}

    assert called
    assert {name: requests[name] for name in called} == {name: f"{name}Request" for name in called}


@pytest.mark.parametrize(
    "text",
    [
        "async def f(database, number): await database.transact(f'step {number}', body)",
        "async def f(database): await database.transact(NAMES[0], body)",
        "async def f(calls, stub): await calls(stub.Unheard, request)",
        "async def f(calls, stub): await calls(getattr(stub, 'BatchReserve'), request)",
    ],
)
def test_a_boundary_without_a_plain_name_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="must"):
        list(of_module(parsed("a_service/service.py", text)))


def test_a_stub_that_is_called_by_hand_is_found() -> None:
    by_hand = parsed("a_service/clients.py", "async def f(self): await self._stub.BatchReserve(request)")
    through = parsed("a_service/clients.py", "async def f(self): await self._calls(self._stub.BatchReserve, request)")

    assert [len(list(_direct(module))) for module in (by_hand, through)] == [1, 0]


def test_a_name_that_is_handed_on_is_found_at_the_callers() -> None:
    text = """
async def one(desk): await _locked(desk, "retry", act)
async def other(desk): await _locked(desk, "resolve", act)
async def _locked(desk, name, act): await desk.database.transact(name, act)
"""
    assert [boundary.name for boundary in of_module(parsed("a_service/wishes.py", text))] == [
        "transact.retry",
        "transact.resolve",
    ]


def _calls(module: Module, names: frozenset[str]) -> bool:
    """Whether it calls one of these, by its last name or its last two."""
    return any({name_of(call.func), ".".join(ast.unparse(call.func).split(".")[-2:])} & names for call in module.calls)


def _direct(module: Module) -> Iterator[ast.AST]:
    """Where a stub's method, or one made by path, is used other than as the argument of a Calls."""
    through = {id(call.args[0]) for call in module.calls if is_calls(call.func) and call.args}
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Attribute) and node.attr in {"unary_unary", "unary_stream", "stream_unary"}:
            yield node
        if rpc_of(node) in RPCS and id(node) not in through:
            yield node
