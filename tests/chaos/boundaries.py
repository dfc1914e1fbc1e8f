"""Every boundary that the source has, found by reading it: so a new one is in the crash matrix by itself.

A boundary is a transaction, `transact("name", ...)`, or a call of another process, `calls(stub.Rpc, ...)` and
`around(failpoints, "name", ...)`. A function that hands its own parameter on as the name stands for its callers.
"""

import ast
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from google.protobuf.descriptor import ServiceDescriptor

from shop.cart.v1 import cart_pb2
from shop.checkout.v1 import checkout_pb2, saga_pb2
from shop.identity.v1 import identity_pb2
from shop.inventory.v1 import catalog_pb2, inventory_pb2

ROOT = Path(__file__).parents[2]
PACKAGES = (
    "mesh",
    "gateway",
    "identity_service",
    "inventory_service",
    "cart_service",
    "checkout_service",
    "shopmesh",
)
SERVICES: tuple[ServiceDescriptor, ...] = tuple(
    service
    for module in (identity_pb2, catalog_pb2, inventory_pb2, cart_pb2, checkout_pb2, saga_pb2)
    for service in module.DESCRIPTOR.services_by_name.values()
)
RPCS = frozenset(method.name for service in SERVICES for method in service.methods)
# What stands outside of the shop and keeps nothing: an operator's tools, customers, the load on it.
TOOLS = ("shopmesh/audit/", "shopmesh/emulator/", "shopmesh/sagas.py")
# Where the name stands among a call's arguments, and what the failpoint's name begins with.
_DOORS: Mapping[str, tuple[int, str]] = {"transact": (0, "transact."), "around": (1, "")}


@dataclass(frozen=True, slots=True)
class Boundary:
    """One place in the source, `file:line`, and the failpoint there."""

    name: str
    where: str


Function = ast.AsyncFunctionDef | ast.FunctionDef


@dataclass(frozen=True, slots=True)
class Module:
    """One file of ours, relative to the root: its calls, each with the innermost function that it is in."""

    file: str
    tree: ast.Module
    calls: Mapping[ast.Call, Function | None]

    def where(self, node: ast.expr) -> str:
        """`file:line` of a node."""
        return f"{self.file}:{node.lineno}"


@cache
def modules() -> Sequence[Module]:
    """All source files of the shop; tools are not among them."""
    paths = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
    files = {str(path.relative_to(ROOT)): path for path in paths}
    return [parsed(file, path.read_text()) for file, path in files.items() if not file.startswith(TOOLS)]


def parsed(file: str, text: str) -> Module:
    """One file."""
    tree = ast.parse(text)
    return Module(file, tree, dict(_calls(tree, None)))


@cache
def boundaries() -> Sequence[Boundary]:
    """All boundaries of the shop. Raises ValueError for one whose name cannot be read off."""
    return [boundary for module in modules() for boundary in of_module(module)]


def of_module(module: Module) -> Iterator[Boundary]:
    """The boundaries in one file. Raises ValueError as `boundaries`."""
    yield from _named(module)
    yield from _remote(module)


def failpoints() -> list[str]:
    """The failpoints that a shop has, in alphabetical order."""
    return sorted({boundary.name for boundary in boundaries()})


def name_of(function: ast.expr) -> str:
    """The last part of a called function's name."""
    if isinstance(function, ast.Attribute):
        return function.attr
    return function.id if isinstance(function, ast.Name) else ""


def is_calls(function: ast.expr) -> bool:
    """Whether this is a `mesh.channel.Calls`, by the name that these have everywhere."""
    return name_of(function).lstrip("_") == "calls"


def rpc_of(node: ast.AST) -> str | None:
    """The RPC that `stub.Rpc` names, if the node is that."""
    return node.attr if isinstance(node, ast.Attribute) and node.attr in RPCS else None


def _calls(node: ast.AST, function: Function | None) -> Iterator[tuple[ast.Call, Function | None]]:
    if isinstance(node, ast.Call):
        yield node, function
    if isinstance(node, ast.AsyncFunctionDef | ast.FunctionDef):
        function = node
    for child in ast.iter_child_nodes(node):
        yield from _calls(child, function)


def _named(module: Module) -> Iterator[Boundary]:
    for call in module.calls:
        door = _DOORS.get(name_of(call.func))
        # The kit's own calls of `around` are made for all the calls that are found below.
        if door is None or module.file == "mesh/channel.py":
            continue
        position, prefix = door
        for name, where in _names(module, call, call.args[position]):
            yield Boundary(f"{prefix}{name}", where)


def _names(module: Module, call: ast.Call, given: ast.expr) -> Iterator[tuple[str, str]]:
    """The names that an argument of the call may have, and where each is written."""
    match given:
        case ast.Constant(value=str() as name):
            yield name, module.where(given)
        case ast.JoinedStr(values=[ast.Constant(value=str() as prefix), ast.FormattedValue(value=ast.Name() as rest)]):
            yield from ((f"{prefix}{name}", where) for name, where in _names(module, call, rest))
        case ast.Name(id=name) if name in (constants := _constants(module)):
            yield constants[name], module.where(given)
        case ast.Name(id=name) if (forwarder := module.calls[call]) and name in _parameters(forwarder):
            yield from _given_by_callers(module, forwarder, name)
        case _:
            raise ValueError(f"{module.where(call)}: the name must be a literal")


def _given_by_callers(module: Module, forwarder: Function, parameter: str) -> Iterator[tuple[str, str]]:
    place = [name for name in _parameters(forwarder) if name != "self"].index(parameter)
    found = [
        name
        for caller in {module.file: module, **({} if forwarder.name.startswith("_") else _by_file())}.values()
        for call in caller.calls
        if name_of(call.func) == forwarder.name and len(call.args) > place
        for name in _names(caller, call, call.args[place])
    ]
    if not found:
        raise ValueError(f"{module.file}:{forwarder.lineno}: the callers of {forwarder.name} must give the name")
    yield from found


def _by_file() -> Mapping[str, Module]:
    return {module.file: module for module in modules()}


def _parameters(function: Function) -> list[str]:
    return [argument.arg for argument in function.args.args]


def _constants(module: Module) -> Mapping[str, str]:
    return {
        target.id: node.value.value
        for node in module.tree.body
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
        for target in node.targets
        if isinstance(target, ast.Name)
    }


def _remote(module: Module) -> Iterator[Boundary]:
    for call in module.calls:
        if is_calls(call.func) and call.args:
            rpc = rpc_of(call.args[0])
            if rpc is None:
                raise ValueError(f"{module.where(call)}: the method must be named as stub.Rpc")
            yield Boundary(f"call.{rpc}", module.where(call))
