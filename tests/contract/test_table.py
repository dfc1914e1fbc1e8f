"""The table: what the specifications say of a transcoder, case by case, through real HTTP, the gateway and real gRPC.

The cases are data, in table/*.yaml; cases.py tells what may stand in them. Where the gateway deviates, the case still
says what the specification does, and why it fails; it is loud as soon as it no longer does.
"""

import json
import re
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import grpc
import httpx
import pytest
import pytest_asyncio

from gateway.app import Gateway, GatewayConfig
from gateway.server import HttpServer
from tests.contract.cases import Case, load
from tests.contract.upstream import PROTOS, SERVICE, Script, Seen, Upstream, serving
from tests.gateway.probe import compile_protos

FORMS: Mapping[str, Mapping[str, bool]] = {
    "usual": {},
    "other": {"emit_defaults": False, "enums_as_ints": True, "proto_names": True},
}
MAX_BODY_BYTES = 16 << 10
CACHE_CONTROL = "private, max-age=60"

_ERROR_INFO = "type.googleapis.com/google.rpc.ErrorInfo"
_BAD_REQUEST = "type.googleapis.com/google.rpc.BadRequest"
_REASON = re.compile(r"[A-Z][A-Z0-9_]{0,61}[A-Z0-9]")


class Bench:
    """The upstream and, before it, a gateway for each form."""

    def __init__(self, upstream: Upstream, clients: Mapping[str, httpx.AsyncClient]) -> None:
        self._upstream = upstream
        self._clients = clients

    async def ask(self, case: Case) -> tuple[httpx.Response, Seen | None]:
        """The answer, and what upstream saw."""
        self._upstream.script = Script(replies=case.replies, fails=case.fails, hangs=case.hangs)
        self._upstream.seen = None
        response = await self._clients[case.form].request(
            case.method,
            "/",
            headers=list(_headers(case)),
            content=_body(case),
            extensions={"target": case.target.encode()},
        )
        return response, self._upstream.seen


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def bench(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Bench]:
    descriptor_set = compile_protos(tmp_path_factory.mktemp("protos"), **PROTOS)
    async with AsyncExitStack() as stack:
        upstream, address = await stack.enter_async_context(serving(descriptor_set))
        config = {
            "descriptor_set": descriptor_set,
            "upstreams": {SERVICE: address},
            "max_body_bytes": MAX_BODY_BYTES,
            "cache_control": {f"{SERVICE}.GetThing": CACHE_CONTROL},
        }
        clients = {
            name: await stack.enter_async_context(_gateway(**config, **form, forward_headers=("X-Extra",)))
            for name, form in FORMS.items()
        }
        yield Bench(upstream, clients)


def _parameters() -> Iterator[Any]:
    for case in load():
        marks = [pytest.mark.xfail(reason=case.deviates, strict=True)] if case.deviates else []
        yield pytest.param(case, id=case.id, marks=marks)


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("case", list(_parameters()))
async def test_the_specification_holds(bench: Bench, case: Case) -> None:
    if case.broken:
        with pytest.raises(httpx.RemoteProtocolError):
            await bench.ask(case)
        return
    response, seen = await bench.ask(case)

    assert response.status_code == case.status, response.text
    assert response.headers["x-request-id"]
    _check_answer(case, response)
    if case.status >= 400 and case.method != "HEAD":
        _check_error(case, response)
    _check_upstream(case, seen)
    assert seen is None or seen.metadata["x-request-id"] == response.headers["x-request-id"]


def test_the_table_is_large_and_every_case_names_its_source() -> None:
    cases = load()

    assert len(cases) >= 260
    assert all(case.source for case in cases)


def _check_answer(case: Case, response: httpx.Response) -> None:
    for name, value in case.answer_headers.items():
        assert response.headers.get(name) == value, name
    if case.allow is not None:
        assert sorted(response.headers["allow"].split(", ")) == sorted(case.allow)
    if case.json is not ...:
        assert _differences(response.json(), case.json, exact=True) == []
    if case.has is not ...:
        assert _differences(response.json(), case.has) == []
    assert [name for name in case.without if name in response.json()] == []
    if case.text is not None:
        assert response.text == case.text
    if case.content is not None:
        assert response.content == case.content
    assert [text for text in case.lacks if text in response.text] == []
    _check_stream(case, response.text)


def _check_stream(case: Case, text: str) -> None:
    if case.lines is not None:
        assert text.endswith("\n") or not text
        assert _differences([json.loads(line) for line in text.splitlines()], case.lines) == []
    if case.events is not None:
        assert _differences(list(_events(text)), case.events) == []
    if case.unclosed is not None:
        with pytest.raises(json.JSONDecodeError):
            json.loads(text)
        assert _differences(json.loads(f"{text}]"), case.unclosed) == []


def _check_error(case: Case, response: httpx.Response) -> None:
    """The form that AIP-193 gives all errors, whatever the case says, and then what it says."""
    assert response.headers["content-type"] == "application/json"
    body = response.json()
    assert set(body) == {"error"}
    error = body["error"]
    assert set(error) == {"code", "status", "message", "details"}
    assert error["code"] == case.status
    assert error["status"] in grpc.StatusCode.__members__
    assert error["message"]
    infos = [detail for detail in error["details"] if detail["@type"] == _ERROR_INFO]
    assert len(infos) == 1
    assert _REASON.fullmatch(infos[0]["reason"])
    assert infos[0]["domain"]
    assert _differences(error, case.error) == []
    assert case.reason in ("", infos[0]["reason"])
    if case.violations is not None:
        bad = [detail for detail in error["details"] if detail["@type"] == _BAD_REQUEST]
        named = [violation["field"] for detail in bad for violation in detail["fieldViolations"]]
        assert sorted(named) == sorted(case.violations), error["message"]


def _check_upstream(case: Case, seen: Seen | None) -> None:
    if case.status >= 400 and not (case.fails or case.hangs or case.replies):
        assert seen is None, "a request that is refused reached upstream"
    if case.sees is not None:
        assert seen is not None
        wanted = case.sees if isinstance(case.sees, list) else [case.sees]
        assert _differences(seen.messages, wanted, exact=True) == []
    assert case.rpc in ("", seen.rpc if seen is not None else None)
    for name, value in case.metadata.items():
        assert seen is not None
        assert seen.metadata.get(name) == value, name
    if case.left_s is not None:
        assert seen is not None
        assert seen.left_s is not None
        assert seen.left_s <= case.left_s


def _headers(case: Case) -> Iterator[tuple[bytes, bytes]]:
    if case.body and "content-type" not in case.headers:
        yield b"content-type", b"application/json"
    for name, values in case.headers.items():
        for value in [values] if isinstance(values, str) else values:
            yield name.encode(), value.encode()


def _body(case: Case) -> bytes | AsyncIterator[bytes] | None:
    content = case.body.encode() if isinstance(case.body, str) else case.body
    return _chunks(content) if case.chunked else content or None


async def _chunks(content: bytes) -> AsyncIterator[bytes]:
    for at in range(0, len(content), 1000):
        yield content[at : at + 1000]


def _events(text: str) -> Iterator[dict[str, Any]]:
    for block in text.split("\n\n"):
        fields: dict[str, Any] = dict(line.split(": ", 1) for line in block.splitlines() if not line.startswith(":"))
        if fields:
            yield fields | {"data": json.loads(fields["data"])}


def _differences(got: Any, wanted: Any, *, exact: bool = False, at: str = "") -> list[str]:
    """Where JSON is not as wanted. Numbers are equal by value, true is no number; unless exact, members may be more."""
    if isinstance(wanted, Mapping) and isinstance(got, Mapping):
        names = [name for name in wanted if name in got]
        odd = [f"{at}.{name}: missing" for name in wanted if name not in got]
        odd += [f"{at}.{name}: too much" for name in got if exact and name not in wanted]
        return odd + [
            one for name in names for one in _differences(got[name], wanted[name], exact=exact, at=f"{at}.{name}")
        ]
    if isinstance(wanted, list) and isinstance(got, list) and len(wanted) == len(got):
        pairs = enumerate(zip(got, wanted, strict=True))
        return [one for number, pair in pairs for one in _differences(*pair, exact=exact, at=f"{at}[{number}]")]
    same = got == wanted and isinstance(got, bool) is isinstance(wanted, bool)
    return [] if same else [f"{at}: {got!r} is not {wanted!r}"]


@asynccontextmanager
async def _gateway(**config: Any) -> AsyncIterator[httpx.AsyncClient]:
    """A gateway on a port of its own, and a client that asks for nothing by itself."""
    gateway = Gateway(GatewayConfig(**config))
    server = HttpServer(gateway.asgi(), host="127.0.0.1", port=0)
    port = await server.start()
    try:
        headers = {"accept-encoding": "identity"}
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", headers=headers, timeout=20) as client:
            yield client
    finally:
        await server.stop(1)
        await gateway.close()
