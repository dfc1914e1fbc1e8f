"""The bounds of a connection, over raw sockets, and the server's life."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace

import httpx
import pytest
import pytest_asyncio

from gateway.app import Gateway, GatewayConfig
from gateway.server import HttpServer
from tests.gateway.probe import SERVICE, ProbeServer, reason_of, serving, shim
from tests.gateway.wire import GET, HEAD, TIGHT, wire

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def tight_for_many(probe_set: bytes, probe: ProbeServer) -> AsyncIterator[httpx.AsyncClient]:
    """As tight, but with the time that a busy machine needs to read the first bytes of hundreds."""
    async with shim(probe_set, probe.address, limits=replace(TIGHT, head_s=2.0)) as client:
        yield client


async def test_a_head_that_never_ends_is_408_then_closed(tight: httpx.AsyncClient) -> None:
    async with wire(tight) as connection:
        await connection.send(b"GET /v1/echo HTTP/1.1\r\nhost: ")
        got = await connection.all()
    assert got.startswith(b"HTTP/1.1 408 ")
    assert b'"reason":"REQUEST_TOO_SLOW"' in got


async def test_dripping_does_not_stretch_a_heads_time(tight: httpx.AsyncClient) -> None:
    async with wire(tight) as connection, asyncio.timeout(5):
        await connection.send(b"GET /v1/echo HTTP/1.1\r\nx-a: ")
        answer = asyncio.create_task(connection.all())
        while not answer.done():
            await connection.send_until_closed(b"b", 1)
            await asyncio.wait([answer], timeout=0.02)
    assert b"431" not in await answer


async def test_dripping_does_not_stretch_a_later_heads_time(tight: httpx.AsyncClient) -> None:
    async with wire(tight) as connection, asyncio.timeout(5):
        await connection.send(GET)
        assert (await connection.answer())[0] == 200
        await connection.send(b"GET /v1/echo HTTP/1.1\r\nhost: a\r\n")
        answer = asyncio.create_task(connection.all())
        while not answer.done():
            await connection.send_until_closed(b"x-a: b\r\n", 1)
            await asyncio.wait([answer], timeout=0.05)
    assert b"431" not in await answer


async def test_many_slow_heads_hold_nobody_up(tight_for_many: httpx.AsyncClient) -> None:
    async with AsyncExitStack() as stack:
        slow = []
        for _ in range(200):
            slow.append(await stack.enter_async_context(wire(tight_for_many)))
            await slow[-1].send(b"GET /v1/echo HTTP/1.1\r\nx-a: ")
        assert (await tight_for_many.get("/v1/echo")).status_code == 200
        answers = await asyncio.gather(*(connection.all() for connection in slow))
    assert {answer[:13] for answer in answers} == {b"HTTP/1.1 408 "}


async def test_a_connection_that_says_nothing_is_closed(tight: httpx.AsyncClient) -> None:
    async with wire(tight) as connection:
        assert await connection.all() == b""


async def test_stray_line_ends_do_not_hold_a_connection(tight: httpx.AsyncClient) -> None:
    async with wire(tight) as connection:
        await connection.send(GET)
        assert (await connection.answer())[0] == 200
        await connection.send(b"\r\n")
        assert await connection.all() == b""


@pytest.mark.parametrize(
    "head",
    [
        b"GET /v1/echo HTTP/1.1\r\n" + b"a: b\r\n" * 21 + b"\r\n",
        b"GET /v1/echo HTTP/1.1\r\na: " + b"b" * 5000 + b"\r\n\r\n",
        b"GET /v1/echo HTTP/1.1\r\na: " + b"b" * 5000,
        b"GET /v1/echo HTTP/1.1\r\n" + b"a" * 5000,
        b"GET /" + b"a" * 5000 + b" HTTP/1.1\r\n\r\n",
        b"GET /" + b"a" * 5000,
        HEAD + b"transfer-encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n" + b"a: b\r\n" * 21,
    ],
)
async def test_a_head_too_large_is_431(tight: httpx.AsyncClient, head: bytes) -> None:
    async with wire(tight) as connection:
        await connection.send(head)
        got = await connection.all()
    assert got.startswith(b"HTTP/1.1 431 ")
    assert b'"reason":"HEADERS_TOO_LARGE"' in got


async def test_endless_headers_end_in_a_closed_connection(tight: httpx.AsyncClient) -> None:
    async with wire(tight) as connection:
        await connection.send(b"GET /v1/echo HTTP/1.1\r\n")
        assert await connection.send_until_closed(b"x-a: b\r\n" * 100)


async def test_an_endless_header_line_ends_in_a_closed_connection(tight: httpx.AsyncClient) -> None:
    async with wire(tight) as connection:
        await connection.send(b"GET /v1/echo HTTP/1.1\r\nx-a: ")
        assert await connection.send_until_closed(b"b" * 1000)


async def test_an_endless_trailer_ends_in_a_closed_connection(tight: httpx.AsyncClient) -> None:
    async with wire(tight) as connection:
        await connection.send(HEAD + b"transfer-encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\na: ")
        assert await connection.send_until_closed(b"b" * 1000)


async def test_an_endless_chunk_extension_ends_in_a_closed_connection(tight: httpx.AsyncClient) -> None:
    async with wire(tight) as connection:
        await connection.send(HEAD + b"transfer-encoding: chunked\r\n\r\n2;")
        assert await connection.send_until_closed(b"b" * 1000)


async def test_a_trailer_is_no_header(tight: httpx.AsyncClient) -> None:
    async with wire(tight) as connection:
        await connection.send(
            HEAD + b"transfer-encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\nidempotency-key: smuggled\r\n\r\n"
        )
        status, body = await connection.answer()
    assert status == 200
    assert b"smuggled" not in body


@pytest.mark.parametrize(
    "head",
    [
        b"nonsense\r\n\r\n",
        b"CONNECT nonsense HTTP/1.1\r\n\r\n",
        b"GET http://[ HTTP/1.1\r\n\r\n",
        GET + b"nonsense\r\n",
    ],
)
async def test_what_is_not_http_is_400(tight: httpx.AsyncClient, head: bytes) -> None:
    async with wire(tight) as connection:
        if head.startswith(GET):
            await connection.send(GET)
            await connection.answer()
        await connection.send(head.removeprefix(GET))
        got = await connection.all()
    assert got.startswith(b"HTTP/1.1 400 ")
    assert b'"reason":"MALFORMED_HTTP"' in got


@pytest.mark.parametrize(
    "framing",
    [
        b"content-length: 2\r\ntransfer-encoding: chunked\r\n",
        b"content-length: 2\r\ncontent-length: 3\r\n",
        b"content-length: -1\r\n",
        b"content-length: 2x\r\n",
        b"transfer-encoding: gzip\r\n",
    ],
)
async def test_a_body_of_unclear_length_is_400(tight: httpx.AsyncClient, framing: bytes) -> None:
    async with wire(tight) as connection:
        await connection.send(HEAD + framing + b"\r\n{}")
        assert (await connection.all()).startswith(b"HTTP/1.1 400 ")


@pytest.mark.survives("huge-body")
async def test_a_body_of_ten_megabytes_is_413_with_or_without_a_length(small: httpx.AsyncClient) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(160):
            yield b"x" * 65536

    headers = {"content-type": "application/json"}
    for content in (b"x" * (10 << 20), chunks(), b"x" * 1001):
        response = await small.post("/v1/echo", content=content, headers=headers)
        assert response.status_code == 413
        assert reason_of(response) == "BODY_TOO_LARGE"
    fits = b'{"text": "' + b"x" * 988 + b'"}'
    assert len(fits) == 1000
    assert (await small.post("/v1/echo", content=fits, headers=headers)).status_code == 200


async def test_an_endless_body_is_answered_and_closed(tight: httpx.AsyncClient) -> None:
    async with wire(tight) as connection:
        await connection.send(HEAD + b"transfer-encoding: chunked\r\n\r\n")
        assert await connection.send_until_closed(b"2710\r\n" + b"x" * 10_000 + b"\r\n")


async def test_a_body_that_is_announced_and_too_large_is_not_asked_for(tight: httpx.AsyncClient) -> None:
    async with wire(tight) as connection:
        await connection.send(HEAD + b"content-length: 5000\r\nexpect: 100-continue\r\n\r\n")
        assert (await connection.all()).startswith(b"HTTP/1.1 413 ")


async def test_a_body_is_asked_for_where_it_is_expected(tight: httpx.AsyncClient) -> None:
    async with wire(tight) as connection:
        await connection.send(HEAD + b"content-length: 2\r\nexpect: 100-continue\r\nconnection: close\r\n\r\n")
        await connection.send(b"{}")
        got = await connection.all()
    assert got.startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 ")


async def test_a_body_that_never_comes_is_408(tight: httpx.AsyncClient) -> None:
    async with wire(tight) as connection:
        await connection.send(HEAD + b"content-length: 10\r\n\r\n{")
        assert (await connection.all()).startswith(b"HTTP/1.1 408 ")


async def test_a_body_that_nobody_wants_does_not_hold_a_connection(tight: httpx.AsyncClient) -> None:
    async with wire(tight) as connection:
        await connection.send(b"POST /nothing HTTP/1.1\r\nhost: a\r\ncontent-length: 10\r\n\r\n{")
        got = await connection.all()
    assert got.startswith(b"HTTP/1.1 404 ")
    assert got.count(b"HTTP/1.1") == 1


async def test_requests_in_a_row_are_answered_in_order(tight: httpx.AsyncClient) -> None:
    async with wire(tight) as connection:
        await connection.send(GET.replace(b"echo", b"echo?text=one") + GET.replace(b"echo", b"echo?text=two"))
        assert b'"one"' in (await connection.answer())[1]
        assert b'"two"' in (await connection.answer())[1]


UPGRADE = b"connection: upgrade\r\nupgrade: h2c\r\n"


async def test_an_upgrade_is_not_taken_up_and_what_follows_is_read_in_whatever_pieces_it_comes(
    tight: httpx.AsyncClient,
) -> None:
    body = b"content-length: 14\r\n\r\n" + b'{"text": "up"}'
    request = HEAD + UPGRADE + body + HEAD + b"connection: close\r\n" + body
    for size in (1, 7, len(request)):
        async with wire(tight) as connection:
            for at in range(0, len(request), size):
                await connection.send(request[at : at + size])
            assert (await connection.all()).count(b'"up"') == 2


async def test_many_upgrades_at_once_are_answered_like_anything_else(small: httpx.AsyncClient) -> None:
    many = 1000
    async with wire(small) as connection:
        await connection.send((GET[:-2] + UPGRADE + b"\r\n") * many)
        for _ in range(many):
            assert (await connection.answer())[0] == 200


@pytest.mark.parametrize(
    "body",
    [
        b"content-length: x\r\n\r\n",
        b"transfer-encoding: gzip\r\n\r\n{}",
        b"transfer-encoding: chunked\r\n\r\nx\r\n",
    ],
)
async def test_what_follows_an_upgrade_is_refused_like_anything_else(tight: httpx.AsyncClient, body: bytes) -> None:
    async with wire(tight) as connection:
        await connection.send(HEAD + UPGRADE + body)
        assert (await connection.all()).startswith(b"HTTP/1.1 400 ")


async def test_nobody_is_connected_through(tight: httpx.AsyncClient) -> None:
    async with wire(tight) as connection:
        await connection.send(b"CONNECT a.test:443 HTTP/1.1\r\nhost: a\r\n\r\n" + GET)
        assert (await connection.all()).startswith(b"HTTP/1.1 4")


async def test_a_taken_port_is_an_os_error() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        server = HttpServer(None, host="127.0.0.1", port=taken.getsockname()[1])
        with pytest.raises(OSError, match="in use"):
            await server.start()
        await server.stop(0)


async def test_stopping_lets_requests_in_flight_finish(probe_set: bytes) -> None:
    async with serving(probe_set) as probe, started(probe_set, probe) as (server, client):
        hanging = asyncio.create_task(client.get("/v1/hang"))
        await asyncio.wait_for(probe.hanging.wait(), 5)
        stopping = asyncio.create_task(server.stop(5))
        await asyncio.wait_for(_refused(client), 5)
        probe.release.set()
        assert (await hanging).status_code == 200
        await stopping


async def test_stopping_cancels_what_outlasts_its_grace(probe_set: bytes) -> None:
    async with serving(probe_set) as probe, started(probe_set, probe) as (server, client):
        hanging = asyncio.create_task(client.get("/v1/hang"))
        await asyncio.wait_for(probe.hanging.wait(), 5)
        await asyncio.wait_for(server.stop(0.2), 5)
        await asyncio.wait_for(probe.cancelled.wait(), 2)
        answer = await hanging
    assert (answer.status_code, reason_of(answer), answer.headers["retry-after"]) == (503, "STOPPING", "1")


async def test_a_stream_that_outlasts_the_grace_is_told_so(probe_set: bytes) -> None:
    async with serving(probe_set) as probe, started(probe_set, probe) as (server, client):
        lines = {"accept": "application/x-ndjson"}
        async with client.stream("GET", "/v1/watch?count=1&hangs=true", headers=lines) as answer:
            await asyncio.wait_for(probe.hanging.wait(), 5)
            stopping = asyncio.create_task(server.stop(0.2))
            *_, last = [line async for line in answer.aiter_lines()]
        await asyncio.wait_for(stopping, 5)
    assert json.loads(last)["error"]["details"][0]["reason"] == "STOPPING"


@asynccontextmanager
async def started(descriptor_set: bytes, probe: ProbeServer) -> AsyncIterator[tuple[HttpServer, httpx.AsyncClient]]:
    """A server that the test stops itself, and a client for it."""
    gateway = Gateway(GatewayConfig(descriptor_set=descriptor_set, upstreams={SERVICE: probe.address}))
    server = HttpServer(gateway.asgi(), host="127.0.0.1", port=0)
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{await server.start()}") as client:
        yield server, client
    await gateway.close()


async def _refused(client: httpx.AsyncClient) -> None:
    """Come back when the server no longer accepts connections."""
    while True:
        try:
            async with wire(client):
                pass
        except ConnectionRefusedError:
            return
        except ConnectionError:
            continue  # it was in the queue of a listener that closed
