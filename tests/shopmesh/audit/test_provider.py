"""Where the provider's book is elsewhere, the audit says so and compares our own rows."""

from pathlib import Path

import pytest

from mesh.config import Settings, database_url
from shopmesh.audit import AuditOptions, audit
from shopmesh.audit.command import run
from tests.shopmesh.audit.shop import DATABASES, PAID, Shop, make_tables, sound


async def test_an_order_paid_elsewhere_is_compared_with_our_own_rows(shop: Shop) -> None:
    shop.receive("TEA", on_hand=8)
    shop.order("order-1", "TEA", PAID.at_another_provider())
    report = await shop.report()
    assert report.clean
    (notice,) = report.notices
    assert (notice.invariant, notice.subject, notice.fault.rule) == ("I3", "provider", "book-elsewhere")
    assert "1 payments were made at a provider whose book is not here" in notice.fault.message


async def test_without_a_book_and_without_an_intent_nothing_tells_that_an_order_was_paid(
    settings: Settings, shop: Shop, tmp_path: Path
) -> None:
    sound(shop)
    await shop.flush()
    bookless = settings.model_copy(
        update={"per_service": {**urls(settings), "SHOP_PSP_DB_URL": f"sqlite:///{tmp_path / 'no.db'}"}}
    )
    report = await run(AuditOptions(settings=bookless, reread_after_s=0))
    assert ("I4", "order-paid", "paid-not-captured") in {
        (finding.invariant.value, finding.subject, finding.fault.rule) for finding in report.findings
    }
    assert [notice.fault.rule for notice in report.notices if notice.subject == "provider"] == ["book-absent"]
    assert not (tmp_path / "no.db").exists()


async def test_a_shop_that_never_had_a_book_says_so(settings: Settings, shop: Shop) -> None:
    shop.receive("TEA", on_hand=8)
    shop.order("order-1", "TEA", PAID.at_another_provider())
    await shop.flush()
    await shop.drop_book()
    try:
        report = await run(AuditOptions(settings=settings, reread_after_s=0))
    finally:
        await make_tables(settings)
    assert report.clean
    assert {notice.fault.rule for notice in report.notices} == {"book-elsewhere", "book-absent"}


async def test_other_databases_must_be_there(
    settings: Settings, shop: Shop, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    elsewhere = {**urls(settings), "SHOP_CART_DB_URL": f"sqlite:///{tmp_path / 'no-cart.db'}"}
    assert await audit(AuditOptions(settings=settings.model_copy(update={"per_service": elsewhere}))) == 2
    assert "no-cart.db" in capsys.readouterr().err


def urls(settings: Settings) -> dict[str, str]:
    return {
        f"SHOP_{name.upper()}_DB_URL": database_url(settings, name).render_as_string(hide_password=False)
        for name in DATABASES
    }
