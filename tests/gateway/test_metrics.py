"""What the shim measures of requests, read from its own page."""

import asyncio
import logging
from collections.abc import Mapping

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from gateway.metrics import ACCESS_LOG, CLIENT_GONE, UNMATCHED, tell_requests_by
from tests.gateway.probe import ProbeServer

pytestmark = pytest.mark.asyncio(loop_scope="module")
THING = "/v1/things/{thing.name}"


async def measured(client: httpx.AsyncClient) -> dict[tuple[str, str, str, str], float]:
    """Every sample of requests: (name, route, method, code) -> value; of buckets only the sums."""
    page = await client.get("/metrics")
    assert page.status_code == 200
    samples = [one for family in text_string_to_metric_families(page.text) for one in family.samples]
    return {
        (one.name, one.labels["route"], one.labels["method"], one.labels["code"]): one.value
        for one in samples
        if one.name.startswith("http_server_request") and "le" not in one.labels
    }


async def counted(client: httpx.AsyncClient, route: str, method: str, code: int) -> float:
    return (await measured(client)).get(("http_server_requests_total", route, method, str(code)), 0)


async def test_the_page_shows_the_process_in_prometheus_text(client: httpx.AsyncClient) -> None:
    page = await client.get("/metrics")
    assert page.headers["content-type"].startswith("text/plain; version=")
    assert "python_info" in page.text
    assert (await client.post("/metrics")).status_code == 405


async def test_requests_are_counted_and_timed_by_template_not_by_path(client: httpx.AsyncClient) -> None:
    key = (THING, "GET", "200")
    before = await measured(client)
    for name in ("apple", "pear"):
        assert (await client.get(f"/v1/things/{name}")).status_code == 200
    after = await measured(client)
    for sample in ("http_server_requests_total", "http_server_request_seconds_count"):
        assert after[sample, *key] == before.get((sample, *key), 0) + 2
    assert after["http_server_request_seconds_sum", *key] > before.get(("http_server_request_seconds_sum", *key), 0)
    assert {route for _, route, _, _ in after if "apple" in route or "pear" in route} == set()


async def test_each_request_has_one_line_that_names_the_template_and_not_the_path(
    client: httpx.AsyncClient, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, logger=ACCESS_LOG):
        for path, request_id in (("/v1/things/apple", "one"), ("/v1/none/pear", "two")):
            headers = {"x-request-id": request_id, "traceparent": f"00-{'1' * 32}-{'2' * 16}-00"}
            await client.get(path, headers=headers)
        await client.get("/metrics")

    lines = [one for one in caplog.records if one.name == ACCESS_LOG]
    fields = [one.args for one in lines if isinstance(one.args, Mapping)]
    assert [{name: value for name, value in each.items() if name != "ms"} for each in fields] == [
        {"method": "GET", "route": THING, "status": 200, "request_id": "one", "trace_id": "1" * 32},
        {"method": "GET", "route": UNMATCHED, "status": 404, "request_id": "two", "trace_id": "1" * 32},
    ]
    assert all(float(str(each["ms"])) > 0 for each in fields)
    assert lines[0].getMessage().startswith(f"GET {THING} 200 ")


async def test_lines_go_where_they_are_told_and_are_left_out_above_their_level(
    client: httpx.AsyncClient, caplog: pytest.LogCaptureFixture
) -> None:
    told: list[Mapping[str, object]] = []
    tell_requests_by(told.append)
    try:
        with caplog.at_level(logging.WARNING, logger=ACCESS_LOG):
            await client.get("/v1/things/apple")
        with caplog.at_level(logging.INFO, logger=ACCESS_LOG):
            await client.get("/v1/things/pear", headers={"x-request-id": "told"})
    finally:
        tell_requests_by(None)

    assert [fields["request_id"] for fields in told] == ["told"]
    assert [one for one in caplog.records if one.name == ACCESS_LOG] == []


async def test_refusals_count_by_their_status(client: httpx.AsyncClient) -> None:
    before = await counted(client, "/v1/echo", "POST", 415)
    await client.post("/v1/echo", content=b"x", headers={"content-type": "text/csv"})
    assert await counted(client, "/v1/echo", "POST", 415) == before + 1


@pytest.mark.parametrize(
    ("method", "path", "label", "code"),
    [
        ("GET", "/v1/none", "GET", 404),
        ("DELETE", "/v1/echo", "DELETE", 405),
        ("PROPFIND", "/v1/none", "_OTHER", 404),
    ],
)
async def test_what_matches_no_route_shares_one_name(
    client: httpx.AsyncClient, method: str, path: str, label: str, code: int
) -> None:
    before = await counted(client, UNMATCHED, label, code)
    assert (await client.request(method, path)).status_code == code
    assert await counted(client, UNMATCHED, label, code) == before + 1


async def test_pages_are_not_counted(client: httpx.AsyncClient) -> None:
    for page in ("/livez", "/docs", "/metrics"):
        await client.get(page)
    assert not {route for _, route, _, _ in await measured(client)} & {"/livez", "/docs", "/metrics"}


async def test_a_client_that_left_is_counted_as_gone(client: httpx.AsyncClient, probe: ProbeServer) -> None:
    before = await counted(client, "/v1/hang", "GET", CLIENT_GONE)
    probe.hanging.clear()
    request = asyncio.create_task(client.get("/v1/hang"))
    await asyncio.wait_for(probe.hanging.wait(), 5)
    request.cancel()
    async with asyncio.timeout(5):
        while await counted(client, "/v1/hang", "GET", CLIENT_GONE) == before:
            pass
    assert await counted(client, "/v1/hang", "GET", CLIENT_GONE) == before + 1
