"""Whole runs against a running mesh: clean when all is as promised, and not when something was planted."""

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import update
from sqlalchemy.ext.asyncio import AsyncConnection

from checkout_service.tables import orders
from mesh.config import Settings, database_url
from mesh.db import open_database
from shopmesh.audit import AuditOptions, audit
from shopmesh.audit.journal import CART, INVOICE, ORDER, READ, Entry, Journal, read_journal
from shopmesh.emulator import EmulateOptions, emulate
from shopmesh.emulator.basket import Basket
from shopmesh.emulator.compare import Comparison
from shopmesh.emulator.customer import Customer
from shopmesh.emulator.meter import Meter
from shopmesh.emulator.persona import Joining, Manner, draw
from shopmesh.emulator.purchase import Purchase
from shopmesh.emulator.session import Session
from shopmesh.emulator.visit import Visit
from shopmesh.emulator.wires import Wires
from tests.e2e.shopping import new_product, operator, rest_client
from tests.support.servers import free_port

_PLAIN = replace(
    draw(seed=1, number=1, of=1, grpc_share=0, pace=0),
    joining=Joining.NEVER,
    manner=Manner.PLAIN,
    cards=("tok_ok",),
    baskets=1,
    hunts=False,
)


def customer_in(wires: Wires, journal: Journal, *, manner: Manner = Manner.PLAIN) -> Customer:
    visit = Visit(replace(_PLAIN, manner=manner), Session(wires.rest(), Meter()), journal, [], pace=0)
    return Customer(visit, run_id="test", categories=["coffee", "tea"])


async def test_a_crowd_is_told_nothing_that_is_not_so(settings: Settings, tmp_path: Path) -> None:
    options = EmulateOptions(
        settings=settings, customers=12, grpc_share=0.5, pace=0, journal=tmp_path / "journal.jsonl"
    )
    assert await emulate(options) == 0
    entries = list(read_journal(tmp_path / "journal.jsonl"))
    assert {entry.kind for entry in entries} >= {CART, ORDER, INVOICE}
    assert len({entry.customer for entry in entries}) == 12


@pytest.mark.parametrize("manner", [Manner.DOUBLE_CLICK, Manner.GIVE_UP])
async def test_one_request_asked_twice_is_one_order(
    settings: Settings, wires: Wires, tmp_path: Path, manner: Manner
) -> None:
    with Journal(tmp_path / "journal.jsonl") as journal:
        customer = customer_in(wires, journal, manner=manner)
        await customer.shop()
    orders = [entry for entry in read_journal(journal.path) if entry.kind == ORDER]
    assert len(orders) in (1, 2)
    assert len({entry.order_id for entry in orders}) == 1
    assert not customer.stranded
    assert customer.visit.differences == []


@pytest.mark.parametrize("joining", [Joining.NEVER, Joining.FIRST])
async def test_who_regrets_an_order_does_not_pay_for_it(
    settings: Settings, wires: Wires, tmp_path: Path, joining: Joining
) -> None:
    with Journal(tmp_path / "journal.jsonl") as journal:
        customer = customer_in(wires, journal, manner=Manner.CANCEL)
        customer.visit.persona = replace(customer.visit.persona, joining=joining)
        await customer.shop()
    entries = list(read_journal(journal.path))
    assert {entry.state for entry in entries if entry.kind == READ} & {"CANCELLED", "REFUNDED"}
    comparison = Comparison(entries, patience_s=5)
    await comparison.run([customer])
    assert set(comparison.ends) <= {"CANCELLED CANCELLED", "REFUNDED CANCELLED"}
    assert customer.visit.differences == []


async def test_of_two_who_want_the_last_unit_one_is_told_why_not(
    settings: Settings, wires: Wires, tmp_path: Path
) -> None:
    async with rest_client(f"http://127.0.0.1:{settings.http_port}") as client:
        sku = await new_product(await operator(client), stock=1)
    with Journal(tmp_path / "journal.jsonl") as journal:
        visits = [customer_in(wires, journal).visit for _ in range(2)]
        baskets = [Basket(visit, []) for visit in visits]
        for basket in baskets:
            await basket.add(sku, 1)
        await asyncio.gather(*[Purchase(visit, basket).buy() for visit, basket in zip(visits, baskets, strict=True)])
    ends = sorted(f"{entry.state} {entry.reason}" for entry in read_journal(journal.path) if entry.kind == ORDER)
    assert ends == ["PAID ", "REJECTED OUT_OF_STOCK"]
    assert [visit.differences for visit in visits] == [[], []]


async def test_who_abandons_a_cart_leaves_it_as_it_was(settings: Settings, wires: Wires, tmp_path: Path) -> None:
    with Journal(tmp_path / "journal.jsonl") as journal:
        customer = customer_in(wires, journal, manner=Manner.ABANDON)
        await customer.shop()
    entries = list(read_journal(journal.path))
    assert {entry.kind for entry in entries} == {CART}
    await Comparison(entries, patience_s=5).run([customer])
    assert customer.visit.differences == []


async def test_the_comparison_finds_what_the_shop_says_differently(
    settings: Settings, wires: Wires, tmp_path: Path
) -> None:
    with Journal(tmp_path / "journal.jsonl") as journal:
        customer = customer_in(wires, journal)
        await customer.shop()
    entries = list(read_journal(journal.path))
    comparison = Comparison(entries, patience_s=5)
    await comparison.run([customer])
    assert customer.visit.differences == []
    assert comparison.ends == {"PAID": 1}

    await Comparison([lie_about(entry) for entry in entries], patience_s=0).run([customer])
    differences = "\n".join(customer.visit.differences)
    for part in ("was told to be REJECTED", "was told to cost 1 EUR", "it was INV-0", "now holds"):
        assert part in differences


def lie_about(entry: Entry) -> Entry:
    match entry.kind:
        case "order":
            return replace(entry, state="REJECTED")
        case "read":
            return replace(entry, total_minor=1)
        case "invoice":
            return replace(entry, invoice_number="INV-0")
    return replace(entry, items={"no-such-sku": 1})


async def test_a_mesh_that_does_not_answer_is_wrong_use(capsys: pytest.CaptureFixture[str]) -> None:
    nowhere = Settings(http_port=free_port(), grpc_port=free_port(), per_service={})
    assert await emulate(EmulateOptions(settings=nowhere)) == 2
    assert "does not answer" in capsys.readouterr().err


async def test_what_is_planted_after_a_run_is_found_by_the_audit_with_the_journal(
    settings: Settings, wires: Wires, tmp_path: Path
) -> None:
    with Journal(tmp_path / "journal.jsonl") as journal:
        await customer_in(wires, journal).shop()
    options = AuditOptions(settings=settings, journal=journal.path, reread_after_s=0.2)
    assert await audit(options) == 0
    order_id = next(entry.order_id for entry in read_journal(journal.path) if entry.kind == ORDER)
    await make_dearer(settings, order_id, by_minor=1)
    assert await audit(options) == 1
    await make_dearer(settings, order_id, by_minor=-1)
    assert await audit(options) == 0


async def make_dearer(settings: Settings, order_id: str, *, by_minor: int) -> None:
    dearer = {name: orders.c[name] + by_minor for name in ("tax_minor", "total_minor")}
    database = await open_database(database_url(settings, "checkout"))

    async def body(connection: AsyncConnection) -> None:
        await connection.execute(update(orders).where(orders.c.order_id == order_id).values(dearer))

    await database.transact("plant", body)
    await database.close()
