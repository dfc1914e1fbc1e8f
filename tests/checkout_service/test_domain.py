"""What identifies a request, what an order may become, how invoices are numbered."""

from dataclasses import fields, replace
from datetime import UTC, datetime
from typing import Any

import pytest

from checkout_service.domain import (
    ANSWERING,
    EDGES,
    Destination,
    Money,
    OrderSource,
    OrderState,
    PlaceOrder,
    invoice_number,
    sources_of,
)
from tests.checkout_service.build import BERLIN, NOON, order, place_order

ASKED = place_order(cart_id="3f0c1a52-5a0e-4c1b-9b67-0e4f6a2d9c11")
OTHERWISE: dict[str, Any] = {
    "cart_id": "3f0c1a52-5a0e-4c1b-9b67-0e4f6a2d9c12",
    "payment_token": "tok_decline",
    "destination": replace(BERLIN, postal_code="10117"),
    "promotion_codes": ("SPRING",),
    "expected_total": Money("EUR", 2963),
    "source": OrderSource.APP,
    "notes": "for Ann",
    "delivery_instructions": "ring twice",
}


@pytest.mark.parametrize("name", OTHERWISE)
def test_whatever_is_asked_otherwise_is_another_request(name: str) -> None:
    assert replace(ASKED, **{name: OTHERWISE[name]}).fingerprint != ASKED.fingerprint


def test_every_field_of_a_request_is_fingerprinted_but_the_key_and_who_asks() -> None:
    assert {field.name for field in fields(PlaceOrder)} == {*OTHERWISE, "request_id", "caller_id"}
    assert replace(ASKED, request_id="key-2").fingerprint == ASKED.fingerprint


@pytest.mark.parametrize("name", [field.name for field in fields(Destination)])
def test_every_part_of_the_destination_counts(name: str) -> None:
    elsewhere = replace(BERLIN, **{name: "XX"})

    assert replace(ASKED, destination=elsewhere).fingerprint != ASKED.fingerprint


def test_amounts_of_different_currencies_are_different_requests() -> None:
    euros, crowns = (replace(ASKED, expected_total=Money(code, 100)) for code in ("EUR", "CZK"))

    assert euros.fingerprint != crowns.fingerprint


def test_the_fingerprint_says_nothing_of_the_payment_token() -> None:
    asked = replace(ASKED, payment_token="tok_very_secret")

    assert asked.fingerprint == replace(ASKED, payment_token="tok_very_secret").fingerprint
    assert len(asked.fingerprint) == 64
    assert "tok_very_secret" not in asked.fingerprint + asked.key


def test_a_customers_key_is_the_customers_whatever_the_cart() -> None:
    ann = replace(ASKED, caller_id="ann")

    assert ann.key == replace(ann, cart_id="another").key == "customer:ann/key-1"
    assert ann.key != replace(ann, caller_id="bob").key


def test_a_guests_key_belongs_to_the_cart() -> None:
    assert ASKED.key == f"cart:{ASKED.cart_id}/key-1"
    assert ASKED.key != replace(ASKED, cart_id="another").key


def test_the_longest_key_fits_its_column() -> None:
    longest = replace(ASKED, caller_id="c" * 64, request_id="r" * 64)

    assert len(longest.key) <= 160


@pytest.mark.parametrize("state", OrderState)
@pytest.mark.parametrize("target", OrderState)
def test_an_order_moves_along_its_legal_edges_only(state: OrderState, target: OrderState) -> None:
    here = order(state=state)

    if target in EDGES[state]:
        moved = here.moved(target, reason="WHY", at=NOON, by="checkout")
        assert (moved.state, moved.reason, moved.sequence) == (target, "WHY", here.sequence + 1)
    else:
        with pytest.raises(ValueError, match="no edge"):
            here.moved(target, at=NOON, by="checkout")


def test_final_states_absorb() -> None:
    final = {state for state, targets in EDGES.items() if not targets}

    assert final == {"COMPLETED", "REJECTED", "PAYMENT_FAILED", "CANCELLED", "REFUNDED"}
    assert set(EDGES) == set(OrderState)
    assert final - {"COMPLETED", "REFUNDED"} <= ANSWERING


def test_where_a_state_comes_from_is_the_table_read_backwards() -> None:
    assert sources_of(OrderState.PAID) == {OrderState.AUTHORIZED}
    assert sources_of(OrderState.REFUNDED) == {OrderState.PAID}
    assert all((s in sources_of(t)) == (t in EDGES[s]) for s in OrderState for t in OrderState)


def test_an_invoice_number_is_the_orders_own_and_names_the_year_of_payment() -> None:
    paid_at = datetime(2031, 12, 31, 23, 59, tzinfo=UTC)
    number = invoice_number("0198c0de-1111-7222-8333-444455556666", paid_at)

    assert number == "INV-2031-0198C0DE111172228333444455556666"
    assert len(number) <= 64


def test_an_order_gets_its_invoice_number_when_it_is_paid_and_keeps_it() -> None:
    authorized = order(state=OrderState.AUTHORIZED)
    paid = authorized.moved(OrderState.PAID, at=NOON, by="checkout")
    sent = paid.moved(OrderState.IN_TRANSIT, at=NOON.replace(year=2027), by="checkout")

    assert authorized.invoice_number == ""
    assert paid.invoice_number == sent.invoice_number == invoice_number(paid.order_id, NOON)
