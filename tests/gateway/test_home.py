"""Where `/` leads."""

from pathlib import Path

import httpx
import pytest

from tests.gateway.probe import compile_protos, serving, shim

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


@pytest.mark.parametrize(("rule", "code"), [('get: "/{text=**}"', 200), ('post: "/{text=**}" body: "*"', 405)])
async def test_a_route_that_claims_it_keeps_it(tmp_path: Path, rule: str, code: int) -> None:
    descriptor_set = compile_protos(tmp_path, claim=PROTO % rule)
    async with serving(descriptor_set) as probe, shim(descriptor_set, probe.address) as client:
        answer: httpx.Response = await client.get("/")
    assert answer.status_code == code
