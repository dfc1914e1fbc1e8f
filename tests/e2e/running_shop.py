"""The real thing as tests see it: processes started as a person starts them, on free ports, with data of their own."""

import contextlib
import http.client
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator, Mapping
from http import HTTPStatus
from pathlib import Path
from typing import Self

import pymysql  # type: ignore[import-untyped]
from sqlalchemy.engine import make_url

from tests.support.servers import free_port

DATABASES = ("identity", "inventory", "cart", "checkout", "psp")
WEBHOOK_SECRET = "a-secret-between-the-provider-and-the-tests"
SERVICE_SECRET = "a-secret-that-the-services-and-the-seeding-share"
_START_S = 60.0
_STOP_S = 30.0
_POLL_S = 0.1
_redis_databases = iter(range(1, 16))


class NotStartedError(Exception):
    """A process ended, or did not become ready; the text is what it wrote."""


class Program:
    """`python -m shopmesh <arguments>` with nothing of SHOP_* in its environment but what is given."""

    def __init__(self, folder: Path, environment: Mapping[str, str], *arguments: str) -> None:
        self.environment = clean_environment(environment)
        self._command = [sys.executable, "-m", "shopmesh", *arguments]
        self._folder = folder
        self._log = folder / f"{'-'.join(arguments)}.log"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """The process id."""
        return self._running.pid

    @property
    def output(self) -> str:
        """All that it has written so far, over all its starts."""
        return self._log.read_text(errors="replace")

    def launch(self) -> None:
        """Start the process; do not wait."""
        self._folder.mkdir(parents=True, exist_ok=True)
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command, env=self.environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )

    def send(self, number: signal.Signals) -> None:
        """Send a signal."""
        self._running.send_signal(number)

    def wait(self) -> int:
        """Wait for the end; answer the exit code."""
        return self._running.wait(_STOP_S)

    def terminate(self) -> int:
        """Ask it to end, wait, answer the exit code."""
        self.send(signal.SIGTERM)
        return self.wait()

    def kill9(self) -> None:
        """Take it away as a crash would."""
        self._running.kill()
        self._running.wait()

    def remove(self) -> None:
        """Make sure that nothing runs any more."""
        if self._process is not None and self._process.poll() is None:
            self.kill9()

    def has_ended(self) -> bool:
        """Whether it has ended by itself."""
        return self._running.poll() is not None

    @property
    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            raise NotStartedError("never launched")
        return self._process


class RunningShop(Program):
    """`shopmesh up`: the whole shop in one process. A context manager: ready on entry, gone on exit."""

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        self.http_port, self.grpc_port = free_port(), free_port()
        ports = {"SHOP_HTTP_PORT": str(self.http_port), "SHOP_GRPC_PORT": str(self.grpc_port)}
        super().__init__(folder, {"SHOP_DATA_DIR": str(folder / "data"), **ports, **environment}, "up")

    @property
    def base_url(self) -> str:
        """Where REST answers."""
        return f"http://127.0.0.1:{self.http_port}"

    @property
    def grpc_address(self) -> str:
        """Where gRPC answers."""
        return f"127.0.0.1:{self.grpc_port}"

    def start(self) -> None:
        """Start it and return when /readyz says so."""
        self.launch()
        wait_until_ready(self.base_url, self)

    def restart(self) -> None:
        """Start it again on the same ports with the same data, after kill9 or terminate."""
        self.start()

    def __enter__(self) -> Self:
        try:
            self.start()
        except NotStartedError:
            self.remove()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.remove()


def wait_until_ready(base_url: str, *programs: Program) -> None:
    """Return when the gateway at base_url is ready. Raises NotStartedError when a program has ended, or after 60 s."""
    deadline = time.monotonic() + _START_S
    while not _is_ready(base_url):
        if time.monotonic() > deadline or any(program.has_ended() for program in programs):
            raise NotStartedError("\n".join(program.output[-4000:] for program in programs))
        time.sleep(_POLL_S)


def run_to_end(environment: Mapping[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a command that ends by itself; answer its exit code and what it wrote."""
    command = [sys.executable, "-m", "shopmesh", *arguments]
    return subprocess.run(
        command, env=clean_environment(environment), capture_output=True, text=True, check=False, timeout=60
    )


def clean_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """This process's environment without SHOP_*, with what is given."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("SHOP_")}
    return {**kept, **environment}


@contextlib.contextmanager
def own_databases(server_url: str, redis_url: str) -> Iterator[dict[str, str]]:
    """The environment for databases on the servers that nobody else uses; they are dropped at the end."""
    prefix = f"e2e_{uuid.uuid4().hex[:12]}"
    names = {name: f"{prefix}_{name}" for name in DATABASES}
    environment = {f"SHOP_{name.upper()}_DB_URL": f"{server_url}/{database}" for name, database in names.items()}
    # A Redis has sixteen databases; a test that meets the keys of one before it would still be right, only confused.
    number = next(_redis_databases, 1)
    redis = redis_url.rpartition("/")[0] if redis_url.count("/") > 2 else redis_url
    try:
        yield {**environment, "SHOP_DB_URL": server_url, "SHOP_REDIS_URL": f"{redis}/{number}", "SHOP_DEMO": "1"}
    finally:
        _drop(server_url, list(names.values()))


def _drop(server_url: str, databases: list[str]) -> None:
    url = make_url(server_url)
    connection = pymysql.connect(
        host=url.host, port=url.port or 3306, user=url.username, password=url.password or "", autocommit=True
    )
    with connection, connection.cursor() as cursor:
        for database in databases:
            cursor.execute(f"DROP DATABASE IF EXISTS `{database}`")


def _is_ready(base_url: str) -> bool:
    connection = http.client.HTTPConnection(base_url.removeprefix("http://"), timeout=5)
    try:
        connection.request("GET", "/readyz")
        return connection.getresponse().status == HTTPStatus.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
