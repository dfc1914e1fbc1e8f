"""The provider over HTTP against one that loses, doubles, delays and refuses: money moves once, and never unseen."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from checkout_service.payments.http_provider import HttpPaymentProvider
from checkout_service.payments.intents import Intents, payment_intents
from checkout_service.payments.provider import PaymentResult, PaymentStatus
from checkout_service.payments.psp_client import PspClient
from mesh.db import Database
from mesh.failpoint import Failpoints
from tests.checkout_service.payments.conftest import http_provider, moved, statuses, wish
from tests.checkout_service.records import Forgetful, nothing, rows
from tests.support.psp import API_KEY, HostilePsp
from tests.support.psp_calls import Runs, Trick
from tests.support.psp_wire import Reply, Request, Silence, WireServer

S = PaymentStatus
# Everything that is no answer. Of a refused request nobody can say whether another before it was let in.
NO_ANSWERS = (Silence.NEVER, Silence.CUT, Silence.GARBAGE, Silence.DRIP, 500, 503, 429, 409, 401, 404)
NO_ANSWER = pytest.mark.parametrize("answer", NO_ANSWERS, ids=str)
EXECUTED = pytest.mark.parametrize("runs", [Runs.NOT, Runs.ONCE], ids=["not-executed", "executed"])


@pytest.fixture(scope="session")
def backend() -> str:
    """What is shown here is not about databases; see the contract for both."""
    return "sqlite"


@pytest.fixture
async def patient(psp: HostilePsp, database: Database) -> AsyncIterator[HttpPaymentProvider]:
    """One that waits longer for answers."""
    provider = http_provider(psp.url, database, timeout_s=30)
    yield provider
    await provider.close()


@pytest.mark.survives("payment-lost-but-made", "payment-lost-not-made")
@EXECUTED
@NO_ANSWER
@pytest.mark.parametrize("call", ["create", "confirm"])
async def test_an_authorization_without_an_answer_is_unknown_and_paid_once(
    psp: HostilePsp, remote: HttpPaymentProvider, call: str, answer: int | Silence, runs: Runs
) -> None:
    psp.play(Trick(on=call, runs=runs, answer=answer))

    assert await remote.authorize(wish()) == PaymentResult(S.UNKNOWN)

    found = await remote.look_up("o-1")
    assert found.status is (S.AUTHORIZED if (call, runs) == ("confirm", Runs.ONCE) else S.NOT_FOUND)
    assert (await remote.authorize(wish())).status is S.AUTHORIZED
    assert moved(psp) == [("AUTHORIZED", 2963)]
    assert statuses(psp) == ["requires_capture"]


@EXECUTED
@NO_ANSWER
async def test_a_capture_without_an_answer_is_unknown_and_made_once(
    psp: HostilePsp, remote: HttpPaymentProvider, answer: int | Silence, runs: Runs
) -> None:
    await remote.authorize(wish())
    psp.play(Trick(on="capture", runs=runs, answer=answer))

    assert (await remote.capture("o-1")).status is S.UNKNOWN

    assert (await remote.look_up("o-1")).status is (S.CAPTURED if runs is Runs.ONCE else S.AUTHORIZED)
    assert (await remote.capture("o-1")).status is S.CAPTURED
    assert moved(psp) == [("AUTHORIZED", 2963), ("CAPTURED", 2963)]


@EXECUTED
@NO_ANSWER
async def test_a_void_without_an_answer_is_unknown_and_then_cancelled(
    psp: HostilePsp, remote: HttpPaymentProvider, answer: int | Silence, runs: Runs
) -> None:
    await remote.authorize(wish())
    psp.play(Trick(on="cancel", runs=runs, answer=answer))

    assert (await remote.cancel("o-1")).status is S.UNKNOWN

    assert (await remote.cancel("o-1")).status is S.CANCELLED
    assert moved(psp) == [("AUTHORIZED", 2963), ("VOIDED", 2963)]


@EXECUTED
@NO_ANSWER
async def test_a_refund_without_an_answer_is_unknown_and_made_once(
    psp: HostilePsp, remote: HttpPaymentProvider, answer: int | Silence, runs: Runs
) -> None:
    await remote.authorize(wish())
    await remote.capture("o-1")
    psp.play(Trick(on="refund", runs=runs, answer=answer))

    assert (await remote.refund("o-1")).status is S.UNKNOWN

    assert (await remote.refund("o-1")).status is S.REFUNDED
    assert psp.book.money("o-1") == (2963, 2963)


@pytest.mark.survives("look-up-down")
@NO_ANSWER
async def test_a_look_up_without_an_answer_is_unknown(
    psp: HostilePsp, remote: HttpPaymentProvider, answer: int | Silence
) -> None:
    await remote.authorize(wish())
    psp.play(Trick(on="read", answer=answer), Trick(on="search", answer=answer))

    assert (await remote.look_up("o-1")).status is S.UNKNOWN
    assert await remote.void_others("o-1", keep="") is None
    assert (await remote.look_up("o-1")).status is S.AUTHORIZED


async def test_a_provider_that_is_gone_is_unknown(psp: HostilePsp, remote: HttpPaymentProvider) -> None:
    await remote.authorize(wish())
    await psp.stop()

    calls: list[Callable[[str], Awaitable[PaymentResult]]] = [
        remote.look_up,
        remote.capture,
        remote.cancel,
        remote.refund,
    ]
    assert {(await call("o-1")).status for call in calls} == {S.UNKNOWN}
    assert (await remote.authorize(wish("o-2"))).status is S.UNKNOWN


@pytest.mark.survives("provider-forgets-keys")
async def test_a_create_whose_key_the_provider_forgot_charges_once(
    psp: HostilePsp, remote: HttpPaymentProvider
) -> None:
    psp.play(Trick(on="create", answer=Silence.CUT))
    assert (await remote.authorize(wish())).status is S.UNKNOWN
    psp.book.forget_answers()

    authorized = await remote.authorize(wish())

    assert statuses(psp) == ["requires_payment_method", "requires_capture"]
    assert moved(psp) == [("AUTHORIZED", 2963)]
    # The one that was never paid goes without a word: no money was in it.
    assert await remote.void_others("o-1", keep=authorized.payment_id) == []
    assert statuses(psp) == ["canceled", "requires_capture"]


async def test_a_coordinator_whose_intent_came_second_pays_the_first(
    psp: HostilePsp, patient: HttpPaymentProvider, remote: HttpPaymentProvider
) -> None:
    # Both make an intent of their own: the provider forgets the key in between.
    psp.play(Trick(on="create", waits=True))
    slow = asyncio.create_task(patient.authorize(wish()))
    await psp.until_asked("create", "o-1")
    fast = await remote.authorize(wish())
    psp.book.forget_answers()
    psp.release()

    assert await slow == fast
    assert sorted(statuses(psp)) == ["requires_capture", "requires_payment_method"]
    assert moved(psp) == [("AUTHORIZED", 2963)]


async def test_a_cancel_during_the_create_bars_the_payment(
    psp: HostilePsp, patient: HttpPaymentProvider, remote: HttpPaymentProvider
) -> None:
    psp.play(Trick(on="create", waits=True))
    paying = asyncio.create_task(patient.authorize(wish()))
    await psp.until_asked("create", "o-1")

    assert (await remote.cancel("o-1")).status is S.CANCELLED
    psp.release()

    assert (await paying).status is S.CANCELLED
    assert (psp.asked("confirm", "o-1"), moved(psp)) == (0, [])


async def test_a_key_that_never_arrived_is_refunded_by_barring_it(psp: HostilePsp, remote: HttpPaymentProvider) -> None:
    assert (await remote.refund("o-1")).status is S.CANCELLED

    assert (await remote.authorize(wish())).status is S.CANCELLED
    assert psp.requests == []


async def test_a_confirmation_that_arrives_after_the_void_pays_nothing(
    psp: HostilePsp, remote: HttpPaymentProvider
) -> None:
    psp.play(Trick(on="confirm", runs=Runs.LATER, answer=Silence.CUT))
    assert (await remote.authorize(wish())).status is S.UNKNOWN
    assert (await remote.cancel("o-1")).status is S.CANCELLED

    psp.release()

    assert (await remote.look_up("o-1")).status is S.CANCELLED
    assert moved(psp) == []


async def test_a_confirmation_that_arrives_after_the_decline_pays_nothing(
    psp: HostilePsp, remote: HttpPaymentProvider
) -> None:
    psp.play(Trick(on="confirm", runs=Runs.LATER, answer=Silence.CUT))
    assert (await remote.authorize(wish())).status is S.UNKNOWN
    psp.play(Trick(on="confirm", runs=Runs.NOT, answer=402))
    assert (await remote.authorize(wish())).status is S.DECLINED

    psp.release()

    assert (await remote.look_up("o-1")).status is S.DECLINED
    assert moved(psp) == []


@pytest.mark.survives("payment-lost-not-made")
async def test_a_decline_after_the_time_out_is_found(psp: HostilePsp, remote: HttpPaymentProvider) -> None:
    psp.play(Trick(on="confirm", runs=Runs.LATER, answer=Silence.NEVER))
    assert (await remote.authorize(wish(token="tok_decline"))).status is S.UNKNOWN
    assert (await remote.look_up("o-1")).status is S.NOT_FOUND

    psp.release()

    assert (await remote.look_up("o-1")).status is S.DECLINED
    # Nothing can be paid on it any more: the decline is final.
    assert statuses(psp) == ["canceled"]


async def test_a_decline_that_cannot_be_made_final_is_not_believed_yet(
    psp: HostilePsp, remote: HttpPaymentProvider
) -> None:
    psp.play(Trick(on="cancel", runs=Runs.NOT, answer=503, times=2))

    assert (await remote.authorize(wish(token="tok_decline"))).status is S.UNKNOWN
    assert (await remote.look_up("o-1")).status is S.UNKNOWN
    assert (await remote.look_up("o-1")).status is S.DECLINED


async def test_a_pending_payment_is_captured_once_the_customer_paid(
    psp: HostilePsp, remote: HttpPaymentProvider
) -> None:
    pending = await remote.authorize(wish(token="tok_pending"))
    assert pending.status is S.PENDING
    assert (await remote.capture("o-1")).status is S.UNKNOWN

    psp.book.pay(pending.payment_id)

    assert (await remote.look_up("o-1")).status is S.AUTHORIZED
    assert (await remote.capture("o-1")).status is S.CAPTURED


async def test_an_intent_is_written_down_although_its_commit_went_unanswered(
    psp: HostilePsp, database: Database
) -> None:
    provider = http_provider(psp.url, Forgetful(database, loses=2, meanwhile=nothing))

    authorized = await provider.authorize(wish())

    [row] = await rows(database, payment_intents)
    assert (row["payment_key"], row["intent_id"]) == ("o-1", authorized.payment_id)
    assert (row["amount_minor"], row["currency_code"]) == (2963, "EUR")
    await provider.close()


@pytest.mark.parametrize("mode", ["error", "time_out", "duplicate"])
@pytest.mark.parametrize("call", ["create", "confirm", "capture", "cancel", "refund", "read", "search"])
async def test_every_request_has_a_failpoint(psp: HostilePsp, database: Database, call: str, mode: str) -> None:
    failpoints = Failpoints(f"psp.{call}={mode}")
    provider = HttpPaymentProvider(PspClient(psp.url, API_KEY, failpoints=failpoints), Intents(database))
    for key in ("o-1", "o-2"):
        # Each is made twice: the failpoint strikes at most once.
        for _ in range(2):
            await provider.authorize(wish(key))
        for _ in range(2):
            await (provider.capture if key == "o-1" else provider.cancel)(key)
    for _ in range(2):
        await provider.refund("o-1")
    answers = [await provider.void_others("o-1", keep="") for _ in range(2)]

    assert answers == [None if call == "search" and mode != "duplicate" else [], []]
    assert psp.book.money("o-1") == (2963, 2963)
    assert moved(psp, "o-2") == [("AUTHORIZED", 2963), ("VOIDED", 2963)]
    await provider.close()


INTENT = {"id": "pi_1", "status": "requires_payment_method", "amount": 2963, "currency": "eur"}


@pytest.mark.parametrize(
    "body",
    [
        [],
        {},
        {**INTENT, "id": "../refunds"},
        {**INTENT, "id": 7},
        {**INTENT, "status": "a_new_word"},
        {**INTENT, "amount": "2963"},
        {**INTENT, "amount": 2963.0},
        {**INTENT, "latest_charge": "ch_1"},
        {**INTENT, "latest_charge": {"refunds": {"data": [{"amount": 1}]}}},
    ],
    ids=str,
)
async def test_an_answer_that_cannot_be_read_is_unknown(database: Database, body: object) -> None:
    async def answer(_: Request) -> Reply:
        return Reply(200, body)

    server = WireServer(answer)
    await server.start()
    provider = http_provider(f"http://127.0.0.1:{server.port}", database)

    assert await provider.authorize(wish()) == PaymentResult(S.UNKNOWN)
    assert await rows(database, payment_intents) == []
    await provider.close()
    await server.stop()


async def test_an_answer_about_another_intent_is_unknown(database: Database) -> None:
    async def answer(request: Request) -> Reply:
        another = {**INTENT, "id": "pi_2", "status": "requires_capture"}
        return Reply(200, INTENT if request.path.endswith("payment_intents") else another)

    server = WireServer(answer)
    await server.start()
    provider = http_provider(f"http://127.0.0.1:{server.port}", database)

    assert (await provider.authorize(wish())).status is S.UNKNOWN
    await provider.close()
    await server.stop()
