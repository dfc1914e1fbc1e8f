"""The emulation as a command: let the customers in, compare, report, audit."""

import asyncio
import secrets
import time
from collections import Counter
from datetime import UTC, datetime

from rich.console import Console

from mesh.errors import Failure
from mesh.program import misuse
from shop.inventory.v1.catalog_pb2 import ListProductsRequest
from shopmesh.audit import AuditOptions, audit
from shopmesh.audit.journal import Journal, read_journal
from shopmesh.emulator.compare import Comparison
from shopmesh.emulator.contract import LIST_PRODUCTS
from shopmesh.emulator.customer import Customer
from shopmesh.emulator.meter import Meter
from shopmesh.emulator.options import EmulateOptions
from shopmesh.emulator.persona import draw
from shopmesh.emulator.report import Live, print_differences, print_tables
from shopmesh.emulator.session import Session
from shopmesh.emulator.visit import Visit
from shopmesh.emulator.wires import Wire, Wires

# How long orders under way at the end may still take.
_PATIENCE_S = 30.0


async def emulate(options: EmulateOptions) -> int:
    """Run an emulation and print what came of it. Answers the exit code: 0 all as promised, 1 not, 2 wrong use."""
    wires = Wires(options.http_url, options.grpc_address)
    try:
        categories = [await _categories(wire) for wire in (wires.rest(), wires.grpc)]
    except Failure as failure:
        return misuse([f"The mesh does not answer at {options.http_url} and {options.grpc_address}: {failure}"])
    else:
        if not categories[0]:
            return misuse(["The shop sells nothing: `shopmesh seed` adds the demo catalogue."])
        return await _Run(options, wires, categories[0]).run()
    finally:
        await wires.close()


class _Run:
    """One emulation in a mesh that answers."""

    def __init__(self, options: EmulateOptions, wires: Wires, categories: list[str]) -> None:
        self._options = options
        self._wires = wires
        self._categories = categories
        self._console = Console()
        self._meter = Meter()
        self._differences: list[str] = []
        # Unique, so that every run brings new customers.
        self._id = f"{datetime.now(UTC):%Y%m%dt%H%M%S}-{secrets.token_hex(3)}"
        self._path = options.journal_path(self._id)

    async def run(self) -> int:
        """All of it; answers the exit code."""
        started = time.perf_counter()
        with Journal(self._path) as journal:
            customers = [self._customer(number, journal) for number in range(1, self._options.customers + 1)]
            await self._let_in(customers)
        seconds = time.perf_counter() - started
        ends = await self._compare(customers)
        print_tables(self._meter, ends, seconds=seconds, console=self._console)
        print_differences(self._differences, self._console)
        errors = self._meter.errors.total()
        summary = f"{len(self._differences):,} differences, {errors:,} errors; journal {self._path}"
        self._console.print(summary, soft_wrap=True)
        return max(int(bool(self._differences or errors)), await self._audit())

    async def _let_in(self, customers: list[Customer]) -> None:
        live = Live(self._meter, len(customers), self._console)

        async def shop(customer: Customer) -> None:
            await customer.shop()
            live.customer_through()

        async with live.shown(), asyncio.TaskGroup() as group:
            for customer in customers:
                group.create_task(shop(customer))

    async def _compare(self, customers: list[Customer]) -> Counter[str]:
        """Compare with what the shop says now; answers how the orders ended."""
        after = Meter()
        for customer in customers:
            # So that the rates and latencies are those of the shopping.
            customer.visit.session.meter = after
        comparison = Comparison(list(read_journal(self._path)), patience_s=_PATIENCE_S)
        await comparison.run(customers)
        self._meter.errors += after.errors
        return comparison.ends

    def _customer(self, number: int, journal: Journal) -> Customer:
        options = self._options
        persona = draw(
            seed=options.seed,
            number=number,
            of=options.customers,
            grpc_share=options.grpc_share,
            pace=options.pace,
        )
        wire = self._wires.grpc if persona.speaks_grpc else self._wires.rest()
        session = Session(wire, self._meter)
        visit = Visit(persona, session, journal, self._differences, options.pace)
        return Customer(visit, run_id=self._id, categories=self._categories)

    async def _audit(self) -> int:
        if not self._options.audit:
            return 0
        return await audit(AuditOptions(settings=self._options.settings, journal=self._path))


async def _categories(wire: Wire) -> list[str]:
    """What the shop sells, told over this wire. Raises Failure when it does not answer."""
    request = ListProductsRequest(page_size=100)
    found: set[str] = set()
    while True:
        page = (await wire.call(LIST_PRODUCTS, request)).message
        found.update(product.category for product in page.products)
        request.page_token = page.next_page_token
        if not request.page_token:
            return sorted(found)
