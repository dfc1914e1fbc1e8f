import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.mesh import Mesh

ROOT = Path(__file__).resolve().parents[2]
RUN_S = 20


@pytest.fixture
def mesh(tmp_path: Path) -> Iterator[Mesh]:
    with Mesh(tmp_path / "mesh") as server:
        yield server


def run_locust(mesh: Mesh, *options: str) -> subprocess.CompletedProcess[str]:
    command = [str(Path(sys.executable).parent / "locust"), "--locustfile", "tests/load/locustfile.py", "--headless"]
    size = ["--users", "20", "--spawn-rate", "20", "--run-time", f"{RUN_S}s", "--stop-timeout", "15", "--only-summary"]
    environment = os.environ | {"SHOP_TEST_HTTP": mesh.url, "SHOP_TEST_GRPC": mesh.grpc_address}
    return subprocess.run(
        [*command, *size, *options],
        cwd=ROOT,
        env=environment,
        # The table goes to one stream and the log to the other; a person sees both.
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )


@pytest.mark.timeout(180)
def test_guests_buy_over_rest_and_grpc_under_load_without_a_failure(mesh: Mesh) -> None:
    run = run_locust(mesh, "--check-fail-ratio", "0")

    assert run.returncode == 0, run.stdout
    for name in ("/v1/orders", "/v1/orders/{order_id}/invoice", "CheckoutService/PlaceOrder", "Aggregated"):
        assert name in run.stdout, run.stdout


@pytest.mark.timeout(60)
def test_failures_make_the_run_fail(tmp_path: Path) -> None:
    nobody_listens = Mesh(tmp_path / "mesh")

    run = run_locust(nobody_listens, "--iterations", "5", "--check-fail-ratio", "0")

    assert run.returncode == 3, run.stdout
