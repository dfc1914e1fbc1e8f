"""The payment simulator over its book: what checkout relies on in any provider, and how its tokens misbehave."""

import asyncio
import json
from collections.abc import AsyncIterator

import pytest

from checkout_service.payments.provider import Authorization, PaymentStatus
from checkout_service.payments.simulator import PaymentSimulator
from checkout_service.payments.tables import payments
from mesh.clock import SYSTEM_CLOCK
from mesh.db import Database
from mesh.errors import unavailable
from tests.checkout_service.records import Forgetful, nothing, rows

S = PaymentStatus
# What the first authorization of each token answers, and what the book says then. Of tok_slow see test_payments.
TOKENS = {
    "tok_ok": (S.AUTHORIZED, S.AUTHORIZED),
    "tok_decline": (S.DECLINED, S.DECLINED),
    "tok_timeout": (S.UNKNOWN, S.NOT_FOUND),
    "tok_timeout_charged": (S.UNKNOWN, S.AUTHORIZED),
    "tok_pending": (S.PENDING, S.PENDING),
    "tok_webhook_twice": (S.AUTHORIZED, S.AUTHORIZED),
    "tok_capture_decline": (S.AUTHORIZED, S.AUTHORIZED),
    "tok_of_another_shop": (S.DECLINED, S.DECLINED),
}


class Sink:
    """Takes webhooks; refuses the first few if told so."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = []
        self.refuses = 0
        self.came = asyncio.Event()

    async def __call__(self, body: bytes) -> None:
        if self.refuses:
            self.refuses -= 1
            raise unavailable("AWAY", "Away.")
        self.bodies.append(body)
        if len(self.bodies) == 2:
            self.came.set()


@pytest.fixture
async def sink() -> Sink:
    return Sink()


@pytest.fixture
async def provider(book: Database, sink: Sink) -> AsyncIterator[PaymentSimulator]:
    simulator = PaymentSimulator(book, SYSTEM_CLOCK, sink)
    yield simulator
    await simulator.close()


def wish(key: str = "o-1", token: str = "tok_ok", amount_minor: int = 2963) -> Authorization:
    return Authorization(payment_key=key, token=token, amount_minor=amount_minor, currency_code="EUR")


async def test_every_token_answers_in_its_own_way(provider: PaymentSimulator) -> None:
    first = await asyncio.gather(*(provider.authorize(wish(token, token)) for token in TOKENS))
    found = await asyncio.gather(*(provider.look_up(token) for token in TOKENS))

    answers = zip(TOKENS, first, found, strict=True)
    assert {token: (one.status, other.status) for token, one, other in answers} == TOKENS


@pytest.mark.parametrize("token", ["tok_ok", "tok_decline", "tok_pending", "tok_capture_decline"])
async def test_a_repeated_authorization_is_the_same(provider: PaymentSimulator, book: Database, token: str) -> None:
    first = await provider.authorize(wish(token=token))
    # What a key stands for is decided once: neither token nor amount of a repetition counts.
    again = await provider.authorize(wish(token="tok_ok", amount_minor=1))

    assert again == first == await provider.look_up("o-1")
    assert first.payment_id.startswith("pay_")
    [row] = await rows(book, payments)
    assert (row["amount_minor"], row["currency_code"], row["captured_minor"]) == (2963, "EUR", 0)


async def test_two_hundred_authorizations_of_one_key_are_one(provider: PaymentSimulator, book: Database) -> None:
    other = PaymentSimulator(book, SYSTEM_CLOCK, Sink())

    results = await asyncio.gather(*(one.authorize(wish()) for _ in range(100) for one in (provider, other)))

    assert len(results) == 200
    assert len(set(results)) == 1
    assert len(await rows(book, payments)) == 1
    await other.close()


async def test_a_capture_takes_the_whole_amount_once(provider: PaymentSimulator, book: Database) -> None:
    authorized = await provider.authorize(wish())

    captured = await asyncio.gather(*(provider.capture("o-1") for _ in range(20)))

    assert {(result.status, result.payment_id) for result in captured} == {(S.CAPTURED, authorized.payment_id)}
    [row] = await rows(book, payments)
    assert (row["state"], row["captured_minor"], row["refunded_minor"]) == ("CAPTURED", 2963, 0)


async def test_what_is_captured_can_no_longer_be_cancelled(provider: PaymentSimulator, book: Database) -> None:
    await provider.authorize(wish())
    await provider.capture("o-1")

    assert (await provider.cancel("o-1")).status is S.CAPTURED
    assert [row["captured_minor"] for row in await rows(book, payments)] == [2963]


@pytest.mark.parametrize("token", ["tok_decline", "tok_capture_decline"])
async def test_a_capture_that_is_refused_takes_nothing(provider: PaymentSimulator, book: Database, token: str) -> None:
    await provider.authorize(wish(token=token))

    assert (await provider.capture("o-1")).status is S.CAPTURE_REFUSED
    assert (await provider.capture("o-1")).status is S.CAPTURE_REFUSED
    assert [row["captured_minor"] for row in await rows(book, payments)] == [0]


async def test_what_was_never_authorized_cannot_be_captured(provider: PaymentSimulator, book: Database) -> None:
    assert (await provider.capture("o-1")).status is S.CAPTURE_REFUSED
    assert await rows(book, payments) == []


@pytest.mark.parametrize("token", ["tok_ok", "tok_pending", "tok_capture_decline"])
async def test_a_cancelled_payment_is_never_captured(provider: PaymentSimulator, book: Database, token: str) -> None:
    await provider.authorize(wish(token=token))

    assert (await provider.cancel("o-1")).status is S.CANCELLED
    assert (await provider.capture("o-1")).status is S.CAPTURE_REFUSED
    assert [(row["state"], row["captured_minor"]) for row in await rows(book, payments)] == [("CANCELLED", 0)]


async def test_a_key_that_was_cancelled_first_can_never_be_authorized(provider: PaymentSimulator) -> None:
    assert (await provider.cancel("o-1")).status is S.CANCELLED

    assert (await provider.authorize(wish())).status is S.CANCELLED
    assert (await provider.authorize(wish())).status is S.CANCELLED
    assert (await provider.look_up("o-1")).status is S.CANCELLED


async def test_a_declined_payment_stays_declined_when_cancelled(provider: PaymentSimulator) -> None:
    await provider.authorize(wish(token="tok_decline"))

    assert (await provider.cancel("o-1")).status is S.DECLINED


async def test_capture_and_cancel_at_once_agree_on_one_end(provider: PaymentSimulator, book: Database) -> None:
    other = PaymentSimulator(book, SYSTEM_CLOCK, Sink())
    keys = [f"o-{number}" for number in range(30)]
    await asyncio.gather(*(provider.authorize(wish(key)) for key in keys))

    captures = asyncio.gather(*(provider.capture(key) for key in keys))
    cancels = asyncio.gather(*(other.cancel(key) for key in keys))
    ends = dict(zip(keys, zip(await captures, await cancels, strict=True), strict=True))

    for row in await rows(book, payments):
        capture, cancel = ends[row["payment_key"]]
        if row["state"] == "CAPTURED":
            assert (capture.status, cancel.status, row["captured_minor"]) == (S.CAPTURED, S.CAPTURED, 2963)
        else:
            assert (capture.status, cancel.status) == (S.CAPTURE_REFUSED, S.CANCELLED)
            assert (row["state"], row["captured_minor"]) == ("CANCELLED", 0)
    await other.close()


async def test_a_key_that_never_arrived_is_not_found(provider: PaymentSimulator) -> None:
    assert (await provider.look_up("o-1")).status is S.NOT_FOUND


@pytest.mark.survives("commit-cut")
async def test_a_write_whose_commit_went_unanswered_counts_once(book: Database) -> None:
    provider = PaymentSimulator(Forgetful(book, loses=3, meanwhile=nothing), SYSTEM_CLOCK, Sink())

    assert (await provider.authorize(wish())).status is S.AUTHORIZED
    assert (await provider.capture("o-1")).status is S.CAPTURED
    assert [row["captured_minor"] for row in await rows(book, payments)] == [2963]
    await provider.close()


async def test_the_webhook_comes_twice_although_its_receiver_was_away(provider: PaymentSimulator, sink: Sink) -> None:
    sink.refuses = 2

    result = await provider.authorize(wish(token="tok_webhook_twice"))
    await asyncio.wait_for(sink.came.wait(), 10)

    event = {
        "id": "evt_o-1",
        "type": "payment.succeeded",
        "order_id": "o-1",
        "payment_id": result.payment_id,
    }
    assert [json.loads(body) for body in sink.bodies] == [event, event]
