"""Answers, and requests, of many messages."""

import asyncio
import json
import time
from typing import Any

import grpc
import httpx
import pytest

from gateway.streams import LINES, AnswerStream
from tests.gateway.probe import ProbeServer, reason_of, violated

pytestmark = pytest.mark.asyncio(loop_scope="module")

NDJSON = {"accept": "application/x-ndjson"}
SSE = {"accept": "text/event-stream"}
NOT_FOUND = grpc.StatusCode.NOT_FOUND.value[0]


def numbers(messages: list[Any]) -> list[int]:
    return [message["number"] for message in messages]


async def test_who_does_not_mind_gets_an_array(client: httpx.AsyncClient) -> None:
    response = await client.get("/v1/watch", params={"count": 3})

    assert response.headers["content-type"] == "application/json"
    assert numbers(response.json()) == [0, 1, 2]
    assert (await client.get("/v1/watch")).json() == []


@pytest.mark.parametrize(
    "accept",
    [
        "application/x-ndjson",
        "application/jsonl",
        "text/html, application/x-ndjson;q=0.1",
        "application/json;q=0, */*",
    ],
)
async def test_ndjson_has_a_line_for_each_message(client: httpx.AsyncClient, accept: str) -> None:
    response = await client.get("/v1/watch", params={"count": 3}, headers={"accept": accept})

    assert response.headers["content-type"] == "application/x-ndjson"
    assert response.text.endswith("\n")
    assert numbers([json.loads(line) for line in response.text.splitlines()]) == [0, 1, 2]


async def test_events_are_numbered_and_go_on_behind_the_last_that_was_seen(client: httpx.AsyncClient) -> None:
    response = await client.get("/v1/watch", params={"count": 2}, headers={**SSE, "last-event-id": "41"})

    assert response.headers["content-type"] == "text/event-stream"
    assert response.headers["cache-control"] == "no-store"
    events = [
        dict(line.split(": ", 1) for line in event.splitlines()) for event in response.text.split("\n\n") if event
    ]
    assert [event["id"] for event in events] == ["42", "43"]
    assert numbers([json.loads(event["data"]) for event in events]) == [0, 1]


async def test_an_events_own_id_is_its_id_and_the_last_seen_is_passed_on(client: httpx.AsyncClient) -> None:
    response = await client.get("/v1/follow", params={"count": 1}, headers={**SSE, "last-event-id": "e7"})

    assert response.text == 'id: e0\ndata: {"eventId":"e0","text":"after e7"}\n\n'


async def test_silence_is_filled_with_heartbeats(
    client: httpx.AsyncClient, probe: ProbeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.streams.HEARTBEAT_S", 0.05)
    async with client.stream("GET", "/v1/watch", params={"hangs": True}, headers=SSE) as response:
        pieces = response.aiter_text()
        assert [await anext(pieces) for _ in range(2)] == [":\n\n"] * 2


@pytest.mark.parametrize("accept", ["", "application/x-ndjson", "text/event-stream"])
async def test_what_fails_before_the_first_message_is_an_ordinary_error(client: httpx.AsyncClient, accept: str) -> None:
    response = await client.get("/v1/watch", params={"code": NOT_FOUND}, headers={"accept": accept})

    assert response.status_code == 404
    assert response.json()["error"]["message"] == "as asked"
    assert reason_of(response) == "NOT_FOUND"


async def test_what_fails_later_is_told_in_the_stream(client: httpx.AsyncClient) -> None:
    asked = {"count": 1, "code": NOT_FOUND}
    array = await client.get("/v1/watch", params=asked)
    lines = await client.get("/v1/watch", params=asked, headers=NDJSON)
    events = await client.get("/v1/watch", params=asked, headers=SSE)

    # An array that failed is not closed: nobody takes it for whole.
    with pytest.raises(json.JSONDecodeError):
        array.json()
    assert json.loads(array.text + "]")[1]["error"]["code"] == 404
    assert json.loads(lines.text.splitlines()[-1])["error"]["status"] == "NOT_FOUND"
    assert events.text.split("\n\n")[1].startswith('event: error\ndata: {"error":{"code":404,')


@pytest.mark.parametrize("breaks", ["translating it", "finding out why it was cancelled", "writing the message"])
async def test_whatever_goes_wrong_later_is_told_in_the_stream(caplog: pytest.LogCaptureFixture, breaks: str) -> None:
    failed = grpc.aio.AioRpcError(grpc.StatusCode.NOT_FOUND, grpc.aio.Metadata(), grpc.aio.Metadata())
    ends_in = {
        "translating it": failed,
        "finding out why it was cancelled": asyncio.CancelledError(),
        "writing the message": None,
    }
    sent: list[Any] = []

    async def send(event: Any) -> None:
        sent.append(event)

    stream = AnswerStream(Broken(ends_in[breaks]), LINES, _raise, _raise, last_event_id="", failure=_raise)
    assert await stream.send(send, "r1") == 500

    assert [one["type"] for one in sent] == ["http.response.start", "http.response.body"]
    assert json.loads(sent[-1]["body"])["error"]["status"] == "INTERNAL"
    assert not sent[-1]["more_body"]
    assert ["secret" in str(one.exc_text) for one in caplog.records] == [True]


class Broken:
    """A call that ends in an error, or has an answer if there is none."""

    def __init__(self, error: BaseException | None) -> None:
        self._error = error

    async def read(self) -> Any:
        if self._error is not None:
            raise self._error
        return self

    def cancel(self) -> None:
        """Nobody listens."""


def _raise(*_: Any) -> Any:
    raise RuntimeError("secret")


async def test_bytes_are_passed_on_as_they_come_and_broken_off_when_they_fail(
    client: httpx.AsyncClient, caplog: pytest.LogCaptureFixture
) -> None:
    whole = await client.get("/v1/download", params={"count": 3})
    nothing = await client.get("/v1/download")

    assert whole.headers["content-type"] == "image/png"
    assert whole.content == bytes([0]) * 1000 + bytes([1]) * 1000 + bytes([2]) * 1000
    assert (nothing.status_code, nothing.content) == (200, b"")
    with pytest.raises(httpx.RemoteProtocolError):
        await client.get("/v1/download", params={"count": 3, "code": NOT_FOUND})
    # It was the upstream's doing.
    assert [record for record in caplog.records if record.levelname == "ERROR"] == []


async def test_a_form_that_is_not_there_is_406(client: httpx.AsyncClient) -> None:
    response = await client.get("/v1/watch", headers={"accept": "text/html, application/json;q=0"})

    assert response.status_code == 406
    assert reason_of(response) == "NOT_ACCEPTABLE"


@pytest.mark.alone
@pytest.mark.parametrize("accept", ["", "application/x-ndjson", "text/event-stream"])
async def test_a_client_that_goes_ends_the_call_soon(
    client: httpx.AsyncClient, probe: ProbeServer, accept: str
) -> None:
    probe.hanging.clear()
    probe.cancelled.clear()
    async with client.stream("GET", "/v1/watch", params={"count": 1, "hangs": True}, headers={"accept": accept}) as got:
        pieces = got.aiter_text()
        while "number" not in await anext(pieces):
            pass
        await asyncio.wait_for(probe.hanging.wait(), 5)
        gone_at = time.monotonic()
    await asyncio.wait_for(probe.cancelled.wait(), 5)

    assert time.monotonic() - gone_at < 0.2


async def test_many_messages_are_taken_from_an_array_or_from_lines(client: httpx.AsyncClient) -> None:
    array = await client.post("/v1/collect", json=[{"number": 1}, {"number": 2}])
    lines = await client.post(
        "/v1/collect", content=b'{"number": 1}\n\n{"number": 2}\n', headers={"content-type": "application/x-ndjson"}
    )
    nothing = await client.post("/v1/collect")

    assert numbers(array.json()["collected"]) == numbers(lines.json()["collected"]) == [1, 2]
    assert nothing.json() == {"collected": []}


async def test_path_and_query_are_part_of_each_of_many_messages(client: httpx.AsyncClient) -> None:
    response = await client.post("/v1/collect/all?number=7", json=[{"text": "a"}, {"text": "b"}])

    collected = response.json()["collected"]
    assert [(one["text"], one["number"], one["inner"]["text"]) for one in collected] == [
        ("all", 7, "a"),
        ("all", 7, "b"),
    ]


@pytest.mark.parametrize(
    ("body", "content_type", "field"),
    [
        (b'[{"number": 1}, {"number": "x", "nope": 1}]', "application/json", "[1].number"),
        (b'{"number": 1}\n{"nope": 1}', "application/x-ndjson", "[1].nope"),
        (b'{"number": 1}\n{', "application/x-ndjson", "[1].body"),
        (b'{"number": 1}', "application/json", "body"),
        (b"[1]", "application/json", "[0].body"),
    ],
)
async def test_which_of_many_is_wrong_is_named(
    client: httpx.AsyncClient, body: bytes, content_type: str, field: str
) -> None:
    response = await client.post("/v1/collect", content=body, headers={"content-type": content_type})

    assert field in violated(response)


async def test_a_talk_goes_both_ways(client: httpx.AsyncClient) -> None:
    response = await client.post("/v1/talk", json=[{"number": 1}, {"number": 2}], headers=NDJSON)

    assert numbers([json.loads(line) for line in response.text.splitlines()]) == [1, 2]
