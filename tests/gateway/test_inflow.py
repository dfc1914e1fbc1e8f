"""Requests that stream: each message goes upstream as it comes, with back pressure, bounds and a good end."""

import asyncio
import gzip
import time
import zlib
from collections.abc import Callable
from typing import Any

import brotli
import httpx
import pytest

from gateway.server import Limits
from tests.gateway.probe import ProbeServer, reason_of, shim, violated
from tests.gateway.upload import Upload, reason, upload, violations

pytestmark = pytest.mark.asyncio(loop_scope="module")

SOON_S = 5.0
PIECE = b'{"text": "%s"}\n' % (b"x" * 60_000)
# More than what may stand anywhere on the way.
MUCH_BYTES = 64 << 20


@pytest.fixture(autouse=True)
def fresh(probe: ProbeServer) -> None:
    """What came in the test before is no longer there."""
    probe.arrived = asyncio.Queue()
    for event in (probe.hanging, probe.cancelled, probe.release, probe.ended):
        event.clear()


async def arrived(probe: ProbeServer) -> str:
    return await asyncio.wait_for(probe.arrived.get(), SOON_S)


async def over(probe: ProbeServer) -> None:
    await asyncio.wait_for(probe.ended.wait(), SOON_S)


async def fill(up: Upload, most: int = MUCH_BYTES) -> int:
    """Send until the peer takes nothing more; how much it has taken."""
    sent = 0
    while sent < most:
        try:
            await asyncio.wait_for(up.send(PIECE), 0.5)
        except TimeoutError:
            break
        sent += len(PIECE)
    return sent


# --- the flow


@pytest.mark.parametrize(
    ("content_type", "pieces"),
    [
        ("application/x-ndjson", [b'{"text": "a"}\n{"te', b'xt": "b"}\n', b'{"text": "c"}']),
        ("application/json", [b'[{"text": "a"}, {"te', b'xt": "b"},', b'{"text": "c"}]']),
    ],
)
async def test_a_message_is_upstream_before_the_next_is_sent(
    client: httpx.AsyncClient, probe: ProbeServer, content_type: str, pieces: list[bytes]
) -> None:
    async with upload(client, "/v1/collect", content_type=content_type) as up:
        for piece, text in zip(pieces[:2], ["a", "b"], strict=True):
            await up.send(piece)
            assert await arrived(probe) == text
        await up.send(pieces[2])
        await up.end()
        assert await up.status() == 200
        assert [one["text"] for one in (await up.json())["collected"]] == ["a", "b", "c"]


async def test_bytes_flow_as_they_come(client: httpx.AsyncClient) -> None:
    async with upload(client, "/v1/append", content_type="image/png") as up:
        for piece in (b"\x00\xff" * 1000, b"\n"):
            await up.send(piece)
            if len(piece) > 1:
                assert await up.status() == 200
            assert await up.data() == piece
        await up.end()
        assert await up.data() == b""


async def test_a_talk_answers_before_all_is_asked(client: httpx.AsyncClient) -> None:
    async with upload(client, "/v1/talk", accept="application/x-ndjson") as up:
        for text in (b"a", b"b"):
            await up.send(b'{"text": "%s"}\n' % text)
            if text == b"a":
                assert await up.status() == 200
            assert b'"text":"%s"' % text in await up.data()
        await up.end()
        assert await up.data() == b""


async def test_a_talk_begins_with_a_client_that_listens(client: httpx.AsyncClient) -> None:
    async with upload(client, "/v1/talk", accept="application/x-ndjson") as up:
        assert await up.status() == 200


async def test_who_sends_faster_than_upstream_takes_has_to_wait(client: httpx.AsyncClient, probe: ProbeServer) -> None:
    async with upload(client, "/v1/collect") as up:
        await up.send(b'{"text": "hang"}\n')
        assert await fill(up) < MUCH_BYTES // 2


async def test_all_messages_together_may_be_larger_than_one_may(client: httpx.AsyncClient, probe: ProbeServer) -> None:
    lines = (1 << 20) // len(PIECE) + 2
    response = await client.post("/v1/talk", content=PIECE * lines, headers={"content-type": "application/x-ndjson"})
    assert len(response.json()) == lines


# --- mistakes


@pytest.mark.parametrize(
    ("line", "named", "why"),
    [
        (b'{"number": "x"}', "[1].number", "INVALID_REQUEST"),
        (b'{"inner": {"nope": 1}}', "[1].inner.nope", "INVALID_REQUEST"),
        (b'{"text": "a", "text": "b"}', "[1].text", "INVALID_REQUEST"),
        (b'{"text": "\xff"}', "[1].body", "MALFORMED_JSON"),
        (b"{", "[1].body", "MALFORMED_JSON"),
    ],
)
async def test_a_mistake_in_a_later_message_ends_the_call_and_is_named(
    client: httpx.AsyncClient, probe: ProbeServer, line: bytes, named: str, why: str
) -> None:
    async with upload(client, "/v1/collect") as up:
        await up.send(b'{"text": "a"}\n')
        await arrived(probe)
        await up.send(line + b"\n")
        assert await up.status() == 400
        error = await up.json()
        assert (violations(error), reason(error)) == ([named], why)
        await over(probe)


async def test_a_mistake_behind_the_first_answer_is_told_in_the_stream(
    client: httpx.AsyncClient, probe: ProbeServer
) -> None:
    async with upload(client, "/v1/talk", accept="application/x-ndjson") as up:
        await up.send(b'{"text": "a"}\n')
        assert await up.status() == 200
        await up.data()
        await up.send(b'{"number": "x"}\n')
        assert violations(await up.json()) == ["[1].number"]
        await over(probe)


async def test_what_comes_with_a_mistake_reaches_nobody(client: httpx.AsyncClient, probe: ProbeServer) -> None:
    response = await client.post("/v1/collect", json=[{"text": "a"}, {"number": "x"}])
    assert violated(response) == ["[1].number"]
    assert probe.arrived.empty()


async def test_path_and_query_are_looked_at_before_the_first_message(client: httpx.AsyncClient) -> None:
    async with upload(client, "/v1/collect/a?nope=1") as up:
        assert await up.status() == 400
        assert violations(await up.json()) == ["nope"]


async def test_an_upstream_that_fails_early_is_answered_at_once(client: httpx.AsyncClient) -> None:
    async with upload(client, "/v1/collect") as up:
        await up.send(b'{"text": "NOT_FOUND"}\n')
        assert await up.status() == 404
        assert (await up.json())["error"]["message"] == "as asked"
        # The rest is let go by, and the connection serves on.
        await up.send(PIECE * 10)
        await up.end()
        up.again()
        await up.begin("/v1/collect")
        await up.end()
        assert (await up.status(), await up.json()) == (200, {"collected": []})


@pytest.mark.parametrize("path", ["/v1/collect", "/v1/talk"])
async def test_a_call_that_ends_while_it_is_written_to_ends_as_it_does(client: httpx.AsyncClient, path: str) -> None:
    lines = b'{"text": "a"}\n' * 50
    headers = {"content-type": "application/x-ndjson", "accept": "application/x-ndjson"}

    async def ends(body: bytes, within: str) -> set[str]:
        """How calls of this end: their HTTP codes, and those of errors behind the first message."""
        sent = {**headers, "grpc-timeout": within}
        answers = [await client.post(path, content=body, headers=sent) for _ in range(40)]
        return {one.text.partition('"code":')[2][:3] or str(one.status_code) for one in answers}

    failing, hurried = await asyncio.gather(
        ends(lines + b'{"text": "NOT_FOUND"}\n' + lines * 5, "5S"), ends(lines, "2m")
    )

    assert failing == {"404"}
    assert hurried <= {"200", "504"}


async def test_who_sends_on_behind_an_early_answer_is_let_go_after_a_while(
    probe_set: bytes, probe: ProbeServer
) -> None:
    async with (
        shim(probe_set, probe.address, limits=Limits(message_s=0.1)) as http,
        upload(http, "/v1/collect") as up,
    ):
        await up.send(b'{"text": "NOT_FOUND"}\n')
        assert await up.status() == 404
        with pytest.raises(ConnectionError):
            await fill(up, most=1 << 40)


# --- bounds


@pytest.mark.parametrize(
    ("content_type", "large"),
    [
        ("application/x-ndjson", b'{"text": "%s"}\n'),
        ("application/json", b',{"text": "%s"}'),
        ("application/x-ndjson", b"\n%s".replace(b"%s", b"\n" * 2000) + b"%.0s"),
    ],
    ids=["line", "element", "blanks"],
)
async def test_a_message_that_is_too_large_is_413(
    probe_set: bytes, probe: ProbeServer, content_type: str, large: bytes
) -> None:
    first = b'[{"text": "a"}' if content_type == "application/json" else b'{"text": "a"}\n'
    async with (
        shim(probe_set, probe.address, max_body_bytes=1000) as http,
        upload(http, "/v1/collect", content_type=content_type) as up,
    ):
        await up.send(first)
        await up.send(large % (b"x" * 1000))
        assert await up.status() == 413
        assert (await up.json())["error"]["message"] == "a message may have at most 1000 bytes"


async def test_a_message_has_its_time_and_so_has_silence(
    client: httpx.AsyncClient, probe: ProbeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, begun in ("gateway.inflow.BODY_S", b'{"text"'), ("gateway.inflow.SILENCE_S", b"\n"):
        with monkeypatch.context() as patched:
            patched.setattr(name, 0.1)
            async with upload(client, "/v1/collect") as up:
                await up.send(b'{"text": "a"}\n' + begun)
                assert (await up.status(), reason(await up.json())) == (408, "BODY_TOO_SLOW")
                await over(probe)


async def test_bytes_that_drip_do_not_make_a_message_s_time_longer(
    client: httpx.AsyncClient, probe: ProbeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.inflow.BODY_S", 0.2)
    async with upload(client, "/v1/collect") as up:
        await up.send(b'{"text": "a"}\n{')
        answered = asyncio.create_task(up.status())
        while not (await asyncio.wait({answered}, timeout=0.02))[0]:
            await up.send(b" ")
        assert await answered == 408


async def test_a_stream_may_last_longer_than_a_body(
    probe_set: bytes, probe: ProbeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.inflow.SILENCE_S", 0.3)
    async with (
        shim(probe_set, probe.address, limits=Limits(message_s=0.1)) as http,
        upload(http, "/v1/collect") as up,
    ):
        await up.send(b'{"text": "a"}\n')
        # Silence ended it, and not the time that a body has.
        assert (await up.status(), reason(await up.json())) == (408, "BODY_TOO_SLOW")


# --- codings


def _gzip_pieces(*texts: bytes) -> list[bytes]:
    packer = zlib.compressobj(wbits=31)
    return [*(packer.compress(text) + packer.flush(zlib.Z_SYNC_FLUSH) for text in texts), packer.flush()]


def _brotli_pieces(*texts: bytes) -> list[bytes]:
    packer = brotli.Compressor()
    return [*(packer.process(text) + packer.flush() for text in texts), packer.finish()]


def _members(*texts: bytes) -> list[bytes]:
    return [gzip.compress(text) for text in texts]


@pytest.mark.parametrize(
    ("coding", "pack"),
    [("gzip", _gzip_pieces), ("gzip", _members), ("br", _brotli_pieces)],
    ids=["gzip", "members", "br"],
)
async def test_what_is_compressed_flows_as_well(
    client: httpx.AsyncClient, probe: ProbeServer, coding: str, pack: Callable[..., list[bytes]]
) -> None:
    first, second, *rest = pack(b'{"text": "a"}\n', b'{"text": "b"}\n')
    async with upload(client, "/v1/collect", content_encoding=coding) as up:
        await up.send(first)
        assert await arrived(probe) == "a"
        await up.send(second)
        assert await arrived(probe) == "b"
        for piece in rest:
            await up.send(piece)
        await up.end()
        assert await up.status() == 200
        assert len((await up.json())["collected"]) == 2


@pytest.mark.parametrize(
    ("coding", "pack"),
    [
        ("gzip", gzip.compress),
        ("gzip", lambda body: gzip.compress(body[:9]) + gzip.compress(body[9:])),
        ("br", brotli.compress),
    ],
)
async def test_much_that_is_compressed_comes_out_whole(
    client: httpx.AsyncClient, coding: str, pack: Callable[[bytes], bytes]
) -> None:
    headers = {"content-type": "application/x-ndjson", "content-encoding": coding}
    response = await client.post("/v1/talk", content=pack(PIECE * 50), headers=headers)
    assert [len(one["text"]) for one in response.json()] == [60_000] * 50


@pytest.mark.parametrize("coding", ["gzip", "br"])
@pytest.mark.parametrize("spoil", [lambda body: body[:-3], lambda body: body + b"more", lambda body: b"x" + body])
async def test_what_is_not_compressed_as_it_says_is_refused(
    client: httpx.AsyncClient, coding: str, spoil: Callable[[bytes], bytes]
) -> None:
    packed: Any = {"gzip": gzip.compress, "br": brotli.compress}[coding](b'[{"text": "a"}]')
    response = await client.post("/v1/collect", content=spoil(packed), headers={"content-encoding": coding})
    assert (violated(response), reason_of(response)) == (["body"], "MALFORMED_BODY")


async def test_a_bomb_of_blanks_is_not_expanded(client: httpx.AsyncClient) -> None:
    bomb = gzip.compress(b"\n" * (64 << 20), 9)
    headers = {"content-type": "application/x-ndjson", "content-encoding": "gzip"}
    assert (await client.post("/v1/collect", content=bomb, headers=headers)).status_code == 413


async def test_a_flow_is_compressed_once(client: httpx.AsyncClient) -> None:
    twice = gzip.compress(gzip.compress(b"[]"))
    response = await client.post("/v1/collect", content=twice, headers={"content-encoding": "gzip, gzip"})
    assert (response.status_code, response.headers["accept-encoding"]) == (415, "br, gzip")


# --- who goes


@pytest.mark.alone
@pytest.mark.parametrize("sent", [b'{"text": "a"}\n', b'{"text": "a"}\n{"te'], ids=["between", "amid"])
async def test_a_client_that_goes_ends_the_call_soon(
    client: httpx.AsyncClient, probe: ProbeServer, sent: bytes
) -> None:
    async with upload(client, "/v1/collect") as up:
        await up.send(sent)
        await arrived(probe)
        gone_at = time.monotonic()
    await over(probe)
    assert time.monotonic() - gone_at < 0.2


@pytest.mark.alone
async def test_a_client_that_breaks_off_while_upstream_takes_nothing_ends_the_call_soon(
    client: httpx.AsyncClient, probe: ProbeServer
) -> None:
    async with upload(client, "/v1/collect") as up:
        await up.send(b'{"text": "hang"}\n')
        assert await fill(up) < MUCH_BYTES // 2
        up.reset()
        gone_at = time.monotonic()
        await asyncio.wait_for(probe.cancelled.wait(), SOON_S)
    assert time.monotonic() - gone_at < 0.2
