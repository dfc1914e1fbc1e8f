"""An audit in increments looks at what changed, keeps running totals, and forgets nothing that was wrong."""

import json
from datetime import timedelta
from pathlib import Path

import pytest

import checkout_service.tables as checkout
import inventory_service.tables as inventory
from inventory_service.domain.stock import movement_id
from mesh.config import Settings
from shopmesh.audit import AuditOptions, audit
from shopmesh.audit.command import run
from shopmesh.audit.findings import Invariant, Report
from tests.shopmesh.audit import plants_checkout, plants_elsewhere
from tests.shopmesh.audit.plant import Plant, changed, lost
from tests.shopmesh.audit.shop import CANCELLED, PAID, Shop, sound


@pytest.fixture
async def old_shop(shop: Shop) -> Shop:
    """A sound shop of an hour ago, in which nothing moved since."""
    now = shop.now
    shop.now = now - timedelta(hours=1)
    sound(shop)
    await shop.flush()
    shop.now = now
    lease = changed(checkout.coordinators.c.owner, "coordinator-1", lease_until=now + timedelta(hours=1))
    await shop.execute("checkout", lease)
    return shop


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    return tmp_path / "deeper" / "checkpoint.json"


async def audited(settings: Settings, checkpoint: Path) -> Report:
    return await run(AuditOptions(settings=settings, since=checkpoint, reread_after_s=0))


async def test_looks_at_everything_first_and_then_at_what_does_not_rest(
    settings: Settings, old_shop: Shop, checkpoint: Path
) -> None:
    first = await audited(settings, checkpoint)
    second = await audited(settings, checkpoint)
    assert (first.checked[Invariant.MONEY], first.checked[Invariant.COUNTERS]) == (7, 2)
    assert (second.checked[Invariant.MONEY], second.checked[Invariant.COUNTERS]) == (2, 2)
    assert first.findings == second.findings == []
    assert [notice.subject for notice in second.notices if notice.fault.rule == "with-the-operator"] == ["order-parked"]


async def test_goes_on_from_the_totals_that_it_left(settings: Settings, old_shop: Shop, checkpoint: Path) -> None:
    await audited(settings, checkpoint)
    old_shop.order("order-new", "TEA", PAID)
    await old_shop.flush()
    report = await audited(settings, checkpoint)
    assert [finding.fault.rule for finding in report.findings] == ["on-hand-differs"]
    await old_shop.execute("inventory", changed(inventory.stock.c.sku, "TEA", on_hand=inventory.stock.c.on_hand - 2))
    report = await audited(settings, checkpoint)
    assert report.findings == []
    assert report.checked[Invariant.MONEY] == 3


_OF_OPEN_ORDERS = [
    plant for plant in plants_checkout.PLANTS if "order-under-way" in {subject for _, subject, _ in plant.findings}
]
_OF_COUNTERS = plants_elsewhere.COUNTERS


@pytest.mark.parametrize("plant", [*_OF_OPEN_ORDERS, *_OF_COUNTERS], ids=lambda plant: plant.name)
async def test_finds_what_is_wrong_with_open_orders_and_with_counters(
    plant: Plant, settings: Settings, old_shop: Shop, checkpoint: Path
) -> None:
    await audited(settings, checkpoint)
    await old_shop.execute(plant.database, *plant.statements, checked=plant.checked)
    report = await audited(settings, checkpoint)
    found = {(finding.invariant.value, finding.subject, finding.fault.rule) for finding in report.findings}
    assert found & set(plant.findings)


async def test_what_was_wrong_is_looked_at_until_it_is_right(
    settings: Settings, old_shop: Shop, checkpoint: Path
) -> None:
    fee = changed(checkout.invoices.c.order_id, "order-paid", total_minor=1)
    await old_shop.execute("checkout", fee)
    for _ in range(3):
        report = await audited(settings, checkpoint)
        assert [finding.fault.rule for finding in report.findings] == ["invoice-total_minor-differs"]
    await old_shop.execute("checkout", changed(checkout.invoices.c.order_id, "order-paid", total_minor=2773))
    assert (await audited(settings, checkpoint)).clean


async def test_a_row_of_the_ledger_that_is_new_is_looked_at(
    settings: Settings, old_shop: Shop, checkpoint: Path
) -> None:
    await audited(settings, checkpoint)
    key = movement_id("sale", "nobody", "TEA")
    old_shop.move(key, "TEA", -1, "sale", "nobody")
    await old_shop.flush()
    rules = {(finding.subject, finding.fault.rule) for finding in (await audited(settings, checkpoint)).findings}
    assert rules == {(key, "movement-without-reservation"), ("TEA", "on-hand-differs")}


async def test_what_is_lost_behind_the_services_backs_is_left_to_the_next_whole_audit(
    settings: Settings, old_shop: Shop, checkpoint: Path
) -> None:
    await audited(settings, checkpoint)
    await old_shop.execute("checkout", lost(checkout.invoices.c.order_id, "order-paid"))
    assert (await audited(settings, checkpoint)).clean
    assert not (await run(AuditOptions(settings=settings, reread_after_s=0))).clean


async def test_new_orders_are_looked_at_once_they_rest(settings: Settings, old_shop: Shop, checkpoint: Path) -> None:
    await audited(settings, checkpoint)
    old_shop.order("order-new", "CUP", CANCELLED)
    old_shop.payment("order-newer", "CAPTURED", 1, captured_minor=1)
    await old_shop.flush()
    report = await audited(settings, checkpoint)
    assert [(finding.subject, finding.fault.rule) for finding in report.findings] == [
        ("order-newer", "payments-without-order")
    ]


async def test_a_checkpoint_of_other_databases_is_wrong_use(
    settings: Settings, old_shop: Shop, checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    await audited(settings, checkpoint)
    edit(checkpoint, databases={"checkout": "sqlite:////elsewhere.db"})
    assert await audit(AuditOptions(settings=settings, since=checkpoint)) == 2
    assert "other databases" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"version": 1}', '{"version": 9}'])
async def test_a_file_that_is_no_checkpoint_is_wrong_use(
    text: str, settings: Settings, shop: Shop, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "no.json").write_text(text)
    assert await audit(AuditOptions(settings=settings, since=tmp_path / "no.json")) == 2
    assert "no.json" in capsys.readouterr().err


def edit(checkpoint: Path, **members: object) -> None:
    checkpoint.write_text(json.dumps({**json.loads(checkpoint.read_text()), **members}))
