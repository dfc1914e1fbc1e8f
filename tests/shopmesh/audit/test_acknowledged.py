"""With a journal: what customers were told is compared with what the databases hold."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from sqlalchemy import insert

import cart_service.tables as cart
from checkout_service.domain import OrderState
from mesh.config import Settings
from shopmesh.audit import AuditOptions, audit
from shopmesh.audit.acknowledged import may_become
from shopmesh.audit.command import run
from shopmesh.audit.findings import Invariant
from shopmesh.audit.journal import CART, INVOICE, ORDER, READ, Entry, Journal
from tests.shopmesh.audit.shop import PRICE_MINOR, SHIPPING_MINOR, TAX_MINOR, Shop, sound

_TOTAL = 2 * PRICE_MINOR + SHIPPING_MINOR + TAX_MINOR
_CART_ID = "3f0c1a52-5a0e-4c1b-9b67-0e4f6a2d9c11"
PAID = Entry(
    kind=ORDER,
    customer="customer-1",
    caller="cart:cart-order-paid",
    request_id="key-order-paid",
    body_sha256="aa",
    order_id="order-paid",
    state="PAID",
    total_minor=_TOTAL,
    currency_code="EUR",
    invoice_number="INV-order-paid",
    items={"TEA": 2},
)
INVOICED = Entry(
    kind=INVOICE,
    customer="customer-1",
    order_id="order-paid",
    total_minor=_TOTAL,
    currency_code="EUR",
    invoice_number="INV-order-paid",
)
FILLED = Entry(kind=CART, customer="customer-1", cart_id=_CART_ID, cart_version=3, items={"TEA": 2, "CUP": 1})


@dataclass(frozen=True, slots=True)
class Lie:
    """Entries that are not true of the sound shop, and how they are found out."""

    name: str
    entries: tuple[Entry, ...]
    finding: tuple[str, str]


LIES = (
    Lie("a lost order", (replace(PAID, order_id="order-gone"),), ("I5", "order-lost")),
    Lie("a paid order that is not", (replace(PAID, order_id="order-declined"),), ("I5", "state-taken-back")),
    Lie("another total", (replace(PAID, total_minor=_TOTAL - 1),), ("I5", "total-changed")),
    Lie("another currency", (replace(PAID, kind=READ, currency_code="USD"),), ("I5", "total-changed")),
    Lie("another invoice", (replace(INVOICED, invoice_number="INV-2"),), ("I5", "invoice-changed")),
    Lie("a lost key", (replace(PAID, request_id="another"),), ("I6", "key-lost")),
    Lie("one key for two orders", (PAID, replace(PAID, order_id="order-declined")), ("I6", "key-of-two-orders")),
    Lie("two answers for one key", (PAID, replace(PAID, body_sha256="bb")), ("I6", "answers-differ")),
    Lie("a lost cart", (replace(FILLED, cart_id=_CART_ID.replace("3", "4")),), ("I5", "cart-lost")),
    Lie("a lost change of a cart", (replace(FILLED, cart_version=4),), ("I5", "cart-lost")),
    Lie("other items of the same version", (replace(FILLED, items={"TEA": 2}),), ("I5", "cart-changed")),
)


@pytest.fixture
async def shop_with_cart(shop: Shop) -> Shop:
    sound(shop)
    shop.add(cart.carts, cart_id=_CART_ID, customer_id="", version=3)
    for position, (sku, quantity) in enumerate(FILLED.items.items(), start=1):
        shop.add(cart.cart_items, cart_id=_CART_ID, sku=sku, quantity=quantity, position=position)
    await shop.flush()
    return shop


@pytest.fixture
def journal_of(tmp_path: Path) -> Callable[..., Path]:
    def write(*entries: Entry) -> Path:
        with Journal(tmp_path / "journal.jsonl") as journal:
            for entry in entries:
                journal.write(entry)
        return journal.path

    return write


async def test_a_true_journal_is_clean(
    settings: Settings, shop_with_cart: Shop, journal_of: Callable[..., Path]
) -> None:
    under_way = replace(PAID, state="RESERVED", body_sha256="before", invoice_number="")
    journal = journal_of(under_way, PAID, PAID, INVOICED, replace(FILLED, cart_version=2, items={"TEA": 1}), FILLED)
    report = await run(AuditOptions(settings=settings, journal=journal, reread_after_s=0))
    assert report.findings == []
    assert report.checked[Invariant.ACKNOWLEDGED] == 2
    assert await audit(AuditOptions(settings=settings, journal=journal)) == 0


@pytest.mark.parametrize("lie", LIES, ids=[lie.name for lie in LIES])
async def test_finds_out(lie: Lie, settings: Settings, shop_with_cart: Shop, journal_of: Callable[..., Path]) -> None:
    options = AuditOptions(settings=settings, journal=journal_of(*lie.entries), reread_after_s=0)
    found = {(finding.invariant.value, finding.fault.rule) for finding in (await run(options)).findings}
    assert lie.finding in found


async def test_a_cart_that_was_changed_since_is_not_compared(
    settings: Settings, shop_with_cart: Shop, journal_of: Callable[..., Path]
) -> None:
    await shop_with_cart.execute(
        "cart", insert(cart.cart_items).values(cart_id=_CART_ID, sku="POT", quantity=1, position=9)
    )
    journal = journal_of(replace(FILLED, cart_version=2, items={"TEA": 1}))
    assert (await run(AuditOptions(settings=settings, journal=journal))).clean


async def test_a_journal_that_is_not_there_is_wrong_use(
    settings: Settings, shop: Shop, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert await audit(AuditOptions(settings=settings, journal=tmp_path / "none.jsonl")) == 2
    assert "none.jsonl" in capsys.readouterr().err


def test_what_was_paid_may_be_sent_delivered_or_refunded_but_never_fail() -> None:
    assert {str(state) for state in may_become(OrderState.PAID)} == {"PAID", "IN_TRANSIT", "COMPLETED", "REFUNDED"}
