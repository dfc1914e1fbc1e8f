"""schemathesis against a running shop: whatever it sends, no answer is a 5xx or breaks what /openapi.json tells."""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.conftest import SECRETS
from tests.e2e.running_shop import RunningShop
from tests.e2e.shopping import operator, rest_client

_CONFIG = Path(__file__).with_name("schemathesis.toml")
# The whole of it is asked for by hand, with more.
_EXAMPLES = 6


@pytest.fixture(scope="module")
def own_shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningShop]:
    """A shop that nobody else relies on: an operator deletes products in it."""
    with RunningShop(tmp_path_factory.mktemp("shop"), SECRETS) as shop:
        yield shop


@pytest.mark.timeout(240)
@pytest.mark.parametrize("who", ["guest", "operator"])
async def test_no_answer_breaks_the_document(own_shop: RunningShop, tmp_path: Path, who: str) -> None:
    headers = []
    if who == "operator":
        async with rest_client(own_shop.base_url) as rest:
            headers = [f"--header=Authorization: {(await operator(rest)).headers['authorization']}"]

    done = subprocess.run(  # noqa: ASYNC221 - nothing else runs on this loop
        [
            *(sys.executable, "-m", "schemathesis.cli", "--config-file", str(_CONFIG), "run"),
            *(f"{own_shop.base_url}/openapi.json", "--max-examples", str(_EXAMPLES), "--seed", "1", "--no-color"),
            *headers,
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    # It has asked a good deal, of everything.
    [generated] = re.findall(r"(\d+) generated", done.stdout)
    assert int(generated) > 500
