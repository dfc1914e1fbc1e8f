"""Money that the provider over HTTP should not have, or gives back: amounts not ours, strays, refusals, refunds."""

import logging

import pytest

from checkout_service.payments.http_provider import HttpPaymentProvider
from checkout_service.payments.provider import PaymentResult, PaymentStatus
from tests.checkout_service.payments.conftest import statuses, wish
from tests.support.psp import FOR_EVER, HostilePsp
from tests.support.psp_calls import Runs, Trick

S = PaymentStatus


@pytest.fixture(scope="session")
def backend() -> str:
    """What is shown here is not about databases; see the contract for both."""
    return "sqlite"


@pytest.mark.survives("wrong-amount")
@pytest.mark.parametrize("call", ["create", "confirm"])
async def test_an_amount_that_is_not_ours_is_never_a_success(
    psp: HostilePsp, remote: HttpPaymentProvider, call: str, caplog: pytest.LogCaptureFixture
) -> None:
    psp.play(Trick(on=call, amount=2964))

    assert (await remote.authorize(wish())).status is S.UNKNOWN

    assert [record.levelno for record in caplog.records if "not known" in record.message] == [logging.ERROR]
    assert (await remote.look_up("o-1")).status is not S.AUTHORIZED
    assert (await remote.cancel("o-1")).status is S.CANCELLED


@pytest.mark.survives("wrong-amount")
async def test_a_capture_of_another_amount_is_never_a_success_and_goes_back_whole(
    psp: HostilePsp, remote: HttpPaymentProvider
) -> None:
    payment_id = (await remote.authorize(wish())).payment_id
    psp.book.capture(payment_id, 100)

    assert (await remote.capture("o-1")).status is S.UNKNOWN
    assert (await remote.look_up("o-1")).status is S.UNKNOWN
    assert (await remote.cancel("o-1")).status is S.CAPTURED
    assert (await remote.refund("o-1")).status is S.REFUNDED
    assert psp.book.money("o-1") == (100, 100)


@pytest.mark.survives("second-payment")
async def test_a_second_authorization_under_the_key_is_voided_and_told(
    psp: HostilePsp, remote: HttpPaymentProvider
) -> None:
    psp.play(Trick(on="confirm", runs=Runs.TWICE))
    ours = (await remote.authorize(wish())).payment_id
    [_, stray] = psp.book.of_order("o-1")
    await remote.capture("o-1")

    undone = await remote.void_others("o-1", keep=ours)

    assert undone == [PaymentResult(S.CANCELLED, stray.intent_id)]
    assert psp.book.money("o-1") == (2963, 0)
    # Told again, since whoever asked first may not have lived to write it down.
    assert await remote.void_others("o-1", keep=ours) == undone


@pytest.mark.survives("second-payment")
async def test_a_second_charge_under_the_key_is_refunded_and_told(psp: HostilePsp, remote: HttpPaymentProvider) -> None:
    ours = (await remote.authorize(wish())).payment_id
    psp.play(Trick(on="capture", runs=Runs.TWICE))
    assert (await remote.capture("o-1")).status is S.CAPTURED
    assert psp.book.money("o-1") == (2 * 2963, 0)

    undone = await remote.void_others("o-1", keep=ours)

    assert undone is not None
    assert [result.status for result in undone] == [S.REFUNDED]
    assert psp.book.money("o-1") == (2 * 2963, 2963)
    assert (await remote.look_up("o-1")).status is S.CAPTURED


async def test_strays_that_could_not_be_undone_are_asked_for_again(
    psp: HostilePsp, remote: HttpPaymentProvider
) -> None:
    psp.play(Trick(on="confirm", runs=Runs.TWICE))
    await remote.authorize(wish())
    psp.play(Trick(on="cancel"), Trick(on="cancel", runs=Runs.NOT, answer=503))

    assert await remote.void_others("o-1", keep="") is None

    undone = await remote.void_others("o-1", keep="")
    assert undone is not None
    assert {result.status for result in undone} == {S.CANCELLED}
    assert statuses(psp) == ["canceled", "canceled"]


async def test_a_refused_refund_of_a_stray_is_told(psp: HostilePsp, remote: HttpPaymentProvider) -> None:
    payment_id = (await remote.authorize(wish(token="tok_refund_decline"))).payment_id
    await remote.capture("o-1")

    assert await remote.void_others("o-1", keep="") == [PaymentResult(S.REFUND_REFUSED, payment_id)]


async def test_a_capture_that_is_refused_without_a_reason_is_not_given_up(
    psp: HostilePsp, remote: HttpPaymentProvider
) -> None:
    await remote.authorize(wish())
    psp.play(Trick(on="capture", runs=Runs.NOT, answer=400, code="parameter_unknown"))

    assert (await remote.capture("o-1")).status is S.UNKNOWN
    assert (await remote.capture("o-1")).status is S.CAPTURED


@pytest.mark.parametrize(("answer", "code"), [(402, "card_declined"), (400, "charge_expired_for_capture")])
async def test_a_capture_that_is_refused_for_good_is_refused(
    psp: HostilePsp, remote: HttpPaymentProvider, answer: int, code: str
) -> None:
    await remote.authorize(wish())
    psp.play(Trick(on="capture", runs=Runs.NOT, answer=answer, code=code, times=FOR_EVER))

    assert (await remote.capture("o-1")).status is S.CAPTURE_REFUSED
    assert (await remote.cancel("o-1")).status is S.CANCELLED


async def test_a_pending_refund_is_unknown_until_it_is_paid_out(psp: HostilePsp, remote: HttpPaymentProvider) -> None:
    payment_id = (await remote.authorize(wish())).payment_id
    await remote.capture("o-1")
    psp.play(Trick(on="refund", refund_status="pending"))

    assert [(await remote.refund("o-1")).status for _ in range(3)] == [S.UNKNOWN] * 3
    psp.book.end_refunds(payment_id, "succeeded")

    assert (await remote.refund("o-1")).status is S.REFUNDED
    assert psp.asked("refund", "o-1") == 1


async def test_a_refund_that_fails_later_is_made_anew(psp: HostilePsp, remote: HttpPaymentProvider) -> None:
    payment_id = (await remote.authorize(wish())).payment_id
    await remote.capture("o-1")
    psp.play(Trick(on="refund", refund_status="pending"))
    await remote.refund("o-1")
    psp.book.end_refunds(payment_id, "failed")

    assert (await remote.refund("o-1")).status is S.REFUNDED
    assert psp.book.money("o-1") == (2963, 2963)
