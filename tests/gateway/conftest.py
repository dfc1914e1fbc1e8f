"""Fixtures of the shim's tests: the probe's descriptors, its server, and a shim before it."""

from collections.abc import AsyncIterator

import httpx
import pytest
import pytest_asyncio

from tests.gateway.probe import ProbeServer, compile_probe, serving, shim
from tests.gateway.wire import TIGHT


@pytest.fixture(scope="session")
def probe_set(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The probe's descriptor set, compiled now."""
    return compile_probe(tmp_path_factory.mktemp("protos"))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def probe(probe_set: bytes) -> AsyncIterator[ProbeServer]:
    """The probe, serving."""
    async with serving(probe_set) as server:
        yield server


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def client(probe_set: bytes, probe: ProbeServer) -> AsyncIterator[httpx.AsyncClient]:
    """A client of a shim before the probe."""
    async with shim(probe_set, probe.address, forward_headers=("X-Extra",)) as http:
        yield http


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def tight(probe_set: bytes, probe: ProbeServer) -> AsyncIterator[httpx.AsyncClient]:
    """A client of a shim that has little patience."""
    async with shim(probe_set, probe.address, limits=TIGHT, max_body_bytes=1000) as client:
        yield client


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def small(probe_set: bytes, probe: ProbeServer) -> AsyncIterator[httpx.AsyncClient]:
    """Takes bodies as small, with the usual time for them."""
    async with shim(probe_set, probe.address, max_body_bytes=1000) as client:
        yield client
