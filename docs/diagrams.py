"""Writes what the documentation draws from the code: `python docs/diagrams.py`, or with --check only compares.

A generated part stands between `<!-- generated: NAME -->` and `<!-- end -->`; everything else of a page is left alone.
"""

# ruff: noqa: INP001 - a script

import re
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from checkout_service.domain import EDGES, OrderState
from checkout_service.saga import RESTING, TABLE, Outcome, SagaState, Step
from policy.v1 import policy_pb2
from shop.cart.v1 import cart_pb2
from shop.checkout.v1 import checkout_pb2, saga_pb2
from shop.identity.v1 import identity_pb2
from shop.inventory.v1 import catalog_pb2, inventory_pb2

FOLDER = Path(__file__).parent
PAGES = ("architecture.md", "planned.md")
CONTRACT = (identity_pb2, catalog_pb2, inventory_pb2, cart_pb2, checkout_pb2, saga_pb2)
_PART = re.compile(r"(?P<begin><!-- generated: (?P<name>[a-z ]+) -->\n).*?(?P<end><!-- end -->)", re.DOTALL)


def main(arguments: list[str]) -> int:
    """Bring the pages up to date, or answer 1 and name those that are not."""
    stale = [page for page in PAGES if _refreshed(FOLDER / page) != (FOLDER / page).read_text()]
    if "--check" in arguments:
        told = "does not tell what the code does: python docs/diagrams.py"
        sys.stderr.writelines(f"docs/{page} {told}\n" for page in stale)
        return 1 if stale else 0
    for page in stale:
        (FOLDER / page).write_text(_refreshed(FOLDER / page))
    return 0


def order_states() -> Iterator[str]:
    """The legal edges between the states of an order."""
    yield "```mermaid"
    yield "stateDiagram-v2"
    yield f"    [*] --> {OrderState.RECEIVED}"
    for state, targets in EDGES.items():
        for target in OrderState:
            if target in targets:
                yield f"    {state} --> {target}"
        if not targets:
            yield f"    {state} --> [*]"
    yield "```"


def saga_states() -> Iterator[str]:
    """The saga's table as a picture: states are what is due, labels what it showed."""
    yield "```mermaid"
    yield "stateDiagram-v2"
    yield f"    [*] --> {SagaState.RESERVING}"
    for state, row in TABLE.items():
        for target, outcomes in _by_target(row).items():
            yield f"    {state} --> {target} : {', '.join(outcomes)}"
        if state in RESTING:
            yield f"    {state} --> [*]"
    yield "```"


def saga_table() -> Iterator[str]:
    """The saga's table as a table."""
    yield "| due | shows | then | the order becomes |"
    yield "|---|---|---|---|"
    for state, row in TABLE.items():
        for outcome, step in row.items():
            yield f"| {state} | {outcome} | {step.state}{_recorded(step)} | {_effect(step)} |"


def planned_methods() -> Iterator[str]:
    """The methods that are in the contract and answer UNIMPLEMENTED."""
    for module in CONTRACT:
        for service in module.DESCRIPTOR.services_by_name.values():
            planned = [method.name for method in service.methods if _is_planned(method)]
            if planned:
                yield f"- `{service.full_name}`: {', '.join(planned)}"


WRITERS: Mapping[str, Callable[[], Iterator[str]]] = {
    "order states": order_states,
    "saga states": saga_states,
    "saga table": saga_table,
    "planned methods": planned_methods,
}


def _refreshed(page: Path) -> str:
    def part(match: re.Match[str]) -> str:
        return match["begin"] + "".join(f"{line}\n" for line in WRITERS[match["name"]]()) + match["end"]

    return _PART.sub(part, page.read_text())


def _by_target(row: Mapping[Outcome, Step]) -> Mapping[SagaState, list[Outcome]]:
    by_target: dict[SagaState, list[Outcome]] = defaultdict(list)
    for outcome, step in row.items():
        by_target[step.state].append(outcome)
    return by_target


def _recorded(step: Step) -> str:
    if step.meanwhile:
        return ", recorded while that is done"
    return ", recorded with what it shows" if step.goes_on else ""


def _effect(step: Step) -> str:
    if step.fails_as is None:
        return str(step.order or "")
    state, reason = step.fails_as
    return f"{state} {reason}" if step.state in RESTING else f"in the end {state} {reason}"


def _is_planned(method: object) -> bool:
    options = method.GetOptions()  # type: ignore[attr-defined]  # generated descriptors are untyped here
    return bool(options.Extensions[policy_pb2.method].stage == policy_pb2.STAGE_PLANNED)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
