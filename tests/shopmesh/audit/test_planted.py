"""Each way of spoiling a sound shop is found, under its invariant, with the id of what was spoilt."""

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

import shopmesh.audit
from mesh.config import Settings
from shopmesh.audit import AuditOptions, audit
from tests.shopmesh.audit import plants_checkout, plants_elsewhere
from tests.shopmesh.audit.plant import Plant
from tests.shopmesh.audit.shop import DECLINED, PAID, SOLD_OUT, Shop, sound

PLANTS = (*plants_checkout.PLANTS, *plants_elsewhere.PLANTS)
# With a journal, and for the operator: their own tests.
_NOT_PLANTED = {"acknowledged.py", "provider.py"}
_NOTICES = {"with-the-operator", "saga-stuck", "saga-owner-gone", "stray-payment-undone", "reservation-without-order"}


@pytest.mark.parametrize("plant", PLANTS, ids=[f"{plant.database}: {plant.name}" for plant in PLANTS])
async def test_finds(plant: Plant, settings: Settings, shop: Shop) -> None:
    sound(shop)
    await shop.flush()
    await shop.execute(plant.database, *plant.statements, checked=plant.checked)
    report = await shop.report()
    found = {(finding.invariant.value, finding.subject, finding.fault.rule) for finding in report.findings}
    assert set(plant.findings) <= found


def test_every_rule_has_something_planted_against_it() -> None:
    planted = {rule for plant in PLANTS for _, _, rule in plant.findings}
    unproven = [rule for rule in rules() if not any(re.fullmatch(rule, one) for one in planted)]
    assert unproven == []


def rules() -> set[str]:
    """Every rule in the source, as an expression: what is filled in stands for anything."""
    folder = Path(shopmesh.audit.__file__).parent
    texts = (path.read_text() for path in folder.glob("*.py") if path.name not in _NOT_PLANTED)
    named = {rule for text in texts for rule in re.findall(r'Fault\(\s*f?"([^"]+)"', text)}
    return {re.sub(r"\{.*?\}", ".+", rule) for rule in named - _NOTICES}


async def test_a_second_charge_for_less_than_the_total_is_found(settings: Settings, shop: Shop) -> None:
    shop.receive("TEA", on_hand=8)
    shop.order("order-1", "TEA", replace(PAID, payment="", captured=False))
    shop.payment("order-1", "CAPTURED", 5000, captured_minor=2500)
    report = await shop.report()
    rules = {finding.fault.rule for finding in report.findings}
    assert {"charge-differs", "captured-differs", "paid-not-captured"} <= rules


async def test_sold_out_said_without_asking_is_found(settings: Settings, shop: Shop) -> None:
    shop.receive("TEA")
    shop.order("order-1", "TEA", replace(SOLD_OUT, reservation="RELEASED"))
    report = await shop.report()
    assert [finding.fault.rule for finding in report.findings] == ["refusal-not-stored"]


async def test_what_is_found_is_printed_with_its_ids_and_the_command_fails(
    settings: Settings, shop: Shop, capsys: pytest.CaptureFixture[str]
) -> None:
    shop.receive("TEA", on_hand=11)
    shop.receive("CUP")
    shop.order("0198c0de-1111-7222-8333-444455556666", "CUP", replace(DECLINED, reservation="HELD"))
    await shop.flush()
    assert await audit(AuditOptions(settings=settings, reread_after_s=0)) == 1
    printed = capsys.readouterr().out
    assert "TEA" in printed
    assert "0198c0de-1111-7222-8333-444455556666" in printed
    assert await audit(AuditOptions(settings=settings, reread_after_s=0, as_json=True)) == 1
    members = json.loads(capsys.readouterr().out)
    assert {
        "invariant": "I2",
        "subject": "TEA",
        "rule": "on-hand-differs",
        "message": "on_hand is 11, the ledger's sum 10",
    } in members["findings"]
