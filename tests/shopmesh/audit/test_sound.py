"""An audit of a shop in which everything holds together, and of one that cannot be read."""

import json
from dataclasses import replace
from datetime import timedelta

import pytest
from sqlalchemy import update

import checkout_service.tables as checkout
from mesh.config import Settings
from shopmesh.audit import AuditOptions, audit
from shopmesh.audit.findings import Invariant
from tests.shopmesh.audit.shop import UNDER_WAY, Shop, sound


async def test_finds_nothing_in_an_empty_shop(settings: Settings, shop: Shop) -> None:
    assert await audit(AuditOptions(settings=settings)) == 0


async def test_finds_nothing_in_a_sound_shop_and_counts_what_it_examined(settings: Settings, shop: Shop) -> None:
    sound(shop)
    report = await shop.report()
    assert report.findings == []
    assert [(notice.subject, notice.fault.rule) for notice in report.notices] == [("order-parked", "with-the-operator")]
    assert report.checked[Invariant.COUNTERS] == 2
    assert report.checked[Invariant.MONEY] == 7


async def test_examines_more_orders_than_fit_a_page_or_a_span(
    settings: Settings, shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    for size in ("books.PAGE", "spans.SPAN", "ledger.SPAN", "stock.LINES_AT_ONCE"):
        monkeypatch.setattr(f"shopmesh.audit.{size}", 2)
    sound(shop)
    report = await shop.report()
    assert report.findings == []
    assert report.checked[Invariant.MONEY] == 7


async def test_tells_the_operator_of_a_saga_that_takes_too_long(settings: Settings, shop: Shop) -> None:
    sound(shop)
    old = shop.now - timedelta(hours=2)
    await shop.flush()
    await shop.execute("checkout", update(checkout.sagas).values(create_time=old))
    report = await shop.report()
    assert report.clean
    assert ("order-under-way", "saga-stuck") in {(notice.subject, notice.fault.rule) for notice in report.notices}


async def test_tells_the_operator_of_a_saga_whose_owner_is_gone(settings: Settings, shop: Shop) -> None:
    sound(shop)
    await shop.flush()
    await shop.execute("checkout", update(checkout.coordinators).values(lease_until=shop.now - timedelta(hours=1)))
    report = await shop.report()
    assert report.clean
    assert ("order-under-way", "saga-owner-gone") in {(notice.subject, notice.fault.rule) for notice in report.notices}


async def test_reservations_without_an_order_break_no_promise(settings: Settings, shop: Shop) -> None:
    shop.receive("TEA", on_hand=8)
    shop.reservation("somebody-elses", "TEA", "COMMITTED")
    report = await shop.report()
    assert report.clean
    assert [notice.subject for notice in report.notices] == ["somebody-elses"]


async def test_an_order_under_way_may_have_money_set_aside(settings: Settings, shop: Shop) -> None:
    shop.receive("TEA", held=2)
    shop.order("order-1", "TEA", replace(UNDER_WAY, payment="AUTHORIZED"))
    assert (await shop.report()).clean


async def test_prints_json_for_programs(settings: Settings, shop: Shop, capsys: pytest.CaptureFixture[str]) -> None:
    sound(shop)
    await shop.flush()
    assert await audit(AuditOptions(settings=settings, as_json=True)) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["clean"] is True
    assert printed["findings"] == []
    assert {"id": "I3", "checked": 7, "findings": 0}.items() <= printed["invariants"][2].items()


async def test_databases_that_are_not_there_are_wrong_use(
    nowhere: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    assert await audit(AuditOptions(settings=nowhere)) == 2
    assert "checkout.db" in capsys.readouterr().err
    assert not nowhere.data_dir.exists()


async def test_a_server_that_does_not_answer_is_wrong_use(capsys: pytest.CaptureFixture[str]) -> None:
    away = Settings(db_url="mysql://shop:shop@127.0.0.1:1", per_service={})
    assert await audit(AuditOptions(settings=away)) == 2
    assert "not available" in capsys.readouterr().err
