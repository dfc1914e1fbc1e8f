"""Errors of upstreams, of the shim, and of nobody."""

import math
from collections.abc import Awaitable, Callable
from typing import Any

import grpc
import httpx
import pytest
from google.rpc import code_pb2, error_details_pb2, status_pb2

from gateway.api import Api, Endpoint
from gateway.breaker import Breaker
from gateway.cache import ResponseCache
from gateway.codec import Codec
from gateway.descriptors import load
from gateway.errors import HTTP_CODES, UpstreamErrors, Violation, invalid, retry_info
from gateway.metrics import Meter
from gateway.routes import Router, build
from gateway.transcode import Transcoder
from tests.gateway.probe import SERVICE, packed, reason_of

pytestmark = pytest.mark.asyncio(loop_scope="module")
CLEAN = ("INVALID_ARGUMENT", "NOT_FOUND", "ALREADY_EXISTS", "PERMISSION_DENIED", "UNAUTHENTICATED", "ABORTED")


@pytest.mark.parametrize("status", list(HTTP_CODES))
async def test_every_grpc_code_has_its_http_code(client: httpx.AsyncClient, status: grpc.StatusCode) -> None:
    response = await client.post("/v1/fail", json={"code": code_pb2.Code.Value(status.name), "message": "because"})
    assert response.status_code == HTTP_CODES[status]
    assert response.json()["error"]["status"] == status.name
    assert reason_of(response) == status.name
    if status.name in CLEAN:
        assert response.json()["error"]["message"] == "because"


@pytest.mark.parametrize("code", [2, 4, 13, 14, 15])
async def test_a_bare_text_behind_a_crash_does_not_pass(client: httpx.AsyncClient, code: int) -> None:
    response = await client.post("/v1/fail", json={"code": code, "message": "ipv4:10.0.0.1: secret"})
    assert "secret" not in response.text


async def test_rich_details_pass_but_for_debug_info(client: httpx.AsyncClient) -> None:
    body = {"code": 9, "message": "too little", "reason": "TOO_LITTLE", "retryS": 7}
    response = await client.post("/v1/fail", json=body)
    assert response.status_code == 400
    assert response.headers["retry-after"] == "7"
    assert response.json()["error"] == {
        "code": 400,
        "status": "FAILED_PRECONDITION",
        "message": "too little",
        "details": [
            {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "7s"},
            {
                "@type": "type.googleapis.com/google.rpc.ErrorInfo",
                "reason": "TOO_LITTLE",
                "domain": "probe",
                "metadata": {"left": "3"},
            },
        ],
    }


async def test_unauthenticated_says_how_to_authenticate(client: httpx.AsyncClient) -> None:
    assert (await client.post("/v1/fail", json={"code": 16})).headers["www-authenticate"] == "Bearer"


async def test_what_nobody_foresaw_is_internal_and_logged_once(
    probe_set: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    async def broken(*_: Any, **__: Any) -> None:
        raise RuntimeError("secret at line 7")

    app = _api(probe_set, broken)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://shim") as client:
        response = await client.get("/v1/echo")
    assert response.status_code == 500
    assert "secret" not in response.text
    assert reason_of(response) == "INTERNAL"
    assert [one.exc_text is not None and "secret" in one.exc_text for one in caplog.records] == [True]


async def test_a_detail_that_is_nested_too_deep_is_left_out(probe_set: bytes) -> None:
    inner = packed(error_details_pb2.RequestInfo(request_id="inner"))
    for _ in range(300):
        inner = packed(inner)
    status = status_pb2.Status(details=[inner, packed(error_details_pb2.RequestInfo(request_id="beside"))])
    trailing = grpc.aio.Metadata(("grpc-status-details-bin", status.SerializeToString()))
    failed = grpc.aio.AioRpcError(grpc.StatusCode.ABORTED, grpc.aio.Metadata(), trailing, "because")
    pool = load(probe_set).pool

    told = UpstreamErrors(pool, Codec(pool).writer).translate(failed)

    assert [detail.get("requestId") for detail in told.details] == [None, "beside"]
    assert b"because" in told.body()


@pytest.mark.parametrize(
    ("after_s", "told"),
    [
        (0.00000099, "0.001s"),
        (1.5, "1.500s"),
        (123456.789, "123456.789s"),
        (999999.4, "999999.400s"),
        (1e6, "1000000s"),
        (1e300, "31622400s"),
        (math.inf, "31622400s"),
    ],
)
async def test_a_wait_has_all_its_digits_and_an_end(after_s: float, told: str) -> None:
    assert retry_info(after_s)["retryDelay"] == told


async def test_many_violations_are_cut_and_texts_are_printable() -> None:
    error = invalid([Violation("\ud800" * 5000, "is wrong")] * 1000)
    assert len(error.body()) < 2_000_000
    assert b"and 997 more" in invalid([Violation("a", "is wrong")] * 1000).body()


def _api(descriptor_set: bytes, call: Callable[..., Awaitable[None]]) -> Api:
    schema = load(descriptor_set)
    codec = Codec(schema.pool)
    router: Router[Endpoint] = Router()
    for route in build(schema, [SERVICE])[0]:
        endpoint = Endpoint(Transcoder(route, codec), call, Breaker(), Meter(route.rule.path))
        router.add(route.template, route.rule.http_method, endpoint)
    errors = UpstreamErrors(schema.pool, codec.writer)
    return Api(router, errors, forward_headers=(), max_body_bytes=1000, cache=ResponseCache())
