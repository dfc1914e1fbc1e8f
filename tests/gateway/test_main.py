"""The command line: bad arguments, and a real process that serves the probe."""

import asyncio
import signal
import socket
import sys
from pathlib import Path

import httpx
import pytest

from gateway.app import ConfigError, Gateway, GatewayConfig
from tests.gateway.probe import ROOT, SERVICE, serving

COMMAND = (sys.executable, "-m", "gateway")


async def run(*arguments: str) -> tuple[int | None, str]:
    process = await asyncio.create_subprocess_exec(*COMMAND, *arguments, cwd=ROOT, stderr=asyncio.subprocess.PIPE)
    _, errors = await asyncio.wait_for(process.communicate(), 30)
    return process.returncode, errors.decode()


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
    assert "--descriptor-set is missing" in errors
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
        process = await asyncio.create_subprocess_exec(
            *(*COMMAND, "--descriptor-set", str(file), "--upstream", f"{SERVICE}={probe.address}"),
            *("--listen", "127.0.0.1:0", "--forward-header", "x-extra"),
            cwd=ROOT,
            stderr=asyncio.subprocess.PIPE,
        )
        assert process.stderr is not None
        line = (await asyncio.wait_for(process.stderr.readline(), 30)).decode()
        async with httpx.AsyncClient(base_url=line.split()[-1]) as client:
            got = (await client.get("/v1/arrival", headers={"x-extra": "e"})).json()
            assert got["metadata"]["x-extra"] == "e"
        process.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(process.wait(), 10) == 0


async def test_the_gateway_names_every_problem_of_its_config(probe_set: bytes) -> None:
    config = GatewayConfig(
        descriptor_set=probe_set,
        upstreams={"no.Such": "127.0.0.1:1", SERVICE: ""},
        service_config="[]",
        deadline_s=31,
        max_body_bytes=0,
    )
    with pytest.raises(ConfigError) as caught:
        Gateway(config)
    assert len(caught.value.problems) == 5
    with pytest.raises(ConfigError, match="not a FileDescriptorSet"):
        Gateway(GatewayConfig(descriptor_set=b"nonsense", upstreams={SERVICE: "127.0.0.1:1"}))
