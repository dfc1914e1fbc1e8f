"""The rules without a database: what a request may be, and every state against every request."""

import itertools
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from inventory_service.domain.book import Book
from inventory_service.domain.reservation import (
    EDGES,
    Commit,
    Extend,
    Failed,
    Line,
    Release,
    Request,
    Reservation,
    Reserve,
    State,
)
from inventory_service.domain.stock import Shelf
from mesh.errors import Failure
from mesh.paging import decode_token, encode_token
from mesh.validate import Violations
from tests.inventory_service.build import commit, release, reserve

NOW = datetime(2026, 1, 1, tzinfo=UTC)
EXTEND = Extend(reservation_id="r1", ttl_s=60)


def standing(state: State, *, expire_time: datetime = NOW + timedelta(seconds=1)) -> Reservation:
    available = 1 if state is State.REFUSED else None
    return Reservation(
        reservation_id="r1",
        state=state,
        lines=(Line("mug", 2, available),),
        expire_time=expire_time,
        create_time=NOW,
        epoch=0,
    )


def book(*reservations: Reservation, on_hand: int = 5) -> Book:
    held = sum(line.quantity for each in reservations if each.state is State.HELD for line in each.lines)
    known = {reservation.reservation_id: reservation for reservation in reservations}
    return Book(now=NOW, reservations=known, shelves={"mug": Shelf(on_hand, held)})


# What each request makes of a reservation in each state: the new state, or why not.
TABLE: dict[State, tuple[str, str, str, str, str]] = {
    #                 reserve again           commit                   release      release of a sale  extend
    State.HELD: ("HELD", "COMMITTED", "RELEASED", "RELEASED", "HELD"),
    State.COMMITTED: ("COMMITTED", "COMMITTED", "RESERVATION_COMMITTED", "RETURNED", "RESERVATION_COMMITTED"),
    State.RELEASED: ("RESERVATION_RELEASED", "RESERVATION_RELEASED", "RELEASED", "RELEASED", "RESERVATION_RELEASED"),
    State.EXPIRED: ("RESERVATION_EXPIRED", "RESERVATION_EXPIRED", "EXPIRED", "EXPIRED", "RESERVATION_EXPIRED"),
    State.REFUSED: ("OUT_OF_STOCK", "RESERVATION_REFUSED", "REFUSED", "REFUSED", "RESERVATION_REFUSED"),
    State.RETURNED: ("RESERVATION_RETURNED", "RESERVATION_RETURNED", "RETURNED", "RETURNED", "RESERVATION_RETURNED"),
}
REQUESTS: tuple[Request, ...] = (
    reserve("r1", ("mug", 2)),
    commit("r1"),
    release("r1"),
    release("r1", return_committed=True),
    EXTEND,
)


@pytest.mark.parametrize(("state", "column"), list(itertools.product(State, range(5))))
def test_every_state_against_every_request(state: State, column: int) -> None:
    opened = book(standing(state))

    outcome = opened.apply(REQUESTS[column])

    told = outcome.failure.reason if isinstance(outcome, Failed) else str(outcome.state)
    assert told == TABLE[state][column]
    after = opened.reservations["r1"].state
    assert after is state or after in EDGES[state]
    assert str(after) == told or (isinstance(outcome, Failed) and after is state)
    if after is state:
        assert not any(opened.held.values())
        assert not opened.movements


@pytest.mark.parametrize("request_", REQUESTS, ids=lambda request: type(request).__name__)
def test_a_hold_whose_time_is_over_is_given_back_by_whoever_meets_it(request_: Request) -> None:
    opened = book(standing(State.HELD, expire_time=NOW))

    outcome = opened.apply(request_)

    if isinstance(request_, Release):
        assert isinstance(outcome, Reservation)
        assert outcome.state is State.RELEASED
    else:
        assert isinstance(outcome, Failed)
        assert outcome.failure.reason == "RESERVATION_EXPIRED"
        assert opened.reservations["r1"].state is State.EXPIRED
    assert opened.held == {"mug": -2}
    assert not opened.movements


def test_a_hold_lasts_up_to_its_last_moment() -> None:
    opened = book(standing(State.HELD, expire_time=NOW + timedelta(microseconds=1)))

    assert isinstance(opened.apply(commit("r1")), Reservation)


def test_a_return_undoes_its_sale_row_by_row() -> None:
    opened = book(standing(State.HELD))

    opened.apply(commit("r1"))
    opened.apply(release("r1", return_committed=True))

    assert [(row.delta, row.reason) for row in opened.movements] == [(-2, "sale"), (2, "return")]
    assert len({row.movement_id for row in opened.movements}) == 2
    assert (opened.on_hand["mug"], opened.held["mug"]) == (0, -2)


@pytest.mark.parametrize("state", State)
def test_no_edge_leads_where_it_must_not(state: State) -> None:
    for target in set(State) - EDGES[state]:
        with pytest.raises(ValueError, match=str(target)):
            standing(state).become(target)


@pytest.mark.survives("bad-quantities", "too-many-lines")
@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"reservation_id": "", "lines": (), "ttl_s": -1, "epoch": -1}, ["reservation_id", "epoch", "ttl_s", "lines"]),
        ({"lines": (Line("mug", 0), Line("a b", 1), Line("", -1))}, ["lines[0].quantity", "lines[1].sku"]),
        ({"lines": (Line("mug", 10_001),)}, ["lines[0].quantity"]),
        ({"lines": (Line("mug", 2**31 - 1),)}, ["lines[0].quantity"]),
        ({"lines": (Line("mug", 1),) * 10_000}, ["lines"]),
        ({"ttl_s": 86_401}, ["ttl_s"]),
        ({"epoch": 2**63}, ["epoch"]),
        ({"reservation_id": "é" * 3}, ["reservation_id"]),
        ({"reservation_id": "r1\n"}, ["reservation_id"]),
    ],
)
def test_an_unlawful_reserve_names_every_field(fields: dict[str, Any], named: list[str]) -> None:
    lawful: dict[str, Any] = {"reservation_id": "r1", "lines": (Line("mug", 1),)}

    with pytest.raises(Failure) as caught:
        Reserve(**(lawful | fields))

    assert [field.field for field in caught.value.fields][: len(named)] == named


def test_other_requests_name_their_fields_too() -> None:
    for make in (
        lambda: Commit(reservation_id="?", actor="", epoch=-1),
        lambda: Release(reservation_id="?", actor="", epoch=-1),
        lambda: Extend(reservation_id="?", ttl_s=1, epoch=-1),
    ):
        with pytest.raises(Failure) as caught:
            make()
        assert [field.field for field in caught.value.fields] == ["reservation_id", "epoch"]
    with pytest.raises(Failure):
        Extend(reservation_id="r1", ttl_s=0)


def test_a_token_gives_back_its_key_and_nothing_else_does() -> None:
    token = encode_token("list", ["ключ", "b"])

    for text, listing, expected in [
        (token, "list", ["ключ", "b"]),
        ("", "list", None),
        (token, "other list", None),
        (token[1:], "list", None),
        ("W1tbW1tb", "list", None),
        ("Ww" * 1500, "list", None),
        ("e30", "list", None),
        ("WzFd", "list", None),
    ]:
        assert decode_token(Violations(), text, listing, list) == expected
