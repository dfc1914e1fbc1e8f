"""The command line: bad arguments, and a real process that serves the probe."""

import asyncio
import json
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from gateway.app import ConfigError, Gateway, GatewayConfig
from tests.gateway.probe import ROOT, SERVICE, serving
from tests.support.servers import free_port

COMMAND = (sys.executable, "-m", "gateway")


async def run(*arguments: str) -> tuple[int | None, str]:
    process = await asyncio.create_subprocess_exec(*COMMAND, *arguments, cwd=ROOT, stderr=asyncio.subprocess.PIPE)
    _, errors = await asyncio.wait_for(process.communicate(), 30)
    return process.returncode, errors.decode()


@asynccontextmanager
async def process(*arguments: str, **environment: str) -> AsyncIterator[httpx.AsyncClient]:
    """A gateway in a process of its own, which has to end well at SIGTERM, and a client of it."""
    command = (*COMMAND, *arguments, "--listen", "127.0.0.1:0")
    started = await asyncio.create_subprocess_exec(
        *command, cwd=ROOT, stderr=asyncio.subprocess.PIPE, env={**os.environ, **environment}
    )
    assert started.stderr is not None
    told = json.loads(await asyncio.wait_for(started.stderr.readline(), 30))
    try:
        async with httpx.AsyncClient(base_url=told["url"], timeout=20) as client:
            yield client
    finally:
        started.send_signal(signal.SIGTERM)
        _, _ = await asyncio.wait_for(started.communicate(), 20)
    assert started.returncode == 0


async def test_every_bad_argument_is_named_at_once(tmp_path: Path) -> None:
    code, errors = await run(
        *("--descriptor-set", str(tmp_path / "none"), "--upstream", "nonsense", "--listen", "8080", "--nope")
    )
    assert code == 2
    assert "Traceback" not in errors
    assert len(errors.splitlines()) == 4
    for named in ("--descriptor-set", "'nonsense'", "'8080'", "'--nope'"):
        assert named in errors


async def test_missing_arguments_are_named() -> None:
    code, errors = await run()
    assert code == 2
    assert "one of --descriptor-set and --reflect is needed" in errors
    assert "--upstream is missing" in errors


async def test_a_taken_port_is_named(tmp_path: Path, probe_set: bytes) -> None:
    file = tmp_path / "set.binpb"
    file.write_bytes(probe_set)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        upstream = f"{SERVICE}=127.0.0.1:1"
        code, errors = await run("--descriptor-set", str(file), "--upstream", upstream, "--listen", address)
    assert code == 2
    assert errors.startswith(f"gateway: --listen {address}: Address already in use")
    assert len(errors.splitlines()) == 1


async def test_a_process_serves_and_ends_at_sigterm(tmp_path: Path, probe_set: bytes) -> None:
    file = tmp_path / "set.binpb"
    file.write_bytes(probe_set)
    async with serving(probe_set) as probe:
        upstream = f"{SERVICE}={probe.address}"
        arguments = ("--descriptor-set", str(file), "--upstream", upstream, "--forward-header", "x-extra")
        async with process(*arguments) as client:
            got = (await client.get("/v1/arrival", headers={"x-extra": "e"})).json()
    assert got["metadata"]["x-extra"] == "e"


async def test_the_gateway_names_every_problem_of_its_config(probe_set: bytes) -> None:
    config = GatewayConfig(
        descriptor_set=probe_set,
        upstreams={"no.Such": "127.0.0.1:1", SERVICE: ""},
        service_config="[]",
        deadline_s=31,
        max_body_bytes=0,
        max_metadata_bytes=0,
    )
    with pytest.raises(ConfigError) as caught:
        Gateway(config)
    assert len(caught.value.problems) == 6
    with pytest.raises(ConfigError, match="not a FileDescriptorSet"):
        Gateway(GatewayConfig(descriptor_set=b"nonsense", upstreams={SERVICE: "127.0.0.1:1"}))


CONFIG = {"emit_defaults": False, "enums_as_ints": True, "proto_names": True, "cors_origins": ["https://www.example"]}


async def test_a_config_file_says_how_to_serve(tmp_path: Path, probe_set: bytes) -> None:
    descriptors, config = tmp_path / "set.binpb", tmp_path / "gateway.json"
    descriptors.write_bytes(probe_set)
    async with serving(probe_set) as probe:
        config.write_text(json.dumps({**CONFIG, "upstreams": {SERVICE: probe.address}}))
        async with process("--descriptor-set", str(descriptors), "--config", str(config)) as client:
            answer = await client.post("/v1/echo", json={"bigNumber": "5", "color": "COLOR_BLUE"})
            document = (await client.get("/openapi.json")).json()

    assert answer.json() == {"big_number": "5", "color": 2}
    everything = document["components"]["schemas"]["probe.v1.Everything"]["properties"]
    assert "big_number" in everything
    color = document["components"]["schemas"]["probe.v1.Color"]
    assert (color["type"], color["enum"]) == ("integer", [0, 1, 2])


async def test_every_wrong_key_of_a_config_is_named(tmp_path: Path, probe_set: bytes) -> None:
    descriptors, config = tmp_path / "set.binpb", tmp_path / "gateway.json"
    descriptors.write_bytes(probe_set)
    config.write_text('{"emit_defaults": "yes", "cors_origin": [], "max_body_bytes": true, "cors_origins": "*"}')

    code, errors = await run("--descriptor-set", str(descriptors), "--upstream", "a=b", "--config", str(config))

    assert code == 2
    for named in ("emit_defaults: must be true or false", "cors_origin: is no key", "max_body_bytes: must be a whole"):
        assert f"--config {config}: {named}" in errors
    assert "cors_origins: must be a list of texts" in errors


@pytest.mark.parametrize("text", ["[]", "{", '{"title": "a", "title": "b"}'])
async def test_a_config_that_is_no_object_is_refused(tmp_path: Path, text: str) -> None:
    config = tmp_path / "gateway.json"
    config.write_text(text)
    code, errors = await run("--upstream", "a=b", "--config", str(config))
    assert code == 2
    assert f"gateway: --config {config}: " in errors
    assert "Traceback" not in errors


async def test_protos_may_be_asked_of_the_server(probe_set: bytes) -> None:
    async with serving(probe_set) as probe, process("--reflect", probe.address) as client:
        answer = await client.post("/v1/echo", json={"text": "asked"})
        health = await client.get("/readyz")

    assert answer.json()["text"] == "asked"
    assert health.status_code == 200


async def test_a_server_that_cannot_be_asked_is_named() -> None:
    address = f"127.0.0.1:{free_port()}"
    code, errors = await run("--reflect", address)
    assert code == 2
    assert errors == f"gateway: --reflect {address}: no gRPC server answers\n"


@pytest.mark.parametrize(
    ("config", "problem"),
    [
        ({"deadline_s": 10**400}, "deadline_s: must be a number"),
        ({"forward_headers": ["X-Data-Bin"]}, "forward_headers: 'X-Data-Bin' cannot be passed on"),
        ({"forward_headers": ["Content-Length"]}, "forward_headers: 'Content-Length' cannot be passed on"),
        ({"forward_headers": ["X Y"]}, "forward_headers: 'X Y' cannot be passed on"),
        ({"cors_origins": ["nonsense"]}, "cors_origins: 'nonsense' is no origin such as https://www.example"),
        ({"service_config": {"methodConfig": "x"}}, "service_config: methodConfig is not an array"),
        (
            {"service_config": {"methodConfig": [{"name": [{}], "retryPolicy": {"maxAttempts": 1}}]}},
            "service_config: methodConfig[0].retryPolicy.maxAttempts must be at least 2",
        ),
        (
            {"service_config": {"methodConfig": [{"name": [{}], "timeout": "1"}]}},
            "service_config: methodConfig[0].timeout Not a duration",
        ),
        ({"service_config": {"method_config": []}}, "service_config: method_config is no key; there are health"),
        (
            {"service_config": {"methodConfig": [{"name": [{}], "time_out": "1s"}]}},
            "service_config: methodConfig[0].time_out is no key; there are maxRequest",
        ),
        ({"service_config": {"methodConfig": [{"timeout": "1s"}]}}, "service_config: methodConfig[0].name is missing"),
        (
            {"service_config": {"methodConfig": [{"name": [{"service": SERVICE, "method": "Nope"}]}]}},
            f"service_config: methodConfig[0].name[0] is 'Nope', which {SERVICE} has not",
        ),
        ({"upstreams": {"a.B": "nonsense"}}, "upstreams: a.B is at 'nonsense', which is not of the form HOST:PORT"),
        ({"jwt": {"issuer": "nobody", "audience": "a"}}, "jwt: issuer must be a URL, not 'nobody'"),
    ],
)
async def test_what_a_config_file_has_wrong_is_named(
    probe_set: bytes, tmp_path: Path, config: dict[str, Any], problem: str
) -> None:
    (tmp_path / "set.binpb").write_bytes(probe_set)
    (tmp_path / "config.json").write_text(json.dumps(config))
    arguments = ["--descriptor-set", f"{tmp_path / 'set.binpb'}", "--upstream", f"{SERVICE}=127.0.0.1:1"]
    code, errors = await run(*arguments, "--config", f"{tmp_path / 'config.json'}")
    assert (code, problem in errors, "Traceback" in errors) == (2, True, False), errors
