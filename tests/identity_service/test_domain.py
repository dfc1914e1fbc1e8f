import secrets
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from identity_service.domain import Family, RefreshToken, Verdict, is_email, judge, normal_email

NOW = datetime(2026, 1, 1, tzinfo=UTC)
FIRST = RefreshToken.draw(secrets.token_bytes)
SECOND = FIRST.successor(secrets.token_bytes)
THIRD = FIRST.successor(secrets.token_bytes)


def family(
    current: RefreshToken, *, expire_time: datetime = NOW + timedelta(seconds=1), revoked: bool = False
) -> Family:
    return Family(customer_id="c", token_hash=current.token_hash, expire_time=expire_time, revoked=revoked)


@pytest.mark.parametrize(
    "address",
    ["a@b.example", "first.last+tag@sub.example.org", "o'hara@shop.test", "x@1-2.io", f"{'l' * 64}@example.org"],
)
def test_ordinary_addresses_are_accepted(address: str) -> None:
    assert is_email(address)


@pytest.mark.parametrize(
    "address",
    [
        "",
        "@",
        "a",
        "a@b",
        "@b.example",
        "a@",
        "a@@b.example",
        "a b@c.example",
        "a@b..example",
        "a@-b.example",
        "a@b-.example",
        "a@b.example\n",
        "ä@b.example",
        "K@b.example",  # the Kelvin sign, which case folding would turn into a k
        '"a b"@c.example',
        f"{'l' * 65}@example.org",
        f"a@{'d' * 63}.{'d' * 63}.{'d' * 63}.{'d' * 63}.example",
    ],
)
def test_what_is_no_address_is_refused(address: str) -> None:
    assert not is_email(address)


def test_addresses_are_compared_without_regard_to_case() -> None:
    assert normal_email("Ann@Shop.TEST") == "ann@shop.test"


def test_a_refresh_token_survives_its_text() -> None:
    assert RefreshToken.parse(FIRST.text()) == FIRST


@given(st.text())
def test_a_text_that_no_token_spells_parses_to_none(text: str) -> None:
    token = RefreshToken.parse(text)

    assert token is None or token.text() == text


def test_a_successor_keeps_the_family_and_changes_the_secret() -> None:
    assert FIRST.family_hash == SECOND.family_hash
    assert FIRST.token_hash != SECOND.token_hash


def test_neither_part_of_a_token_shows_in_its_repr() -> None:
    assert FIRST.family not in repr(FIRST)
    assert FIRST.secret not in repr(FIRST)


def test_the_current_token_is_rotated() -> None:
    assert judge(family(FIRST), FIRST, SECOND, now=NOW) is Verdict.ROTATE


def test_a_transaction_that_runs_again_finds_its_own_successor() -> None:
    assert judge(family(SECOND), FIRST, SECOND, now=NOW) is Verdict.ROTATED


def test_a_spent_token_counts_as_reused() -> None:
    assert judge(family(SECOND), FIRST, THIRD, now=NOW) is Verdict.REUSED


@pytest.mark.parametrize(
    "standing",
    [None, family(FIRST, revoked=True), family(FIRST, expire_time=NOW), family(SECOND, revoked=True)],
    ids=["unknown", "revoked", "expired", "spent and revoked"],
)
def test_tokens_without_a_living_family_are_refused(standing: Family | None) -> None:
    assert judge(standing, FIRST, THIRD, now=NOW) is Verdict.REFUSED
