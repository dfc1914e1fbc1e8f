"""Spans of requests and of their calls, as a collector gets them."""

import asyncio
import json
import re
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from gateway.app import ConfigError, Gateway, GatewayConfig
from tests.gateway.collector import Collector, attributes, collecting
from tests.gateway.probe import ROOT, SERVICE, ProbeServer, shim
from tests.gateway.test_main import process
from tests.gateway.upload import upload

pytestmark = pytest.mark.asyncio(loop_scope="module")

TRACE_ID, SPAN_ID = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
SAMPLED = {"traceparent": f"00-{TRACE_ID}-{SPAN_ID}-01", "tracestate": "a=1"}
NOT_SAMPLED = {"traceparent": f"00-{TRACE_ID}-{SPAN_ID}-00"}


@asynccontextmanager
async def traced(
    probe_set: bytes, probe: ProbeServer, **config: Any
) -> AsyncIterator[tuple[httpx.AsyncClient, Collector]]:
    """A shim that sends its spans, and their collector, which has all of them behind the block."""
    async with (
        collecting() as collector,
        shim(probe_set, probe.address, otlp_endpoint=collector.url, **config) as http,
    ):
        yield http, collector


async def test_a_request_has_a_span_and_so_has_its_call(probe_set: bytes, probe: ProbeServer) -> None:
    async with traced(probe_set, probe) as (http, collector):
        response = await http.get("/v1/things/secret-id", headers=SAMPLED)
        assert response.status_code == 200

    assert len(collector.spans) == 2
    server, client = collector.one("GET /v1/things/{thing.name}"), collector.one("probe.v1.Probe/GetThing")
    assert (server.kind, client.kind) == (Span.SPAN_KIND_SERVER, Span.SPAN_KIND_CLIENT)
    assert server.trace_id.hex() == client.trace_id.hex() == TRACE_ID
    assert (server.parent_span_id.hex(), client.parent_span_id) == (SPAN_ID, server.span_id)
    assert server.trace_state == client.trace_state == "a=1"
    assert server.start_time_unix_nano <= client.start_time_unix_nano <= client.end_time_unix_nano
    told = attributes(server)
    assert told["http.request.method"] == "GET"
    assert told["http.route"] == told["url.path"] == "/v1/things/{thing.name}"
    assert (told["http.response.status_code"], told["url.scheme"]) == (200, "http")
    assert (told["server.port"], told["client.address"]) == (http.base_url.port, "127.0.0.1")
    assert attributes(client) == {
        "rpc.system.name": "grpc",
        "rpc.method": "probe.v1.Probe/GetThing",
        "rpc.response.status_code": "OK",
    }
    assert collector.service_names == {"gateway"}
    # What a path holds may be an id that nobody else should know.
    assert "secret-id" not in str(collector.spans)


async def test_upstream_is_told_of_the_call_s_span(probe_set: bytes, probe: ProbeServer) -> None:
    async with traced(probe_set, probe) as (http, collector):
        metadata = (await http.get("/v1/arrival", headers=SAMPLED)).json()["metadata"]

    call = collector.one("probe.v1.Probe/Arrival")
    assert metadata["traceparent"] == f"00-{TRACE_ID}-{call.span_id.hex()}-01"
    assert metadata["tracestate"] == "a=1"


async def test_a_request_without_a_trace_begins_one(probe_set: bytes, probe: ProbeServer) -> None:
    async with traced(probe_set, probe) as (http, collector):
        metadata = (await http.get("/v1/arrival", headers={"traceparent": "nonsense"})).json()["metadata"]

    server = collector.one("GET /v1/arrival")
    assert server.parent_span_id == b""
    assert metadata["traceparent"].startswith(f"00-{server.trace_id.hex()}-")
    assert metadata["traceparent"].endswith(("-01", "-03"))


async def test_what_the_client_has_not_sampled_is_not_sampled(probe_set: bytes, probe: ProbeServer) -> None:
    async with traced(probe_set, probe) as (http, collector):
        metadata = (await http.get("/v1/arrival", headers=NOT_SAMPLED)).json()["metadata"]

    assert collector.spans == []
    assert metadata["traceparent"].startswith(f"00-{TRACE_ID}-")
    assert metadata["traceparent"].endswith("-00")


@pytest.mark.parametrize(
    ("request_", "name", "status"),
    [
        (("GET", "/v1/none/secret-id"), "GET", 404),
        (("PROPFIND", "/v1/echo"), "_OTHER", 405),
        (("GET", "/v1/echo?nope=1"), "GET /v1/echo", 400),
    ],
)
async def test_what_is_refused_has_a_span_alone(
    probe_set: bytes, probe: ProbeServer, request_: tuple[str, str], name: str, status: int
) -> None:
    async with traced(probe_set, probe) as (http, collector):
        assert (await http.request(*request_)).status_code == status

    [span] = collector.spans
    assert (span.name, attributes(span)["http.response.status_code"]) == (name, status)
    assert span.status.code == Status.STATUS_CODE_UNSET
    assert "secret-id" not in str(span)


async def test_a_header_that_is_refused_has_a_span_in_its_trace(probe_set: bytes, probe: ProbeServer) -> None:
    async with traced(probe_set, probe) as (http, collector):
        headers = [(b"traceparent", SAMPLED["traceparent"].encode()), (b"accept-language", "é".encode())]
        refused = await http.get("/v1/echo", headers=headers)
        assert refused.status_code == 400

    [span] = collector.spans
    assert (span.trace_id.hex(), span.parent_span_id.hex()) == (TRACE_ID, SPAN_ID)


@pytest.mark.parametrize(("code", "status"), [("NOT_FOUND", 404), ("UNAVAILABLE", 503)])
async def test_failures_are_told(probe_set: bytes, probe: ProbeServer, code: str, status: int) -> None:
    async with traced(probe_set, probe) as (http, collector):
        number = grpc.StatusCode[code].value[0]
        assert (await http.post("/v1/fail", json={"code": number})).status_code == status

    server, client = collector.one("POST /v1/fail"), collector.one("probe.v1.Probe/Fail")
    # What a client has wrong is no error of the server's.
    assert (server.status.code == Status.STATUS_CODE_ERROR) is (status >= 500)
    assert attributes(server).get("error.type") == (str(status) if status >= 500 else None)
    assert client.status.code == Status.STATUS_CODE_ERROR
    assert attributes(client)["rpc.response.status_code"] == attributes(client)["error.type"] == code


async def test_a_stream_s_spans_last_as_long_as_it_does(probe_set: bytes, probe: ProbeServer) -> None:
    async with (
        traced(probe_set, probe) as (http, collector),
        upload(http, "/v1/talk", accept="application/x-ndjson") as up,
    ):
        await up.send(b'{"text": "a"}\n')
        assert await up.status() == 200
        await up.data()
        midway = time.time_ns()
        await up.end()
        assert await up.data() == b""

    for name in ("POST /v1/talk", "probe.v1.Probe/Talk"):
        assert collector.one(name).start_time_unix_nano < midway < collector.one(name).end_time_unix_nano


@pytest.mark.parametrize(("code", "status"), [("NOT_FOUND", 404), ("UNAVAILABLE", 503)])
async def test_a_stream_that_fails_later_was_answered_with_200(
    probe_set: bytes, probe: ProbeServer, code: str, status: int
) -> None:
    async with traced(probe_set, probe) as (http, collector):
        number = grpc.StatusCode[code].value[0]
        assert (await http.get("/v1/watch", params={"count": 1, "code": number})).status_code == 200

    server = collector.one("GET /v1/watch")
    assert attributes(server)["http.response.status_code"] == 200
    # The server's own errors are told nevertheless.
    assert (server.status.code == Status.STATUS_CODE_ERROR) is (status >= 500)
    assert attributes(server).get("error.type") == (str(status) if status >= 500 else None)


async def test_a_client_that_leaves_ends_the_spans(probe_set: bytes, probe: ProbeServer) -> None:
    async with traced(probe_set, probe) as (http, collector):
        probe.hanging.clear()
        probe.cancelled.clear()
        request = asyncio.create_task(http.get("/v1/hang"))
        await asyncio.wait_for(probe.hanging.wait(), 5)
        request.cancel()
        await asyncio.wait_for(probe.cancelled.wait(), 5)

    assert attributes(collector.one("GET /v1/hang"))["http.response.status_code"] == 499
    assert attributes(collector.one("probe.v1.Probe/Hang"))["rpc.response.status_code"] == "CANCELLED"


async def test_a_kept_answer_makes_one_call(probe_set: bytes, probe: ProbeServer) -> None:
    async with traced(probe_set, probe, cache_s={f"{SERVICE}.ReadStored": 60}) as (http, collector):
        for _ in range(2):
            assert (await http.get("/v1/stored/kept")).status_code == 200

    assert sorted(span.name for span in collector.spans) == ["GET /v1/stored/{name}"] * 2 + [
        "probe.v1.Probe/ReadStored"
    ]


@pytest.mark.alone
async def test_a_collector_that_hangs_holds_nobody_up(probe_set: bytes, probe: ProbeServer) -> None:
    async with traced(probe_set, probe) as (http, collector):
        collector.hangs = True
        began = time.monotonic()
        assert (await http.get("/v1/echo")).status_code == 200
        assert time.monotonic() - began < 1
        stopped_at = time.monotonic()
    assert collector.asked.is_set()
    assert time.monotonic() - stopped_at < 6


async def test_a_process_makes_spans_where_the_environment_names_a_collector(
    tmp_path: Path, probe_set: bytes, probe: ProbeServer
) -> None:
    file = tmp_path / "set.binpb"
    file.write_bytes(probe_set)
    async with collecting() as collector:
        environment = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url, "OTEL_SERVICE_NAME": "edge"}
        arguments = ("--descriptor-set", str(file), "--upstream", f"{SERVICE}={probe.address}")
        async with process(*arguments, **environment) as http:
            assert (await http.get("/v1/echo")).status_code == 200

    assert sorted(span.name for span in collector.spans) == ["GET /v1/echo", "probe.v1.Probe/Echo"]
    assert collector.service_names == {"edge"}


async def test_the_environment_may_turn_spans_off_and_traces_go_on(
    tmp_path: Path, probe_set: bytes, probe: ProbeServer
) -> None:
    file = tmp_path / "set.binpb"
    file.write_bytes(probe_set)
    async with collecting() as collector:
        environment = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url, "OTEL_SDK_DISABLED": "true"}
        arguments = ("--descriptor-set", str(file), "--upstream", f"{SERVICE}={probe.address}")
        async with process(*arguments, **environment) as http:
            begun = (await http.get("/v1/arrival")).json()["metadata"]["traceparent"]
            given = (await http.get("/v1/arrival", headers=SAMPLED)).json()["metadata"]["traceparent"]

    assert collector.spans == []
    assert re.fullmatch("00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-00", begun)
    assert given == SAMPLED["traceparent"]


async def test_without_a_collector_nothing_of_it_is_even_imported(probe_set: bytes, tmp_path: Path) -> None:
    file = tmp_path / "set.binpb"
    file.write_bytes(probe_set)
    script = (
        "import asyncio, json, pathlib, sys\n"
        "from gateway.app import Gateway, GatewayConfig\n"
        "async def main():\n"
        "    descriptors = pathlib.Path(sys.argv[1]).read_bytes()\n"
        "    await Gateway(GatewayConfig(descriptor_set=descriptors, upstreams={sys.argv[2]: 'a:1'})).close()\n"
        "asyncio.run(main())\n"
        "print(json.dumps([name for name in sys.modules if 'telemetry' in name]))\n"
    )
    started = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", script, str(file), SERVICE), cwd=ROOT, stdout=asyncio.subprocess.PIPE
    )
    told, _ = await started.communicate()
    assert json.loads(told) == []


async def test_a_collector_that_is_no_url_is_named(probe_set: bytes) -> None:
    with pytest.raises(ConfigError, match="otlp_endpoint: 'nonsense' is no URL"):
        Gateway(GatewayConfig(descriptor_set=probe_set, upstreams={SERVICE: "a:1"}, otlp_endpoint="nonsense"))
