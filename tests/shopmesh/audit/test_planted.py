"""Each way of spoiling a sound shop is found, under its invariant, with the id of what was spoilt."""

import json
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import pytest
from sqlalchemy import Executable, delete, insert, update

import cart_service.tables as cart
import checkout_service.payments.tables as psp
import checkout_service.tables as checkout
import inventory_service.tables as inventory
from inventory_service.domain.stock import movement_id
from mesh.config import Settings
from shopmesh.audit import AuditOptions, audit
from tests.shopmesh.audit.shop import DECLINED, PAID, SOLD_OUT, Shop, sound

_NOW = datetime.now(UTC)
_PAID_KEY = "cart:cart-order-paid/key-order-paid"


@dataclass(frozen=True, slots=True)
class Plant:
    """One change behind the services' back, and the findings that it has to lead to, others allowed."""

    name: str
    database: str
    statement: Executable
    findings: tuple[tuple[str, str, str], ...]


_O, _I, _E, _L = checkout.orders, checkout.invoices, checkout.order_events, checkout.order_lines
_STOCK = inventory.stock
PLANTS = (
    Plant(
        "a stock counter changed by one",
        "inventory",
        update(_STOCK).where(_STOCK.c.sku == "TEA").values(on_hand=_STOCK.c.on_hand + 1),
        (("I2", "TEA", "on-hand-differs"),),
    ),
    Plant(
        "a counter of holds changed by one",
        "inventory",
        update(_STOCK).where(_STOCK.c.sku == "TEA").values(held=_STOCK.c.held - 1),
        (("I2", "TEA", "held-differs"),),
    ),
    Plant(
        "an order amount changed by one cent, the total with it",
        "checkout",
        update(_O)
        .where(_O.c.order_id == "order-paid")
        .values(tax_minor=_O.c.tax_minor + 1, total_minor=_O.c.total_minor + 1),
        (
            ("I3", "order-paid", "charge-differs"),
            ("I3", "order-paid", "captured-differs"),
            ("I3", "order-paid", "invoice-total_minor-differs"),
            ("I4", "order-paid", "paid-not-captured"),
            ("I6", "order-paid", "answer-total_minor-differs"),
        ),
    ),
    Plant(
        "a cent moved from tax to shipping",
        "checkout",
        update(_O)
        .where(_O.c.order_id == "order-declined")
        .values(tax_minor=_O.c.tax_minor - 1, shipping_minor=_O.c.shipping_minor + 1),
        (("I6", "order-declined", "answer-tax_minor-differs"),),
    ),
    Plant(
        "a line's price changed by one cent",
        "checkout",
        update(_L).where(_L.c.order_id == "order-sold-out").values(unit_minor=_L.c.unit_minor - 1),
        (("I3", "order-sold-out", "subtotal-differs"),),
    ),
    Plant(
        "a charge without its order",
        "psp",
        insert(psp.payments).values(
            payment_key="order-nobody-made",
            payment_id="pay-1",
            state="CAPTURED",
            currency_code="EUR",
            amount_minor=100,
            captured_minor=100,
            refunded_minor=0,
            behaviour="",
            create_time=_NOW,
            update_time=_NOW,
        ),
        (("I3", "order-nobody-made", "charge-without-order"),),
    ),
    Plant(
        "money still set aside for an order that failed",
        "psp",
        update(psp.payments).where(psp.payments.c.payment_key == "order-declined").values(state="AUTHORIZED"),
        (("I3", "order-declined", "charge-of-unpaid-order"),),
    ),
    Plant(
        "a charge that the provider lost",
        "psp",
        delete(psp.payments).where(psp.payments.c.payment_key == "order-paid"),
        (("I4", "order-paid", "paid-not-captured"),),
    ),
    Plant(
        "a ledger row lost",
        "inventory",
        delete(inventory.movements).where(
            inventory.movements.c.movement_id == movement_id("sale", "order-paid", "TEA")
        ),
        (("I2", "TEA", "on-hand-differs"), ("I4", "order-paid", "sale-not-in-ledger")),
    ),
    Plant(
        "a receipt lost from the ledger",
        "inventory",
        delete(inventory.movements).where(inventory.movements.c.movement_id == "adjust-TEA"),
        (("I1", "TEA", "sold-more-than-received"), ("I2", "TEA", "on-hand-differs")),
    ),
    Plant(
        "a held line without its reservation",
        "inventory",
        delete(inventory.reservations).where(inventory.reservations.c.reservation_id == "order-under-way"),
        (("I2", "order-under-way", "lines-without-reservation"), ("I2", "TEA", "held-differs")),
    ),
    Plant(
        "a sale taken back behind the order",
        "inventory",
        update(inventory.reservations)
        .where(inventory.reservations.c.reservation_id == "order-paid")
        .values(state="RELEASED"),
        (("I4", "order-paid", "paid-not-sold"),),
    ),
    Plant(
        "a hold left behind by an order that failed",
        "inventory",
        update(inventory.reservations)
        .where(inventory.reservations.c.reservation_id == "order-declined")
        .values(state="HELD"),
        (("I4", "order-declined", "unpaid-holds-stock"), ("I2", "CUP", "held-differs")),
    ),
    Plant(
        "a refusal that was not true",
        "inventory",
        update(inventory.reservation_lines)
        .where(inventory.reservation_lines.c.reservation_id == "order-sold-out")
        .values(available=2),
        (("I10", "order-sold-out", "refusal-unfounded"),),
    ),
    Plant(
        "an event doubled",
        "checkout",
        insert(_E).values(
            order_id="order-paid", sequence=5, state="PAID", reason="", actor="checkout", create_time=_NOW
        ),
        (("I8", "order-paid", "events-differ"), ("I9", "order-paid", "illegal-edge")),
    ),
    Plant(
        "an event lost",
        "checkout",
        delete(_E).where(_E.c.order_id == "order-paid", _E.c.sequence == 2),
        (("I8", "order-paid", "events-not-in-sequence"), ("I9", "order-paid", "illegal-edge")),
    ),
    Plant(
        "an order moved without an event",
        "checkout",
        update(_O).where(_O.c.order_id == "order-paid").values(state="IN_TRANSIT"),
        (("I8", "order-paid", "last-event-differs"),),
    ),
    Plant(
        "the outbox telling of what never happened",
        "checkout",
        insert(checkout.outbox).values(order_id="order-declined", sequence=4, state="PAID", create_time=_NOW),
        (("I8", "order-declined", "told-what-never-happened"),),
    ),
    Plant(
        "an invoice that differs",
        "checkout",
        update(_I).where(_I.c.order_id == "order-paid").values(total_minor=_I.c.total_minor - 1),
        (("I3", "order-paid", "invoice-total_minor-differs"),),
    ),
    Plant(
        "an invoice lost",
        "checkout",
        delete(_I).where(_I.c.order_id == "order-paid"),
        (("I3", "order-paid", "invoice-missing"),),
    ),
    Plant(
        "an answer lost",
        "checkout",
        delete(checkout.answers).where(checkout.answers.c.order_id == "order-sold-out"),
        (("I6", "order-sold-out", "answer-missing"),),
    ),
    Plant(
        "an answer that cannot be read",
        "checkout",
        update(checkout.answers).where(checkout.answers.c.order_id == "order-paid").values(answer=b"\xff"),
        (("I6", "order-paid", "answer-unreadable"),),
    ),
    Plant(
        "a key lost",
        "checkout",
        delete(checkout.order_keys).where(checkout.order_keys.c.key_id == _PAID_KEY),
        (("I6", "order-paid", "key-missing"), ("I6", _PAID_KEY, "answer-without-key")),
    ),
    Plant(
        "a second key of one order",
        "checkout",
        insert(checkout.order_keys).values(
            key_id="cart:c/second", order_id="order-paid", fingerprint="f", create_time=_NOW
        ),
        (("I6", "cart:c/second", "second-key"),),
    ),
    Plant(
        "an order lost",
        "checkout",
        delete(_O).where(_O.c.order_id == "order-paid"),
        (
            ("I3", "order-paid", "charge-without-order"),
            ("I3", "order-paid", "invoices-without-order"),
            ("I4", "order-paid", "settlement-without-order"),
            ("I6", "order-paid", "order_keys-without-order"),
            ("I7", "order-paid", "sagas-without-order"),
            ("I8", "order-paid", "order_events-without-order"),
        ),
    ),
    Plant(
        "a saga lost",
        "checkout",
        delete(checkout.sagas).where(checkout.sagas.c.saga_id == "order-under-way"),
        (("I7", "order-under-way", "saga-missing"),),
    ),
    Plant(
        "an open saga that nobody owns",
        "checkout",
        update(checkout.sagas).where(checkout.sagas.c.saga_id == "order-under-way").values(owner=""),
        (("I7", "order-under-way", "saga-unowned"),),
    ),
    Plant(
        "a saga that rests before the order has ended",
        "checkout",
        update(checkout.sagas).where(checkout.sagas.c.saga_id == "order-under-way").values(owner="", state="UNDONE"),
        (("I4", "order-under-way", "undone-not-ended"), ("I4", "order-under-way", "unpaid-holds-stock")),
    ),
    Plant(
        "a cart that was never told of its purchase",
        "cart",
        delete(cart.settlements),
        (("I4", "order-paid", "cart-not-settled"),),
    ),
    Plant(
        "a product without stock",
        "inventory",
        delete(_STOCK).where(_STOCK.c.sku == "CUP"),
        (("I2", "CUP", "product-without-stock"), ("I2", "CUP", "ledger-without-stock")),
    ),
)


@pytest.mark.parametrize("plant", PLANTS, ids=[plant.name for plant in PLANTS])
async def test_finds(plant: Plant, settings: Settings, shop: Shop) -> None:
    sound(shop)
    await shop.flush()
    await shop.execute(plant.database, plant.statement)
    report = await shop.report()
    found = {(finding.invariant.value, finding.subject, finding.fault.rule) for finding in report.findings}
    assert set(plant.findings) <= found


async def test_a_second_charge_for_less_than_the_total_is_found(settings: Settings, shop: Shop) -> None:
    shop.receive("TEA", on_hand=8)
    shop.order("order-1", "TEA", replace(PAID, payment=""))
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
