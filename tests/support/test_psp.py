"""The hostile provider itself: keys, a book that outlives its process, webhooks, and who may come in."""

import asyncio
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest

from checkout_service.webhooks import verify
from tests.support.psp import API_KEY, hostile_psp, signing_sender
from tests.support.psp_calls import Runs, Trick
from tests.support.psp_process import PspProcess
from tests.support.psp_wire import Reply, Request, WireServer

FORM = {"amount": "2963", "currency": "eur", "metadata[order_id]": "o-1"}


@pytest.fixture
def process(tmp_path: Path) -> Iterator[PspProcess]:
    with PspProcess(tmp_path / "psp") as process:
        yield process


def post(url: str, form: Mapping[str, str], *, key: str = "") -> httpx.Response:
    headers = {"Authorization": f"Bearer {API_KEY}", **({"Idempotency-Key": key} if key else {})}
    return httpx.post(f"{url}/v1/payment_intents", data=form, headers=headers)


def test_a_key_is_one_intent_until_it_is_forgotten(process: PspProcess) -> None:
    first = post(process.url, FORM, key="k-1").json()

    assert post(process.url, FORM, key="k-1").json() == first
    refused = post(process.url, {**FORM, "amount": "1"}, key="k-1")
    assert (refused.status_code, refused.json()["error"]["code"]) == (400, "idempotency_error")
    assert post(process.url, FORM, key="k-2").json()["id"] != first["id"]

    process.door("forget")
    assert post(process.url, FORM, key="k-1").json()["id"] != first["id"]


def test_the_book_and_the_keys_outlive_a_kill(process: PspProcess) -> None:
    intent = post(process.url, FORM, key="k-1").json()
    process.play(Trick(on="confirm", runs=Runs.ONCE, answer=500))
    assert post_to(process.url, intent["id"], "confirm", payment_method="tok_ok").status_code == 500

    process.kill()
    process.start()

    assert post(process.url, FORM, key="k-1").json() == intent
    assert post_to(process.url, intent["id"], "capture", amount_to_capture="2963").json()["amount_received"] == 2963
    assert process.book().money("o-1") == (2963, 0)
    assert process.door("requests") == [["create", "o-1"], ["capture", "o-1"]]


def test_a_stranger_is_not_let_in(process: PspProcess) -> None:
    assert httpx.post(f"{process.url}/v1/payment_intents", data=FORM).status_code == 401
    assert process.book().of_order("o-1") == []


async def test_webhooks_are_signed_and_come_again_until_they_are_taken(tmp_path: Path) -> None:
    taken: list[Request] = []

    async def take(request: Request) -> Reply:
        taken.append(request)
        return Reply(503 if len(taken) == 1 else 200)

    shop = WireServer(take)
    await shop.start()
    sender = signing_sender(f"http://127.0.0.1:{shop.port}/v1/webhooks/payments", "secret")
    async with hostile_psp(tmp_path, sender) as psp:
        await asyncio.wait_for(psp.tell(psp.book.create("o-1", 2963, "eur"), "failed"), 10)
    await shop.stop()

    assert len(taken) == 2
    body: dict[str, Any] = dict(taken[1].fields)
    assert (body["type"], body["order_id"]) == ("payment.failed", "o-1")
    header = taken[1].headers["shop-signature"]
    verify(json.dumps(body).encode(), header, ["secret"], now=int(header.split(",")[0].removeprefix("t=")))


def post_to(url: str, intent_id: str, call: str, **form: str) -> httpx.Response:
    return httpx.post(
        f"{url}/v1/payment_intents/{intent_id}/{call}", data=form, headers={"Authorization": f"Bearer {API_KEY}"}
    )
