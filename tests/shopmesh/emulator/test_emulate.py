"""Whole runs against a running mesh: clean when all is as promised, and not when something was planted."""

import sqlite3
from dataclasses import replace
from pathlib import Path

import pytest

from mesh.config import Settings
from shopmesh.audit import AuditOptions, audit
from shopmesh.audit.journal import CART, INVOICE, ORDER, Entry, Journal, read_journal
from shopmesh.emulator import EmulateOptions, emulate
from shopmesh.emulator.compare import Comparison
from shopmesh.emulator.customer import Customer
from shopmesh.emulator.meter import Meter
from shopmesh.emulator.persona import Joining, Manner, draw
from shopmesh.emulator.session import Session
from shopmesh.emulator.visit import Visit
from shopmesh.emulator.wires import Wires
from tests.support.servers import free_port

_PLAIN = replace(
    draw(seed=1, number=1, of=1, grpc_share=0, pace=0),
    joining=Joining.NEVER,
    manner=Manner.PLAIN,
    cards=("tok_ok",),
    baskets=1,
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
    if settings.per_service:
        pytest.skip("what is planted here is told to SQLite; the audit's own tests plant on both")
    with Journal(tmp_path / "journal.jsonl") as journal:
        await customer_in(wires, journal).shop()
    options = AuditOptions(settings=settings, journal=journal.path, reread_after_s=0)
    assert await audit(options) == 0
    order_id = next(entry.order_id for entry in read_journal(journal.path) if entry.kind == ORDER)
    with sqlite3.connect(settings.data_dir / "checkout.db") as connection:
        one_cent = "UPDATE orders SET tax_minor = tax_minor + ?, total_minor = total_minor + ? WHERE order_id = ?"
        connection.execute(one_cent, (1, 1, order_id))
        connection.commit()
        assert await audit(options) == 1
        connection.execute(one_cent, (-1, -1, order_id))
    connection.close()
    assert await audit(options) == 0
