"""Private servers for tests: a real MariaDB and a real Redis, each on a free port with a data folder of its own.

A server keeps its port and its data over `stop`, `kill`, `start` and `restart`, so that a test can take it away under
load and bring it back. `remove` ends it for good. Nothing here needs root, and root may run it too.
"""

import abc
import contextlib
import fcntl
import itertools
import os
import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from typing import IO, Self

_START_S = 60.0
_STOP_S = 30.0
_POLL_S = 0.02
# Where Debian keeps daemons; an ordinary user's PATH leaves it out.
_SEARCH_PATH = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/usr/local/sbin"])
# The ports tests are told lie below those that the kernel lends to outgoing connections: one of these would take a
# server's port before it listens, or while it is down between a kill and a start.
_LOWEST_PORT = 10_000
_LENT_PORTS = Path("/proc/sys/net/ipv4/ip_local_port_range")
# Where the test processes of this machine agree on who is told which.
_NEXT_PORT = Path(tempfile.gettempdir(), f"shopmesh-tests-next-port-{os.getuid()}")


class ServerError(Exception):
    """A server cannot be used; the sentence says what to do about it, or what the server said."""


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nobody listens on, and that no test process of this machine was told lately."""
    end = int(_LENT_PORTS.read_text().split()[0])
    if end <= _LOWEST_PORT:
        raise ServerError(f"{_LENT_PORTS} begins at {end}: no port from {_LOWEST_PORT} on is left for servers")
    with _NEXT_PORT.open("a+") as agreed:
        fcntl.flock(agreed, fcntl.LOCK_EX)
        agreed.seek(0)
        after = int(agreed.read() or _LOWEST_PORT)
        candidates = itertools.chain(range(after, end), range(_LOWEST_PORT, end))
        port = next(port for port in candidates if _can_be_bound(port))
        agreed.truncate(0)
        agreed.write(str(port + 1))
    return port


def _can_be_bound(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def listens(port: int) -> bool:
    """Whether somebody takes connections at a TCP port of 127.0.0.1."""
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


class Server(abc.ABC):
    """One server process under `folder`. A context manager: started on entry, removed on exit."""

    # What to tell a person whose machine lacks the program.
    package: str

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    @abc.abstractmethod
    def url(self) -> str:
        """Where clients connect to; the same for the server's whole life."""

    @property
    def pid(self) -> int:
        """The process id, for signals. Raises ServerError when the server is down."""
        if self._process is None:
            raise ServerError(f"{self.package} is not running")
        return self._process.pid

    def start(self) -> None:
        """Start the process and return when it answers. Raises ServerError with the end of its log when it does not."""
        if self._process is not None:
            return
        if not self.folder.exists():
            self.folder.mkdir(parents=True)
            self._initialise()
        with self._log() as log:
            self._process = subprocess.Popen(
                self._command(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.folder,
                env=self._environment(),
            )
        self._wait_until_it_answers()

    def stop(self) -> None:
        """Ask the process to end (SIGTERM), which it does cleanly, and wait for it."""
        if self._process is not None:
            self._process.terminate()
            self._wait_for_the_end()

    def kill(self) -> None:
        """Take the process away (SIGKILL), as a crash would, and wait until it is gone."""
        if self._process is not None:
            self._process.kill()
            self._wait_for_the_end()

    def restart(self) -> None:
        """Stop cleanly and start again on the same port with the same data."""
        self.stop()
        self.start()

    def remove(self) -> None:
        """Kill the process and delete its data."""
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.remove()

    @abc.abstractmethod
    def _initialise(self) -> None:
        """Fill the new, empty folder with what the first start needs."""

    @abc.abstractmethod
    def _command(self) -> list[str]:
        """The program and its arguments; it runs inside the folder and stays in the foreground."""

    @abc.abstractmethod
    def _answers(self, connection: socket.socket) -> bool:
        """Tell from a fresh connection whether the server is ready for clients."""

    def _environment(self) -> dict[str, str]:
        """The process's environment variables; those of the tests unless a server says otherwise."""
        return dict(os.environ)

    def _program(self, name: str) -> str:
        found = shutil.which(name, path=_SEARCH_PATH)
        if found is None:
            raise ServerError(f"{name} is missing, and the tests use a real one: apt-get install {self.package}")
        return found

    def _log(self) -> IO[bytes]:
        return (self.folder / "server.log").open("ab")

    def _log_tail(self) -> str:
        return (self.folder / "server.log").read_text(errors="replace")[-2000:]

    def _wait_until_it_answers(self) -> None:
        deadline = time.monotonic() + _START_S
        while self._has_ended() or not self._is_ready():
            if self._has_ended() or time.monotonic() > deadline:
                tail = self._log_tail()
                self.kill()
                raise ServerError(f"{self.package} did not start:\n{tail}")
            time.sleep(_POLL_S)

    def _has_ended(self) -> bool:
        return self._process is None or self._process.poll() is not None

    def _is_ready(self) -> bool:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=1) as connection:
            return self._answers(connection)
        return False

    def _wait_for_the_end(self) -> None:
        if self._process is None:
            return
        try:
            self._process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None


class MariaDb(Server):
    """Debian's mariadbd with its defaults; the user may do everything, and every COMMIT reaches the disk."""

    package = "mariadb-server"

    @property
    def url(self) -> str:
        """mysql://user:password@127.0.0.1:port, without a database."""
        return f"mysql://shop:shop@127.0.0.1:{self.port}"

    def _initialise(self) -> None:
        with self._log() as log:
            command = [self._program("mariadb-install-db"), "--no-defaults", f"--datadir={self.folder / 'data'}"]
            options = ["--auth-root-authentication-method=normal", "--skip-test-db", "--skip-name-resolve"]
            done = subprocess.run(
                [*command, *options, *self._as_root()], stdout=log, stderr=log, check=False, env=self._environment()
            )
        if done.returncode != 0:
            raise ServerError(f"mariadb-install-db failed:\n{self._log_tail()}")
        user = "'shop'@'%'"
        statements = [
            f"CREATE USER IF NOT EXISTS {user} IDENTIFIED BY 'shop';",
            f"GRANT ALL PRIVILEGES ON *.* TO {user} WITH GRANT OPTION;",
        ]
        self._init_file.write_text("\n".join(statements))

    def _environment(self) -> dict[str, str]:
        return {**os.environ, "TMPDIR": str(self._scratch())}

    def _scratch(self) -> Path:
        """A folder of its own for temporary tables: a server that starts deletes those that it finds, whose-ever."""
        scratch = self.folder / "tmp"
        scratch.mkdir(parents=True, exist_ok=True)
        return scratch

    def _command(self) -> list[str]:
        return [
            self._program("mariadbd"),
            "--no-defaults",
            f"--tmpdir={self._scratch()}",
            f"--datadir={self.folder / 'data'}",
            f"--init-file={self._init_file}",
            # Relative to the data folder: a socket's path may have 107 characters, a temporary folder's has more.
            "--socket=server.sock",
            f"--pid-file={self.folder / 'server.pid'}",
            "--bind-address=127.0.0.1",
            f"--port={self.port}",
            "--skip-name-resolve",
            "--innodb-flush-log-at-trx-commit=1",
            *self._as_root(),
        ]

    def _answers(self, connection: socket.socket) -> bool:
        # The greeting: a header of four bytes, then the protocol's version, 10; an error packet has 255 there.
        greeting = connection.recv(5)
        return greeting[4:] == b"\x0a"

    @property
    def _init_file(self) -> Path:
        return self.folder / "init.sql"

    def _as_root(self) -> list[str]:
        return ["--user=root"] if os.geteuid() == 0 else []


class Redis(Server):
    """redis-server with nothing on disk, so that a restart is a loss of everything, as the mesh must bear."""

    package = "redis-server"

    @property
    def url(self) -> str:
        """redis://127.0.0.1:port/0."""
        return f"redis://127.0.0.1:{self.port}/0"

    def _initialise(self) -> None:
        self._program("redis-server")

    def _command(self) -> list[str]:
        options = ["--bind", "127.0.0.1", "--port", str(self.port), "--save", "", "--appendonly", "no"]
        return [self._program("redis-server"), *options]

    def _answers(self, connection: socket.socket) -> bool:
        connection.sendall(b"PING\r\n")
        return connection.recv(7) == b"+PONG\r\n"
