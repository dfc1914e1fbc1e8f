"""The load: customers who come again and again for as long as the run lasts, and an operator who meddles.

A program of its own, `python -m tests.nemesis.load FOLDER`, so that a busy shop does not slow the nemesis. It reads
`plan.json` in the folder and speaks to who started it in lines: it says "shopping" when the doors are open and
"shopped" when every customer is through, waits for a line, asks for every order again under its key, and ends. In the
folder are then the journal of what was acknowledged and `load.json`, what the customers saw.
"""

import asyncio
import json
import random
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import uvloop

from mesh.errors import Failure
from shop.inventory.v1.catalog_pb2 import ListProductsRequest
from shopmesh.audit.journal import Journal
from shopmesh.emulator.contract import LIST_PRODUCTS, PLACE_ORDER
from shopmesh.emulator.meter import Meter
from shopmesh.emulator.persona import Joining, draw
from shopmesh.emulator.session import Session
from shopmesh.emulator.visit import Visit
from shopmesh.emulator.wires import Wire, Wires
from tests.nemesis.customers import Operator, Regular, Shelf

SHOPPING, SHOPPED = "shopping", "shopped"
# People here are stubborn: a call is tried for as long as any fault lasts.
_ATTEMPTS = 30
_PATIENCE = 5.0
_GRPC_SHARE = 0.75
# The others are guests: every sign-in costs two password hashes, and it is not those that are put to the test.
_ONE_IN_SIGNS_IN = 4
_MEDDLES_EVERY_S = 0.8
_PAGE_SIZE = 100


@dataclass(frozen=True, slots=True)
class Plan:
    """What the load is told. `addresses` says where gRPC of each service is, by its full name."""

    seconds: float
    seed: int
    customers: int
    # Purchases in a second that are begun as long as the shop keeps up.
    rate: float
    http_url: str
    addresses: Mapping[str, str]

    def write(self, folder: Path) -> None:
        """Put it where the load looks for it."""
        (folder / "plan.json").write_text(json.dumps(asdict(self)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What the customers saw. Times are seconds since the epoch."""

    # When the load began, and when every customer was through.
    began: float
    ended: float
    purchases_broken_off: int
    asked_again: int
    differences: list[str]
    # "method reason" -> how often.
    refusals: dict[str, int]
    errors: dict[str, int]
    # Every call of PlaceOrder: when it was answered, how many seconds that took, and whether with an order.
    calls: list[tuple[float, float, bool]]

    @classmethod
    def read(cls, folder: Path) -> "Seen":
        """What a load left in its folder."""
        return cls(**json.loads((folder / "load.json").read_text()))


def journal_path(folder: Path) -> Path:
    """Where the journal of a load is."""
    return folder / "journal.jsonl"


@dataclass(slots=True)
class Recorder(Meter):
    """A meter that also remembers when orders were answered."""

    calls_of_orders: list[tuple[float, float, bool]] = field(default_factory=list)

    def answered(self, method: str, seconds: float) -> None:
        """As Meter.answered."""
        self.seconds[method].append(seconds)
        if method == PLACE_ORDER.name:
            self.calls_of_orders.append((time.time(), seconds, True))

    def failed(self, method: str, failure: Failure, *, expected: bool) -> None:
        """As Meter.failed; what was noted as answered just now was no order."""
        (self.refusals if expected else self.errors)[method, failure.reason] += 1
        if method == PLACE_ORDER.name:
            at, seconds, _ = self.calls_of_orders[-1]
            self.calls_of_orders[-1] = (at, seconds, False)


class Load:
    """One load against one shop."""

    def __init__(self, plan: Plan, folder: Path) -> None:
        self._plan = plan
        self._folder = folder
        self._meter = Recorder()
        self._differences: list[str] = []
        self._wires = Wires(plan.http_url, "", elsewhere=plan.addresses)

    async def run(self) -> None:
        """All of it."""
        try:
            with Journal(journal_path(self._folder)) as journal:
                await self._run(journal)
        finally:
            await self._wires.close()

    async def _run(self, journal: Journal) -> None:
        shelf = Shelf(await self._skus())
        regulars = [self._regular(number, journal, shelf) for number in range(1, self._plan.customers + 1)]
        began = time.time()
        _say(SHOPPING)
        await self._let_in(regulars, Operator(self._visit(0, journal), shelf, regulars))
        ended = time.time()
        _say(SHOPPED)
        await asyncio.to_thread(sys.stdin.readline)
        asked_again = sum(await asyncio.gather(*[regular.ask_again() for regular in regulars]))
        seen = Seen(
            began=began,
            ended=ended,
            purchases_broken_off=sum(regular.broken_off for regular in regulars),
            asked_again=asked_again,
            differences=self._differences,
            refusals={" ".join(name): number for name, number in self._meter.refusals.items()},
            errors={" ".join(name): number for name, number in self._meter.errors.items()},
            calls=[call for call in self._meter.calls_of_orders if call[0] < ended],
        )
        (self._folder / "load.json").write_text(json.dumps(asdict(seen)))

    async def _let_in(self, regulars: list[Regular], operator: Operator) -> None:
        end = asyncio.get_running_loop().time() + self._plan.seconds
        async with asyncio.TaskGroup() as group:
            for regular in regulars:
                group.create_task(regular.come_until(end))
            group.create_task(operator.meddle_until(end, every_s=_MEDDLES_EVERY_S))

    def _regular(self, number: int, journal: Journal, shelf: Shelf) -> Regular:
        return Regular(self._visit(number, journal), shelf, every_s=self._plan.customers / self._plan.rate)

    def _visit(self, number: int, journal: Journal) -> Visit:
        persona = draw(seed=self._plan.seed, number=number, of=self._plan.customers, grpc_share=_GRPC_SHARE, pace=0)
        joining = Joining.NEVER if number % _ONE_IN_SIGNS_IN else Joining.FIRST
        wire: Wire = self._wires.grpc if persona.speaks_grpc else self._wires.rest()
        session = Session(wire, self._meter, attempts=_ATTEMPTS)
        return Visit(replace(persona, joining=joining), session, journal, self._differences, pace=0, patience=_PATIENCE)

    async def _skus(self) -> list[str]:
        """What the shop sells, in an order that the seed gives."""
        request = ListProductsRequest(page_size=_PAGE_SIZE)
        skus: list[str] = []
        while True:
            page = (await self._wires.grpc.call(LIST_PRODUCTS, request)).message
            skus += [product.sku for product in page.products]
            request.page_token = page.next_page_token
            if not request.page_token:
                break
        random.Random(self._plan.seed).shuffle(skus)  # noqa: S311 - an experiment, not a secret
        return skus


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def main(folder: Path) -> None:
    """Run the load that is planned in the folder."""
    plan = Plan(**json.loads((folder / "plan.json").read_text()))
    uvloop.run(Load(plan, folder).run())


if __name__ == "__main__":
    main(Path(sys.argv[1]))
