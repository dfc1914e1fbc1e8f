"""Where `/` leads."""

from pathlib import Path

import httpx
import pytest
from starlette.applications import Starlette
from starlette.routing import Mount

from gateway.app import Gateway, GatewayConfig
from tests.gateway.probe import SERVICE, compile_protos, serving, shim

PROTO = """
syntax = "proto3";
package probe.v1;
import "google/api/annotations.proto";
message Note { string text = 1; }
service Probe {
  rpc Read(Note) returns (Note) { option (google.api.http) = {%s}; }
}
"""


async def test_it_leads_to_the_viewer(probe_set: bytes) -> None:
    async with shim(probe_set, "127.0.0.1:1") as client:
        home = await client.get("/")
        assert (home.status_code, home.headers["location"]) == (307, "/docs")
        assert (await client.get("/", follow_redirects=True)).headers["content-type"].startswith("text/html")


@pytest.mark.parametrize("root", ["/api", "/a/b"])
async def test_a_gateway_may_be_mounted_in_another_app(probe_set: bytes, root: str) -> None:
    async with serving(probe_set) as probe:
        gateway = Gateway(GatewayConfig(descriptor_set=probe_set, upstreams={SERVICE: probe.address}))
        transport = httpx.ASGITransport(Starlette(routes=[Mount(root, gateway.asgi())]))
        async with httpx.AsyncClient(transport=transport, base_url="http://a.test") as client:
            answers = [await client.get(f"{root}{path}") for path in ("/v1/files/a%2Fb/c", "/docs", "/openapi.json")]
            missing = await client.get(f"{root}/nowhere")
        await gateway.close()

    assert [answer.status_code for answer in answers] == [200, 200, 200]
    assert (answers[0].json()["text"], missing.status_code) == ("a%2Fb/c", 404)


@pytest.mark.parametrize(("rule", "code"), [('get: "/{text=**}"', 200), ('post: "/{text=**}" body: "*"', 405)])
async def test_a_route_that_claims_it_keeps_it(tmp_path: Path, rule: str, code: int) -> None:
    descriptor_set = compile_protos(tmp_path, claim=PROTO % rule)
    async with serving(descriptor_set) as probe, shim(descriptor_set, probe.address) as client:
        answer: httpx.Response = await client.get("/")
    assert answer.status_code == code
