"""Requests through real HTTP, the shim and real gRPC."""

import asyncio
import json
import logging

import httpx
import pytest
from grpc_health.v1 import health_pb2

from tests.gateway.probe import SERVICE, ProbeServer, reason_of, serving, shim, violated

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def test_a_body_of_all_fields_comes_back_as_proto_json_has_it(client: httpx.AsyncClient) -> None:
    sent = {
        "text": "grüße",
        "number": -5,
        "bigNumber": "9223372036854775807",
        "natural": 7,
        "bigNatural": "18446744073709551615",
        "flag": True,
        "single": 0.1,
        "real": 2.5,
        "data": "3q2+7w==",
        "color": "COLOR_RED",
        "inner": {"text": "a", "number": 1, "inner": {"text": "b", "number": 2, "inners": []}, "inners": []},
        "list": ["x", "y"],
        "numbers": [1, 2],
        "inners": [{"text": "c", "number": 0, "inners": []}],
        "counts": {"a": "1", "b": "2"},
        "byNumber": {"7": {"text": "", "number": 0, "inners": []}},
        "maybe": 0,
        "left": "l",
        "time": "2026-01-02T03:04:05.006Z",
        "span": "1.500s",
        "mask": "text,bigNumber",
        "wrapped": "12",
        "value": {"any": [1.5, None, "x", True]},
        "requestId": "r1",
        "colors": ["COLOR_BLUE", "COLOR_RED"],
    }
    response = await client.post("/v1/echo", json=sent)
    assert response.status_code == 200, response.text
    assert response.headers["content-type"] == "application/json"
    assert response.json() == sent


async def test_members_without_presence_are_written_at_their_defaults(client: httpx.AsyncClient) -> None:
    response = await client.get("/v1/echo")
    assert response.json() == {
        "text": "",
        "number": 0,
        "bigNumber": "0",
        "natural": 0,
        "bigNatural": "0",
        "flag": False,
        "single": 0.0,
        "real": 0.0,
        "data": "",
        "color": "COLOR_UNSPECIFIED",
        "list": [],
        "numbers": [],
        "inners": [],
        "counts": {},
        "byNumber": {},
        "requestId": "",
        "colors": [],
    }


async def test_an_empty_body_is_an_empty_message(client: httpx.AsyncClient) -> None:
    assert (await client.post("/v1/echo")).json()["text"] == ""


async def test_query_parameters_fill_every_kind_of_field(client: httpx.AsyncClient) -> None:
    query = (
        "text=a+b%26c&big_number=-3&bigNatural=4&flag=true&real=-Infinity&data=3q2-7w&color=COLOR_BLUE&colors=2"
        "&colors=COLOR_RED&list=x&list=&numbers=1&numbers=2&inner.text=t&inner.inner.number=9&maybe=0&left=l"
        "&time=2026-01-02T03:04:05Z&span=3s&mask=bigNumber,inner.text&wrapped=5"
    )
    got = (await client.get(f"/v1/echo?{query}")).json()
    assert (got["text"], got["bigNumber"], got["bigNatural"], got["flag"]) == ("a b&c", "-3", "4", True)
    assert (got["real"], got["data"], got["color"]) == ("-Infinity", "3q2+7w==", "COLOR_BLUE")
    assert (got["colors"], got["list"], got["numbers"]) == (["COLOR_BLUE", "COLOR_RED"], ["x", ""], [1, 2])
    assert (got["inner"]["text"], got["inner"]["inner"]["number"], got["maybe"], got["left"]) == ("t", 9, 0, "l")
    assert (got["time"], got["span"]) == ("2026-01-02T03:04:05Z", "3s")
    assert (got["mask"], got["wrapped"]) == ("bigNumber,inner.text", "5")


async def test_a_mask_in_a_query_may_have_proto_names(client: httpx.AsyncClient) -> None:
    assert (await client.get("/v1/echo?mask=big_number")).json()["mask"] == "bigNumber"


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("nonsense=1", "nonsense"),
        ("number=x", "number"),
        ("number=", "number"),
        ("number=2147483648", "number"),
        ("natural=-1", "natural"),
        ("number=1&number=2", "number"),
        ("bigNumber=1&big_number=2", "bigNumber"),
        ("flag=yes", "flag"),
        ("color=COLOR_GREEN", "color"),
        ("time=yesterday", "time"),
        ("inner=1", "inner"),
        ("inners.text=1", "inners.text"),
        ("inner.none=1", "inner.none"),
        ("counts=1", "counts"),
        ("data=*", "data"),
        ("text=%FF", "query"),
    ],
)
async def test_a_bad_query_is_refused_by_name(client: httpx.AsyncClient, query: str, field: str) -> None:
    assert violated(await client.get(f"/v1/echo?{query}")) == [field]


async def test_all_violations_are_named_at_once(client: httpx.AsyncClient) -> None:
    body = {"number": "x", "nope": 1, "inners": [{}, {"number": 2**31}], "flag": 1}
    response = await client.post("/v1/echo", json=body)
    assert violated(response) == ["number", "nope", "inners[1].number", "flag"]


async def test_a_route_with_a_whole_body_takes_no_query(client: httpx.AsyncClient) -> None:
    assert violated(await client.post("/v1/echo?text=a", json={})) == ["text"]


async def test_path_body_field_and_query_share_a_message(client: httpx.AsyncClient) -> None:
    got = (await client.put("/v1/echo/a%2Fb/7?flag=true", json={"text": "inner"})).json()
    assert (got["text"], got["number"], got["flag"], got["inner"]["text"]) == ("a/b", 7, True, "inner")


async def test_what_the_path_binds_cannot_come_from_the_query(client: httpx.AsyncClient) -> None:
    assert violated(await client.put("/v1/echo/a/7?text=b&inner.text=c", json={})) == ["text", "inner.text"]


async def test_a_bad_path_value_is_refused_by_name(client: httpx.AsyncClient) -> None:
    assert violated(await client.put("/v1/echo/a/many", json={})) == ["number"]


async def test_path_and_body_must_agree(client: httpx.AsyncClient) -> None:
    same = await client.patch("/v1/things/a", json={"name": "a", "count": 1})
    assert same.status_code == 200
    assert violated(await client.patch("/v1/things/a", json={"name": "b"})) == ["thing.name"]


async def test_literal_beats_variable_and_verb_is_a_verb(client: httpx.AsyncClient) -> None:
    assert "text" in (await client.get("/v1/things/mine")).json()
    assert (await client.get("/v1/things/other")).json()["thing"]["name"] == "other"
    assert (await client.get("/v1/things/a:b")).json()["thing"]["name"] == "a:b"
    assert (await client.post("/v1/things/x:archive", json={})).json()["text"] == "x"


async def test_variables_of_several_segments_keep_reserved_characters(client: httpx.AsyncClient) -> None:
    assert (await client.get("/v1/shelves/a%20b/books/c%2fd")).json()["text"] == "shelves/a b/books/c%2fd"
    assert (await client.get("/v1/files/a/b%3Fc/%C3%BC")).json()["text"] == "a/b%3Fc/ü"


async def test_a_custom_method_is_served(client: httpx.AsyncClient) -> None:
    assert (await client.request("LOCK", "/v1/things/mine")).status_code == 200


async def test_head_is_get_without_a_body(client: httpx.AsyncClient) -> None:
    response = await client.head("/v1/echo")
    assert (response.status_code, response.content) == (200, b"")
    assert int(response.headers["content-length"]) > 0


async def test_a_wrong_method_is_405_with_allow(client: httpx.AsyncClient) -> None:
    response = await client.delete("/v1/echo")
    assert response.status_code == 405
    assert response.headers["allow"] == "GET, HEAD, OPTIONS, POST"
    assert reason_of(response) == "METHOD_NOT_ALLOWED"
    verb = await client.get("/v1/things/x:archive")
    assert (verb.status_code, verb.headers["allow"]) == (405, "OPTIONS, POST")


async def test_options_tells_what_a_path_is_served_with(client: httpx.AsyncClient) -> None:
    response = await client.options("/v1/things/mine")
    assert (response.status_code, response.content) == (200, b"")
    assert response.headers["allow"] == "GET, HEAD, LOCK, OPTIONS, PATCH"
    assert (await client.options("/v1/nothing")).status_code == 404


@pytest.mark.parametrize("path", ["/v1", "/v1/nothing", "/v1/echo/", "/v1/things//", "//v1/echo", "/v1/things/"])
async def test_an_unknown_route_is_404(client: httpx.AsyncClient, path: str) -> None:
    response = await client.get(path)
    assert response.status_code == 404
    assert reason_of(response) == "ROUTE_NOT_FOUND"


@pytest.mark.survives("invalid-utf8")
async def test_a_path_that_is_not_utf8_is_refused(client: httpx.AsyncClient) -> None:
    assert violated(await client.get("/v1/things/%FF")) == ["path"]


async def test_http_body_passes_raw_in_and_out(client: httpx.AsyncClient) -> None:
    response = await client.post("/v1/raw", content=b"\x00{not json", headers={"content-type": "text/x; charset=a"})
    assert (response.content, response.headers["content-type"]) == (b"\x00{not json", "text/x; charset=a")


async def test_response_body_answers_one_field(client: httpx.AsyncClient) -> None:
    assert (await client.get("/v1/names?list=a&list=b")).json() == ["a", "b"]


@pytest.mark.survives("deep-json")
@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"\xef\xbb\xbf{}",
        b'{"text": NaN}',
        b'{"number": Infinity}',
        b'{"text": "\xff"}',
        b'{"text": "a",}',
        b"[" * 100_000,
        b'{"inner":' * 5_000 + b"{}" + b"}" * 5_000,
        b'{"number": ' + b"1" * 10_000 + b"}",
    ],
)
async def test_what_is_not_json_is_400(client: httpx.AsyncClient, body: bytes) -> None:
    response = await client.post("/v1/fail", content=body, headers={"content-type": "application/json"})
    assert response.status_code == 400
    assert reason_of(response) == "MALFORMED_JSON"


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ('{"text": "a", "text": "b"}', "text"),
        ('{"inner": {"number": 1, "number": 1}}', "inner.number"),
        ('{"bigNumber": 1, "big_number": 1}', "bigNumber"),
        ('{"left": "a", "right": 1}', "right"),
        ('{"unknown": 1}', "unknown"),
        ('{"inner": {"unknown": 1}}', "inner.unknown"),
        ('{"text": 1}', "text"),
        ('{"number": 1.5}', "number"),
        ('{"number": true}', "number"),
        ('{"number": 9223372036854775808}', "number"),
        ('{"bigNumber": "9223372036854775808"}', "bigNumber"),
        ('{"natural": -1}', "natural"),
        ('{"flag": "true"}', "flag"),
        ('{"single": 1e39}', "single"),
        ('{"real": 1e999}', "real"),
        ('{"data": "a"}', "data"),
        ('{"color": "RED"}', "color"),
        ('{"inner": []}', "inner"),
        ('{"list": "a"}', "list"),
        ('{"list": [null]}', "list[0]"),
        ('{"counts": {"a": "x"}}', "counts[a]"),
        ('{"byNumber": {"x": {}}}', "byNumber[x]"),
        ('{"time": 5}', "time"),
        ('{"text": "\\ud800"}', "text"),
        ('{"\\ud800": 1}', "\\ud800"),
        ("[]", "body"),
        ('{"inner":' * 101 + "{}" + "}" * 101, ".".join(["inner"] * 100)),
    ],
)
async def test_a_bad_member_is_refused_by_name(client: httpx.AsyncClient, body: str, field: str) -> None:
    response = await client.post("/v1/echo", content=body, headers={"content-type": "application/json"})
    assert violated(response) == [field if len(field) < 200 else field[:200] + "..."]


async def test_null_is_absence(client: httpx.AsyncClient) -> None:
    got = (await client.post("/v1/echo", json={"text": None, "inner": None, "list": None, "value": None})).json()
    assert (got["text"], "inner" in got, got["list"], got["value"]) == ("", False, [], None)


@pytest.mark.parametrize(
    "content_type", ["text/plain", "application/x-www-form-urlencoded", "application/json; charset=latin-1", "json"]
)
async def test_another_content_type_is_415(client: httpx.AsyncClient, content_type: str) -> None:
    response = await client.post("/v1/echo", content=b"{}", headers={"content-type": content_type})
    assert response.status_code == 415
    assert reason_of(response) == "UNSUPPORTED_MEDIA_TYPE"


@pytest.mark.parametrize("content_type", ["application/json; charset=UTF-8", "application/merge-patch+json", None])
async def test_json_goes_by_several_names(client: httpx.AsyncClient, content_type: str | None) -> None:
    headers = {"content-type": content_type} if content_type else {}
    assert (await client.post("/v1/echo", content=b"{}", headers=headers)).status_code == 200


async def test_a_body_where_none_belongs_is_refused(client: httpx.AsyncClient) -> None:
    response = await client.request("GET", "/v1/echo", json={"text": "lost"})
    assert violated(response) == ["body"]


async def test_idempotency_key_is_the_request_id(client: httpx.AsyncClient) -> None:
    async def request_id(body: dict[str, str], *keys: str) -> httpx.Response:
        return await client.post("/v1/echo", json=body, headers=[("Idempotency-Key", key) for key in keys])

    assert (await request_id({}, "k1")).json()["requestId"] == "k1"
    assert (await request_id({}, '"k1"')).json()["requestId"] == "k1"
    assert (await request_id({"requestId": "k1"}, "k1")).json()["requestId"] == "k1"
    assert violated(await request_id({"requestId": "k2"}, "k1")) == ["requestId"]
    assert violated(await request_id({}, "k1", "k2")) == ["idempotency-key"]


async def test_patch_without_a_mask_changes_what_the_body_names(client: httpx.AsyncClient) -> None:
    body = {"name": "a", "displayName": "", "count": 3, "etag": "e"}
    derived = (await client.patch("/v1/things/a", json=body)).json()
    assert derived["updateMask"] == "displayName,count"
    given = (await client.patch("/v1/things/a?updateMask=count", json=body)).json()
    assert given["updateMask"] == "count"


TRACE = f"00-{'1' * 32}-{'2' * 16}-01"


async def test_listed_headers_and_no_others_become_metadata(client: httpx.AsyncClient) -> None:
    headers = {
        "Authorization": "Bearer t",
        "Traceparent": TRACE,
        "Accept-Language": "de",
        "X-Extra": "e",
        "X-Other": "o",
        "Idempotency-Key": "k",
        "X-Request-Id": "my-id",
    }
    response = await client.get("/v1/arrival", headers=headers)
    metadata = response.json()["metadata"]
    wanted = {"authorization": "Bearer t", "traceparent": TRACE, "accept-language": "de", "x-extra": "e"}
    assert wanted.items() <= metadata.items()
    assert metadata["x-request-id"] == response.headers["x-request-id"] == "my-id"
    assert "x-other" not in metadata
    assert "idempotency-key" not in metadata


async def test_a_request_id_is_drawn_where_none_of_use_is_given(client: httpx.AsyncClient) -> None:
    drawn = [await client.get("/v1/arrival", headers={"x-request-id": given}) for given in ("", "a b", "x" * 65)]
    ids = {response.headers["x-request-id"] for response in drawn}
    assert len(ids) == 3
    assert all(len(one) == 32 for one in ids)
    assert (await client.get("/nothing")).headers["x-request-id"]


async def test_a_header_that_metadata_cannot_carry_is_refused(client: httpx.AsyncClient) -> None:
    assert violated(await client.get("/v1/arrival", headers=[(b"x-extra", "é".encode())])) == ["x-extra"]


async def test_the_deadline_is_the_default_or_shorter(client: httpx.AsyncClient) -> None:
    default = (await client.get("/v1/arrival")).json()["leftMs"]
    assert 9_000 < default < 11_000  # gRPC rounds it on the wire
    assert (await client.get("/v1/arrival", headers={"grpc-timeout": "900m"})).json()["leftMs"] <= 900
    assert (await client.get("/v1/arrival", headers={"grpc-timeout": "1H"})).json()["leftMs"] < 11_000
    assert violated(await client.get("/v1/arrival", headers={"grpc-timeout": "soon"})) == ["grpc-timeout"]


async def test_a_deadline_that_passes_is_504(client: httpx.AsyncClient) -> None:
    response = await client.get("/v1/hang", headers={"grpc-timeout": "50m"})
    assert response.status_code == 504
    assert reason_of(response) == "DEADLINE_EXCEEDED"


async def test_a_client_that_goes_cancels_the_call(client: httpx.AsyncClient, probe: ProbeServer) -> None:
    probe.hanging.clear()
    probe.cancelled.clear()
    request = asyncio.create_task(client.get("/v1/hang"))
    await asyncio.wait_for(probe.hanging.wait(), 5)
    request.cancel()
    await asyncio.wait_for(probe.cancelled.wait(), 2)


async def test_planned_methods_are_routed(client: httpx.AsyncClient) -> None:
    assert (await client.get("/v1/later")).status_code == 200


async def test_an_exception_upstream_shows_nothing_and_is_logged_once(
    client: httpx.AsyncClient, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, logger="gateway"):
        response = await client.post("/v1/fail", json={"exception": "secret at line 7"})
    assert response.status_code == 500
    assert "secret" not in response.text
    assert reason_of(response) == "UNKNOWN"
    assert len([one for one in caplog.records if one.name == "gateway"]) == 1


async def test_an_upstream_that_is_away_is_503_and_found_again(probe_set: bytes) -> None:
    async with serving(probe_set) as first, shim(probe_set, first.address) as client:
        assert (await client.get("/v1/echo")).status_code == 200
        await first.stop()
        away = await client.get("/v1/echo")
        assert (away.status_code, away.headers["retry-after"]) == (503, "1")
        assert reason_of(away) == "UNAVAILABLE"
        assert "127.0.0.1" not in away.text
        assert "google.rpc.RetryInfo" in away.text
        async with serving(probe_set, first.port), asyncio.timeout(10):
            while (await client.get("/v1/echo")).status_code != 200:
                pass


async def test_fixed_pages_answer(client: httpx.AsyncClient, probe: ProbeServer) -> None:
    assert (await client.get("/livez")).json() == {"status": "alive"}
    assert (await client.get("/readyz")).json() == {"status": "ready"}
    docs = await client.get("/docs")
    assert "default-src 'none'" in docs.headers["content-security-policy"]
    assert "http" not in docs.text.replace("<html", "")
    for name in ("swagger-ui.css", "swagger-ui-bundle.js", "start.js", "favicon.png"):
        assert (await client.get(f"/docs/{name}")).status_code == 200
    assert json.loads((await client.get("/openapi.json")).content)["openapi"] == "3.1.0"
    wrong = await client.post("/livez")
    assert (wrong.status_code, wrong.headers["allow"]) == (405, "GET, HEAD")
    assert reason_of(wrong) == "METHOD_NOT_ALLOWED"
    await probe.health.set(SERVICE, health_pb2.HealthCheckResponse.NOT_SERVING)
    not_ready = await client.get("/readyz")
    await probe.health.set(SERVICE, health_pb2.HealthCheckResponse.SERVING)
    assert not_ready.status_code == 503
    assert reason_of(not_ready) == "NOT_READY"
    assert "probe.v1.Probe" in not_ready.json()["error"]["message"]


async def test_scripts_of_listed_origins_may_call(probe_set: bytes, probe: ProbeServer) -> None:
    async with shim(probe_set, probe.address, cors_origins=("https://shop.example",)) as client:
        asked = {"origin": "https://shop.example", "access-control-request-method": "POST"}
        before = await client.options("/v1/echo", headers=asked)
        ours = await client.get("/v1/echo", headers={"origin": "https://shop.example"})
        theirs = await client.get("/v1/echo", headers={"origin": "https://other.example"})
        without = await client.get("/v1/echo")

    assert before.status_code == 200
    assert "POST" in before.headers["access-control-allow-methods"]
    assert ours.headers["access-control-allow-origin"] == "https://shop.example"
    assert "x-request-id" in ours.headers["access-control-expose-headers"]
    assert "access-control-allow-origin" not in theirs.headers
    assert "access-control-allow-origin" not in without.headers


async def test_scripts_may_use_a_route_s_own_method(probe_set: bytes, probe: ProbeServer) -> None:
    page = {"origin": "https://page.example"}
    async with shim(probe_set, probe.address, cors_origins=("https://page.example",)) as client:
        lock = await client.options("/v1/things/mine", headers={**page, "access-control-request-method": "LOCK"})
        unlock = await client.options("/v1/things/mine", headers={**page, "access-control-request-method": "UNLOCK"})
        locked = await client.request("LOCK", "/v1/things/mine", headers=page)

    allowed = lock.headers["access-control-allow-methods"].split(", ")
    assert (lock.status_code, unlock.status_code, locked.status_code) == (200, 400, 200)
    assert {"GET", "POST", "LOCK"} <= set(allowed)
    assert not {"*", "UNLOCK"} & set(allowed)
    assert locked.headers["access-control-allow-origin"] == "https://page.example"
