"""How long an audit takes: a million rows of the ledger in half a minute, and so in proportion.

By hand at full size, which takes some minutes to fill:
    SHOP_TEST_AUDIT_ORDERS=300000 .venv/bin/pytest -s tests/shopmesh/audit/test_many.py
"""

import os
from pathlib import Path

import pytest

import checkout_service.payments.tables as psp
import checkout_service.tables as checkout
import inventory_service.tables as inventory
from mesh.config import Settings
from shopmesh.audit.findings import Invariant
from tests.shopmesh.audit.many import SKUS, fill, ledger_rows
from tests.shopmesh.audit.measured_process import Measured, measured
from tests.shopmesh.audit.plant import changed, lost
from tests.shopmesh.audit.shop import Shop

_BY_HAND = os.environ.get("SHOP_TEST_AUDIT_ORDERS")
ORDERS = int(_BY_HAND or "6000")
_ALLOWED_S = 30 * ledger_rows(ORDERS) / 1_000_000
# What it takes however little there is to read.
_OVERHEAD_S = 2.0
_ALLOWED_MIB = 250


@pytest.mark.parametrize("settings", ["mariadb"], indirect=True)
@pytest.mark.timeout(3600)
async def test_audits_a_million_ledger_rows_in_half_a_minute(shop: Shop, settings: Settings, tmp_path: Path) -> None:
    await fill(settings, ORDERS)
    whole = await measured(settings, tmp_path / "checkpoint.json")
    changes = await measured(settings, tmp_path / "checkpoint.json")
    print(f"{ledger_rows(ORDERS):,} rows: all {whole}, changes {changes}")  # noqa: T201
    assert (whole.findings, whole.notices, changes.findings) == (0, 0, 0)
    assert (whole.checked[Invariant.RESTING], whole.checked[Invariant.COUNTERS]) == (ORDERS, SKUS)
    assert changes.checked[Invariant.RESTING] == 0
    assert took_s(whole) < _OVERHEAD_S + _ALLOWED_S
    assert took_s(changes) < _OVERHEAD_S + _ALLOWED_S / 4
    assert whole.peak_mib < _ALLOWED_MIB


@pytest.mark.parametrize("settings", ["mariadb"], indirect=True)
async def test_finds_single_rows_among_very_many(
    shop: Shop, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shopmesh.audit.spans.SPAN", 50)
    await fill(settings, 500)
    payment = (await shop.rows("psp", psp.payments))[200]["payment_key"]
    movement = (await shop.rows("inventory", inventory.movements))[2000]
    key = (await shop.rows("checkout", checkout.order_keys))[300]
    await shop.execute("psp", changed(psp.payments.c.payment_key, payment, amount_minor=1), checked=False)
    await shop.execute("inventory", changed(inventory.movements.c.movement_id, movement["movement_id"], delta=0))
    await shop.execute("checkout", lost(checkout.order_keys.c.key_id, key["key_id"]))
    found = {finding.subject for finding in (await shop.report()).findings}
    of_movement = {movement["movement_id"], movement["sku"], movement["reservation_id"]}
    assert found == {payment, key["key_id"], key["order_id"]} | of_movement


def took_s(audit: Measured) -> float:
    """By hand it is the clock that counts; else what it cost us, for others run beside."""
    return audit.clock_s if _BY_HAND else audit.cpu_s
