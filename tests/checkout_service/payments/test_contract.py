"""What checkout relies on in any payment provider, shown of the simulator and of the one over HTTP."""

import asyncio

import pytest

from checkout_service.payments.provider import PaymentProvider, PaymentStatus
from tests.checkout_service.payments.conftest import Provided, wish

S = PaymentStatus
DECLINED = ["tok_decline", "tok_of_another_shop"]


async def authorized(provider: PaymentProvider, token: str = "tok_ok", key: str = "o-1") -> str:
    result = await provider.authorize(wish(key, token))
    assert result.status is S.AUTHORIZED
    assert result.payment_id
    return result.payment_id


@pytest.mark.parametrize("token", ["tok_ok", "tok_pending", "tok_capture_decline", *DECLINED])
async def test_a_repeated_authorization_is_the_same(provided: Provided, token: str) -> None:
    first = await provided.provider.authorize(wish(token=token))
    # What a key stands for is decided once: neither the token nor the amount of a repetition counts.
    again = await provided.replica.authorize(wish(token="tok_ok", amount_minor=1))

    assert again == first
    assert await provided.provider.look_up("o-1") == first
    assert await provided.money("o-1") == (0, 0)


async def test_authorizations_of_one_key_at_once_are_one(provided: Provided) -> None:
    both = (provided.provider, provided.replica)

    results = await asyncio.gather(*(one.authorize(wish()) for _ in range(20) for one in both))

    known = {result for result in results if result.status is not S.UNKNOWN}
    assert known == {await provided.provider.look_up("o-1")}
    assert (await provided.provider.capture("o-1")).status is S.CAPTURED
    assert await provided.money("o-1") == (2963, 0)


@pytest.mark.parametrize("token", DECLINED)
async def test_a_declined_payment_can_be_neither_captured_nor_paid_later(provided: Provided, token: str) -> None:
    assert (await provided.provider.authorize(wish(token=token))).status is S.DECLINED

    assert (await provided.provider.capture("o-1")).status is S.CAPTURE_REFUSED
    assert (await provided.provider.authorize(wish())).status is S.DECLINED
    assert (await provided.provider.cancel("o-1")).status is S.DECLINED
    assert await provided.money("o-1") == (0, 0)


async def test_a_lost_answer_is_unknown_and_found_by_its_key(provided: Provided) -> None:
    assert (await provided.provider.authorize(wish(token="tok_timeout_charged"))).status is S.UNKNOWN

    found = await provided.provider.look_up("o-1")
    assert found.status is S.AUTHORIZED
    assert await provided.provider.capture("o-1") == type(found)(S.CAPTURED, found.payment_id)
    assert await provided.money("o-1") == (2963, 0)


async def test_what_was_never_executed_is_unknown_and_then_not_found(provided: Provided) -> None:
    assert (await provided.provider.authorize(wish(token="tok_timeout"))).status is S.UNKNOWN

    assert (await provided.provider.look_up("o-1")).status is S.NOT_FOUND


async def test_a_key_that_never_arrived_is_not_found_and_cannot_be_captured(provided: Provided) -> None:
    assert (await provided.provider.look_up("o-1")).status is S.NOT_FOUND
    assert (await provided.provider.capture("o-1")).status is S.CAPTURE_REFUSED


async def test_a_capture_takes_the_whole_amount_once(provided: Provided) -> None:
    payment_id = await authorized(provided.provider)

    both = (provided.provider, provided.replica)
    captured = await asyncio.gather(*(one.capture("o-1") for _ in range(10) for one in both))

    assert {(result.status, result.payment_id) for result in captured} == {(S.CAPTURED, payment_id)}
    assert (await provided.provider.look_up("o-1")).status is S.CAPTURED
    assert await provided.money("o-1") == (2963, 0)


async def test_a_refused_capture_is_refused_again_and_can_be_cancelled(provided: Provided) -> None:
    await authorized(provided.provider, "tok_capture_decline")

    assert (await provided.provider.capture("o-1")).status is S.CAPTURE_REFUSED
    assert (await provided.replica.capture("o-1")).status is S.CAPTURE_REFUSED
    assert (await provided.provider.cancel("o-1")).status is S.CANCELLED
    assert await provided.money("o-1") == (0, 0)


@pytest.mark.parametrize("token", ["tok_ok", "tok_pending"])
async def test_a_cancelled_payment_is_never_captured(provided: Provided, token: str) -> None:
    await provided.provider.authorize(wish(token=token))

    assert (await provided.provider.cancel("o-1")).status is S.CANCELLED
    assert (await provided.replica.cancel("o-1")).status is S.CANCELLED
    assert (await provided.provider.capture("o-1")).status is S.CAPTURE_REFUSED
    assert (await provided.provider.look_up("o-1")).status is S.CANCELLED
    assert await provided.money("o-1") == (0, 0)


async def test_a_key_that_was_cancelled_first_can_never_be_authorized(provided: Provided) -> None:
    assert (await provided.provider.cancel("o-1")).status is S.CANCELLED

    assert (await provided.replica.authorize(wish())).status is S.CANCELLED
    assert (await provided.provider.look_up("o-1")).status is S.CANCELLED
    assert (await provided.provider.capture("o-1")).status is S.CAPTURE_REFUSED


async def test_what_is_captured_can_no_longer_be_cancelled(provided: Provided) -> None:
    payment_id = await authorized(provided.provider)
    await provided.provider.capture("o-1")

    result = await provided.provider.cancel("o-1")

    assert (result.status, result.payment_id) == (S.CAPTURED, payment_id)
    assert await provided.money("o-1") == (2963, 0)


async def test_capture_and_cancel_at_once_agree_on_one_end(provided: Provided) -> None:
    keys = [f"o-{number}" for number in range(10)]
    await asyncio.gather(*(provided.provider.authorize(wish(key)) for key in keys))

    captures = asyncio.gather(*(provided.provider.capture(key) for key in keys))
    cancels = asyncio.gather(*(provided.replica.cancel(key) for key in keys))
    for key, capture, cancel in zip(keys, await captures, await cancels, strict=True):
        if await provided.money(key) == (2963, 0):
            assert (capture.status, cancel.status) == (S.CAPTURED, S.CAPTURED)
        else:
            assert (capture.status, cancel.status) == (S.CAPTURE_REFUSED, S.CANCELLED)


async def test_a_refund_gives_everything_back_once(provided: Provided) -> None:
    payment_id = await authorized(provided.provider)
    await provided.provider.capture("o-1")

    both = (provided.provider, provided.replica)
    refunds = await asyncio.gather(*(one.refund("o-1") for _ in range(10) for one in both))

    assert {(result.status, result.payment_id) for result in refunds} == {(S.REFUNDED, payment_id)}
    assert (await provided.provider.look_up("o-1")).status is S.REFUNDED
    assert (await provided.provider.cancel("o-1")).status is S.REFUNDED
    assert await provided.money("o-1") == (2963, 2963)


async def test_a_refund_of_what_was_not_captured_cancels_it(provided: Provided) -> None:
    await authorized(provided.provider)

    assert (await provided.provider.refund("o-1")).status is S.CANCELLED
    assert (await provided.provider.look_up("o-1")).status is S.CANCELLED
    assert await provided.money("o-1") == (0, 0)


async def test_a_refused_refund_is_told_and_nothing_moves(provided: Provided) -> None:
    await authorized(provided.provider, "tok_refund_decline")
    await provided.provider.capture("o-1")

    assert (await provided.provider.refund("o-1")).status is S.REFUND_REFUSED
    assert (await provided.provider.refund("o-1")).status is S.REFUND_REFUSED
    assert (await provided.provider.look_up("o-1")).status is S.CAPTURED
    assert await provided.money("o-1") == (2963, 0)


async def test_the_payment_that_is_kept_stays(provided: Provided) -> None:
    payment_id = await authorized(provided.provider)
    await provided.provider.capture("o-1")

    assert await provided.provider.void_others("o-1", keep=payment_id) in ([], ())
    assert await provided.money("o-1") == (2963, 0)


@pytest.mark.parametrize("captured", [False, True], ids=["authorized", "captured"])
async def test_a_payment_that_should_not_be_goes_back(provided: Provided, captured: bool) -> None:  # noqa: FBT001
    payment_id = await authorized(provided.provider)
    if captured:
        await provided.provider.capture("o-1")

    undone = await provided.provider.void_others("o-1", keep="")

    assert undone is not None
    expected = S.REFUNDED if captured else S.CANCELLED
    assert [(result.status, result.payment_id) for result in undone] == [(expected, payment_id)]
    assert await provided.money("o-1") == ((2963, 2963) if captured else (0, 0))


async def test_where_nothing_was_paid_there_is_nothing_to_void(provided: Provided) -> None:
    await provided.provider.authorize(wish("declined", "tok_decline"))
    await provided.provider.cancel("called-off")

    for key in ("never-came", "declined", "called-off"):
        assert await provided.provider.void_others(key, keep="") in ([], ())
