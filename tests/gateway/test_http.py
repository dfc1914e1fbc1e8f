"""What HTTP has beyond messages: codings, conditions, protobuf's own form, maps in a query, proxies in front."""

import asyncio
import gzip
import json
from collections.abc import Callable
from typing import Any

import brotli
import httpx
import pytest

from gateway.coding import choose
from gateway.descriptors import load, message_class
from tests.gateway.probe import SERVICE, ProbeServer, reason_of, shim, violated

pytestmark = pytest.mark.asyncio(loop_scope="module")

TEXT = "something that is said more than once " * 100
PROTOBUF = {"content-type": "application/x-protobuf"}


# --- codings


@pytest.mark.parametrize(
    ("coding", "compress"),
    [
        ("gzip", gzip.compress),
        ("x-gzip", gzip.compress),
        ("br", brotli.compress),
        ("gzip, br", lambda data: brotli.compress(gzip.compress(data))),
        ("identity", bytes),
    ],
)
async def test_a_body_may_come_compressed(
    client: httpx.AsyncClient, coding: str, compress: Callable[[bytes], bytes]
) -> None:
    body = compress(json.dumps({"text": TEXT}).encode())
    response = await client.post("/v1/echo", content=body, headers={"content-encoding": coding})
    assert response.json()["text"] == TEXT


async def test_members_of_gzip_follow_one_another(client: httpx.AsyncClient) -> None:
    body = gzip.compress(b'{"text":') + gzip.compress(b'"both"}')
    response = await client.post("/v1/echo", content=body, headers={"content-encoding": "gzip"})
    assert response.json()["text"] == "both"


@pytest.mark.parametrize(
    "body",
    [b'{"text":"plain"}', gzip.compress(b'{"text":"cut"}')[:-9], b"\x1f\x8b"],
    ids=["plain", "cut", "hardly begun"],
)
async def test_a_body_that_is_not_as_its_coding_says_is_refused(client: httpx.AsyncClient, body: bytes) -> None:
    response = await client.post("/v1/echo", content=body, headers={"content-encoding": "gzip"})
    assert (violated(response), reason_of(response)) == (["body"], "MALFORMED_BODY")


async def test_members_without_end_are_refused(client: httpx.AsyncClient) -> None:
    body = gzip.compress(b"") * 40_000
    response = await client.post("/v1/echo", content=body, headers={"content-encoding": "gzip"})
    assert reason_of(response) == "MALFORMED_BODY"


async def test_brotli_that_is_none_is_refused(client: httpx.AsyncClient) -> None:
    whole = brotli.compress(json.dumps({"text": TEXT}).encode())
    for body in (b'{"text":"plain"}', whole[:-3]):
        response = await client.post("/v1/echo", content=body, headers={"content-encoding": "br"})
        assert (violated(response), reason_of(response)) == (["body"], "MALFORMED_BODY")


@pytest.mark.parametrize("coding", ["deflate", "zstd", "gzip, gzip, gzip, gzip"])
async def test_an_unknown_coding_is_415_and_the_known_are_named(client: httpx.AsyncClient, coding: str) -> None:
    response = await client.post("/v1/echo", content=b"{}", headers={"content-encoding": coding})
    assert (response.status_code, response.headers["accept-encoding"]) == (415, "br, gzip")
    assert reason_of(response) == "UNSUPPORTED_CONTENT_ENCODING"


@pytest.mark.parametrize(
    ("coding", "bomb"),
    [
        ("gzip", gzip.compress(gzip.compress(bytes(64 << 20), 1), 1)),
        ("br", brotli.compress(bytes(64 << 20), quality=1)),
    ],
    ids=["gzip", "br"],
)
async def test_a_bomb_is_413_and_is_not_expanded(client: httpx.AsyncClient, coding: str, bomb: bytes) -> None:
    twice = "gzip, gzip" if coding == "gzip" else coding
    response = await client.post("/v1/echo", content=bomb, headers={"content-encoding": twice})
    assert (response.status_code, reason_of(response)) == (413, "BODY_TOO_LARGE")


@pytest.mark.parametrize(("accept", "coding"), [("gzip", "gzip"), ("br;q=0.5, gzip", "gzip"), ("gzip, br", "br")])
async def test_a_long_answer_goes_compressed_to_who_likes_that(
    client: httpx.AsyncClient, accept: str, coding: str
) -> None:
    response = await client.post("/v1/echo", json={"text": TEXT}, headers={"accept-encoding": accept})
    assert (response.headers["content-encoding"], response.headers["vary"]) == (coding, "accept-encoding")
    assert int(response.headers["content-length"]) < 1000
    assert response.json()["text"] == TEXT


async def test_a_short_answer_and_one_for_nobody_who_likes_it_go_as_they_are(client: httpx.AsyncClient) -> None:
    short = await client.post("/v1/things/x:archive", json={"text": "x"}, headers={"accept-encoding": "gzip"})
    plain = await client.post("/v1/echo", json={"text": TEXT}, headers={"accept-encoding": "identity"})
    assert "content-encoding" not in short.headers
    assert ("content-encoding" in plain.headers, plain.headers["vary"]) == (False, "accept-encoding")


@pytest.mark.parametrize(
    ("accept", "name"),
    [
        ("*", "br"),
        ("gzip;q=0, *", "br"),
        ("br;q=0, *;q=0.1", "gzip"),
        ("identity, gzip;q=0.5", None),
        ("gzip;q=0", None),
        ("deflate", None),
        ("gzip;q=high", None),
        ("x-gzip", "gzip"),
    ],
)
async def test_who_likes_what(accept: str, name: str | None) -> None:
    coding = choose(accept)
    assert (coding.name if coding else None) == name


# --- conditions


async def test_who_has_an_answer_already_does_not_get_it_again(client: httpx.AsyncClient) -> None:
    first = await client.get("/v1/stored/short")
    assert (first.status_code, first.headers["etag"], first.json()["etag"]) == (200, '"e1"', "e1")
    for known in ('"e1"', 'W/"e1"', '"e0", "e1"', "*"):
        again = await client.get("/v1/stored/short", headers={"if-none-match": known})
        assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", '"e1"')
        assert "content-length" not in again.headers
    assert (await client.get("/v1/stored/short", headers={"if-none-match": '"e0"'})).status_code == 200


async def test_each_coding_has_a_tag_of_its_own_that_stands_for_the_same_state(client: httpx.AsyncClient) -> None:
    compressed = await client.get("/v1/stored/long", headers={"accept-encoding": "gzip"})
    tag = compressed.headers["etag"]
    assert (tag, compressed.headers["content-encoding"]) == ('"e1--gzip"', "gzip")
    again = await client.get("/v1/stored/long", headers={"accept-encoding": "gzip", "if-none-match": tag})
    assert (again.status_code, again.headers["etag"], again.headers["vary"]) == (304, tag, "accept-encoding")
    assert (await client.put("/v1/stored/long", json={}, headers={"if-match": tag})).status_code == 200


async def test_a_change_is_guarded_by_if_match(client: httpx.AsyncClient) -> None:
    for method in ("PUT", "DELETE"):
        good = await client.request(method, "/v1/stored/a", headers={"if-match": '"e1"'})
        assert (good.status_code, good.json()["etag"]) == (200, "e1")
        assert (await client.request(method, "/v1/stored/a", headers={"if-match": "*"})).json()["etag"] == ""
        for wrong in ('"e2"', 'W/"e1"'):
            response = await client.request(method, "/v1/stored/a", headers={"if-match": wrong})
            assert (response.status_code, response.json()["error"]["status"]) == (412, "ABORTED")


async def test_without_if_match_the_same_refusal_is_a_conflict(client: httpx.AsyncClient) -> None:
    assert (await client.put("/v1/stored/a", json={"etag": "e2"})).status_code == 409


async def test_the_guard_of_a_resource_in_the_request_is_the_resources(client: httpx.AsyncClient) -> None:
    response = await client.patch("/v1/things/a", json={"count": 2}, headers={"if-match": '"e1"'})
    assert response.json() == {
        "thing": {"name": "a", "displayName": "", "count": 2, "etag": "e1", "maker": ""},
        "updateMask": "count",
    }
    differs = await client.patch("/v1/things/a", json={"etag": "e2"}, headers={"if-match": '"e1"'})
    assert violated(differs) == ["thing.etag"]


async def test_what_is_read_can_be_asked_to_match(client: httpx.AsyncClient) -> None:
    assert (await client.get("/v1/stored/a", headers={"if-match": '"e0", "e1"'})).status_code == 200
    assert (await client.get("/v1/stored/a", headers={"if-match": '"e0"'})).status_code == 412
    assert (await client.get("/v1/arrival", headers={"if-match": '"e0"'})).status_code == 412


async def test_a_guard_of_nothing_matches_nothing(client: httpx.AsyncClient) -> None:
    for empty in ('""', '"--gzip"'):
        assert (await client.put("/v1/stored/a", json={}, headers={"if-match": empty})).status_code == 412


async def test_empty_elements_of_a_list_are_none(client: httpx.AsyncClient) -> None:
    response = await client.get("/v1/stored/short", headers={"if-none-match": ', "e0",, "e1" ,'})
    assert response.status_code == 304


async def test_protobuf_has_a_tag_of_its_own(client: httpx.AsyncClient) -> None:
    binary = {"accept": "application/x-protobuf"}
    first = await client.get("/v1/stored/short", headers=binary)
    assert first.headers["etag"] == '"e1--protobuf"'
    long = await client.get("/v1/stored/long", headers={**binary, "accept-encoding": "br"})
    assert long.headers["etag"] == '"e1--protobuf-br"'
    again = await client.get("/v1/stored/long", headers={**binary, "if-none-match": long.headers["etag"]})
    assert again.status_code == 304


async def test_streams_compare_no_etag_and_have_a_head(client: httpx.AsyncClient) -> None:
    assert violated(await client.get("/v1/watch?count=1", headers={"if-match": '"e1"'})) == ["if-match"]
    head = await client.head("/v1/watch?count=1&hangs=true")
    assert (head.status_code, head.headers["content-type"]) == (200, "application/json")
    assert (await client.get("/v1/things/mine")).status_code == 200


async def test_an_event_id_of_many_digits_is_one_like_any_other(client: httpx.AsyncClient) -> None:
    response = await client.get("/v1/watch?count=1", headers={"last-event-id": "9" * 5000})
    assert response.status_code == 200


async def test_two_credentials_are_refused(client: httpx.AsyncClient) -> None:
    for second in ("", "Bearer b"):
        both = [(b"authorization", b"Bearer a"), (b"authorization", second.encode())]
        assert violated(await client.get("/v1/arrival", headers=both)) == ["authorization"]


@pytest.mark.parametrize("header", ['"e1", "e2"', "e1", '"e1', '""x'])
async def test_a_guard_that_is_none_is_refused_by_name(client: httpx.AsyncClient, header: str) -> None:
    assert violated(await client.put("/v1/stored/a", json={}, headers={"if-match": header})) == ["if-match"]


async def test_a_guard_that_nobody_compares_is_refused(client: httpx.AsyncClient) -> None:
    for tag in ('"e1"', "*"):
        assert violated(await client.post("/v1/echo", json={}, headers={"if-match": tag})) == ["if-match"]


# --- protobuf's own form


async def test_protobuf_comes_and_goes(client: httpx.AsyncClient, probe_set: bytes) -> None:
    everything = _message(probe_set, "Echo")
    sent = everything(text="a", numbers=[1, 2], counts={"x": 1})
    response = await client.post(
        "/v1/echo", content=sent.SerializeToString(), headers={**PROTOBUF, "accept": "application/x-protobuf"}
    )
    assert response.headers["content-type"] == "application/x-protobuf"
    assert everything.FromString(response.content) == sent
    as_json = await client.post("/v1/echo", content=sent.SerializeToString(), headers=PROTOBUF)
    assert (as_json.headers["content-type"], as_json.json()["counts"]) == ("application/json", {"x": "1"})


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        ("application/protobuf", "application/x-protobuf"),
        ("application/json, application/x-protobuf", "application/json"),
        ("application/json;q=0.5, application/x-protobuf", "application/x-protobuf"),
        ("application/x-protobuf;q=0", "application/json"),
        ("*/*, application/x-protobuf;q=0.9", "application/json"),
    ],
)
async def test_the_form_that_is_liked_best_is_answered(client: httpx.AsyncClient, accept: str, kind: str) -> None:
    response = await client.get("/v1/echo?text=a", headers={"accept": accept})
    assert response.headers["content-type"] == kind


async def test_protobuf_fills_the_field_that_is_the_body_and_shows_what_changes(
    client: httpx.AsyncClient, probe_set: bytes
) -> None:
    thing = _message(probe_set, "ReadStored")(display_name="new", count=3)
    response = await client.patch("/v1/things/a", content=thing.SerializeToString(), headers=PROTOBUF)
    assert response.json()["thing"]["displayName"] == "new"
    assert sorted(response.json()["updateMask"].split(",")) == ["count", "displayName"]


async def test_bytes_that_are_no_such_message_are_refused(client: httpx.AsyncClient) -> None:
    response = await client.post("/v1/echo", content=b"\xff\xff\xff", headers=PROTOBUF)
    assert (violated(response), reason_of(response)) == (["body"], "MALFORMED_PROTOBUF")


# --- maps in a query


async def test_entries_of_maps_are_parameters(client: httpx.AsyncClient) -> None:
    query = "counts[a]=1&counts%5Bb%20c%5D=-2&counts[]=3"
    got = (await client.get(f"/v1/echo?{query}")).json()
    assert got["counts"] == {"a": "1", "b c": "-2", "": "3"}


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("counts[a]=1&counts[a]=2", "counts[a]"),
        ("counts[a]=x", "counts[a]"),
        ("counts=1", "counts"),
        ("text[a]=1", "text[a]"),
        ("by_number[1]=x", "by_number[1]"),
        ("counts[a=1", "counts[a"),
    ],
)
async def test_an_entry_that_is_none_is_refused_by_name(client: httpx.AsyncClient, query: str, field: str) -> None:
    assert violated(await client.get(f"/v1/echo?{query}")) == [field]


async def test_of_a_oneof_a_query_may_choose_one(client: httpx.AsyncClient) -> None:
    assert violated(await client.get("/v1/echo?left=a&right=1")) == ["right"]
    assert (await client.get("/v1/echo?left=a&maybe=1")).json()["left"] == "a"


# --- headers that are much to pass on


async def test_what_is_let_through_is_not_refused_upstream(client: httpx.AsyncClient) -> None:
    headers = {"x-request-id": "i" * 64, "x-extra": "x" * 7021}
    answers = await asyncio.gather(*(client.get("/v1/echo", headers=headers) for _ in range(50)))
    assert {answer.status_code for answer in answers} == {200}
    answer = await client.get("/v1/echo", headers=headers | {"x-extra": "x" * 7022})
    assert (answer.status_code, reason_of(answer)) == (431, "HEADERS_TOO_LARGE")


@pytest.mark.parametrize(("size", "code"), [(800, 200), (900, 431)])
async def test_how_much_is_passed_on_is_the_owners_to_say(
    probe_set: bytes, probe: ProbeServer, size: int, code: int
) -> None:
    async with shim(probe_set, probe.address, forward_headers=("X-Extra",), max_metadata_bytes=1000) as http:
        assert (await http.get("/v1/echo", headers={"x-extra": "x" * size})).status_code == code


# --- proxies in front


async def test_only_a_trusted_proxy_says_where_a_request_comes_from(probe_set: bytes, probe: ProbeServer) -> None:
    claim = {"x-forwarded-for": "203.0.113.7, 127.0.0.1"}
    for trusted, told in (("127.0.0.0/8",), "203.0.113.7"), (("10.0.0.0/8",), "127.0.0.1"):
        async with shim(probe_set, probe.address, trusted_proxies=trusted) as http:
            metadata = (await http.get("/v1/arrival", headers=claim)).json()["metadata"]
            assert metadata["x-forwarded-for"] == told
    async with shim(probe_set, probe.address) as http:
        assert "x-forwarded-for" not in (await http.get("/v1/arrival", headers=claim)).json()["metadata"]


async def test_what_is_no_address_is_not_passed_on(probe_set: bytes, probe: ProbeServer) -> None:
    async with shim(probe_set, probe.address, trusted_proxies=("*",)) as http:
        response = await http.get("/v1/arrival", headers=[(b"x-forwarded-for", "grüße".encode())])
        assert "x-forwarded-for" not in response.json()["metadata"]


def _message(probe_set: bytes, method: str) -> Any:
    return message_class(next(one for one in load(probe_set).services[SERVICE] if one.name == method).output)
