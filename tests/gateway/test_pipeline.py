"""Requests behind requests on one connection, and what HTTP wants of each."""

import asyncio
import contextlib
import gc

import httpx
import pytest
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from gateway.unary import UnaryRpc
from tests.gateway.probe import ProbeServer, shim
from tests.gateway.wire import GET, HEAD, TIGHT, wire

pytestmark = pytest.mark.asyncio(loop_scope="module")
WATCH = b"GET /v1/watch?count=1&hangs=true HTTP/1.1\r\nhost: a\r\naccept: application/x-ndjson\r\n\r\n"


async def test_of_a_flood_of_requests_few_wait_here(small: httpx.AsyncClient) -> None:
    async with wire(small) as connection:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(2):
                await connection.send_until_closed(GET * 10_000, 20)
        gc.collect()
        assert 0 < sum(isinstance(one, RequestResponseCycle) for one in gc.get_objects()) < 1000


async def test_what_has_begun_behind_a_flood_is_read_to_its_end(small: httpx.AsyncClient) -> None:
    many = 600
    async with wire(small) as connection:
        await connection.send(GET * many + GET[:10])
        for _ in range(many):
            assert (await connection.answer())[0] == 200
        await connection.send(GET[10:])
        assert (await connection.answer())[0] == 200


async def test_who_always_has_a_request_under_way_leaves_nothing_behind(small: httpx.AsyncClient) -> None:
    async with wire(small) as connection:
        await connection.send(GET)
        for _ in range(300):
            await connection.send(GET)
            assert (await connection.answer())[0] == 200
        gc.collect()
        assert sum(isinstance(one, UnaryRpc) for one in gc.get_objects()) < 30


@pytest.mark.parametrize("first", [WATCH, WATCH.replace(b"count=1", b"count=0"), b"GET /v1/hang" + GET[12:]])
async def test_a_client_that_goes_is_noticed_although_it_has_asked_for_more(
    small: httpx.AsyncClient, probe: ProbeServer, first: bytes
) -> None:
    probe.hanging.clear()
    probe.cancelled.clear()
    async with wire(small) as connection:
        await connection.send(first)
        await asyncio.wait_for(probe.hanging.wait(), 5)
        await connection.send(GET)
    await asyncio.wait_for(probe.cancelled.wait(), 1)


@pytest.mark.parametrize("size", [70_000, 500_000])
async def test_a_client_that_goes_is_noticed_although_its_body_was_large(
    probe_set: bytes, probe: ProbeServer, size: int
) -> None:
    probe.hanging.clear()
    probe.cancelled.clear()
    async with shim(probe_set, probe.address) as client, wire(client) as connection:
        body = b'{"text": "%s"}' % (b"x" * size)
        await connection.send(b"POST /v1/hang HTTP/1.1\r\nhost: a\r\ncontent-length: %d\r\n\r\n" % len(body))
        await connection.send(body[:10])
        await connection.send(body[10:])
        await asyncio.wait_for(probe.hanging.wait(), 5)
    await asyncio.wait_for(probe.cancelled.wait(), 1)


async def test_a_request_is_answered_although_nonsense_follows(tight: httpx.AsyncClient) -> None:
    async with wire(tight) as connection:
        await connection.send(GET.replace(b"echo", b"echo?text=one") + b"\0nonsense\r\n\r\n")
        assert b'"one"' in (await connection.answer())[1]
        assert (await connection.all()).startswith(b"HTTP/1.1 400 ")


async def test_what_follows_a_stream_has_all_its_time(tight: httpx.AsyncClient, probe: ProbeServer) -> None:
    probe.hanging.clear()
    async with wire(tight) as connection:
        await connection.send(WATCH)
        await asyncio.wait_for(probe.hanging.wait(), 5)
        await connection.send(GET[:10])
        # Longer than a head may take, once it is its turn.
        got = await connection.meanwhile(2 * TIGHT.head_s)
        probe.release.set()
        await connection.send(GET[10:])
        while got.count(b"HTTP/1.1 200 ") < 2:
            got += (more := await connection.some())
            assert more
    probe.release.clear()
    assert got.index(b"\r\n0\r\n\r\n") < got.rindex(b"HTTP/1.1 200 ")


async def test_who_is_told_that_the_connection_closes_has_it_closed(tight: httpx.AsyncClient) -> None:
    async with wire(tight) as connection:
        await connection.send(HEAD + b"connection: close\r\ncontent-length: 1001\r\n\r\n" + b" " * 1001 + GET)
        got = await connection.all()
    assert got.startswith(b"HTTP/1.1 413 ")
    assert (got.count(b"HTTP/1.1"), got.count(b"connection: close")) == (1, 1)


# --- what HTTP wants of a head


@pytest.mark.parametrize("hosts", [b"", b"host: a\r\nhost: a\r\n"])
async def test_a_request_names_its_host_once(tight: httpx.AsyncClient, hosts: bytes) -> None:
    async with wire(tight) as connection:
        await connection.send(b"GET /v1/echo HTTP/1.1\r\n" + hosts + b"\r\n")
        assert (await connection.all()).startswith(b"HTTP/1.1 400 ")


async def test_http_1_0_has_no_hosts_and_does_not_wait_to_be_told_to_go_on(tight: httpx.AsyncClient) -> None:
    async with wire(tight) as connection:
        head = HEAD.replace(b"HTTP/1.1\r\nhost: a", b"HTTP/1.0") + b"expect: 100-continue\r\ncontent-length: 2\r\n\r\n"
        await connection.send(head)
        await connection.send(b"{}")
        assert (await connection.all()).startswith(b"HTTP/1.1 200 ")


async def test_a_transfer_coding_that_is_not_known_is_refused(tight: httpx.AsyncClient) -> None:
    async with wire(tight) as connection:
        await connection.send(HEAD + b"transfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n")
        assert (await connection.all()).startswith(b"HTTP/1.1 400 ")
