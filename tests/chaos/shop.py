"""One shop of the crash matrix: a real process with databases of its own, armed, killed, and started again."""

import asyncio
import contextlib
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import grpc

from mesh.auth import ServiceCredential
from mesh.config import Settings
from mesh.failpoint import VARIABLE
from shop.checkout.v1.saga_pb2 import ListSagasRequest
from shop.identity.v1.identity_pb2 import IssueTokenRequest
from shopmesh.audit import AuditOptions
from shopmesh.audit.command import run
from shopmesh.audit.findings import Report
from shopmesh.audit.journal import Journal
from tests.chaos.client import OPTIONS, Client
from tests.chaos.process import Process
from tests.chaos.scene import WEBHOOK_SECRET, Metadata, until
from tests.support.psp import API_KEY, FOR_EVER, HostilePsp, signing_sender
from tests.support.psp_book import Book
from tests.support.psp_calls import Trick
from tests.support.servers import free_port

SERVICE_SECRET = "a-secret-that-the-services-and-the-matrix-share"
_READY_S = 60.0
_POLL_S = 0.02
_STOP_S = 30.0
_PAYMENT_TIMEOUT_S = 900
# What the simulator does by itself, the provider behind HTTP is told to.
_TRICKS = (
    Trick(on="confirm", token="tok_webhook_twice", times=FOR_EVER, webhooks=2),
    Trick(on="confirm", token="tok_ok_slow", times=FOR_EVER, delay_s=3.0),
)


class ShopError(Exception):
    """The shop does not start, or does not stop; the text is the end of what it wrote."""


class Shop:
    """A supervised `shopmesh up`: whenever its process ends by itself it is disarmed and started again.

    It is paid by the simulator, or with `pays_over_http` by a provider that runs here.
    """

    def __init__(self, folder: Path, databases: Mapping[str, str], *, pays_over_http: bool) -> None:
        folder.mkdir(parents=True)
        self.folder = folder
        self._databases = databases
        self._http_port, self._grpc_port = free_port(), free_port()
        self._armed = folder / "armed"
        self._hits = folder / "armed.log"
        self._log = folder / "shop.log"
        self._process: Process | None = None
        self._supervisor: asyncio.Task[None] | None = None
        self._channel = grpc.aio.insecure_channel(f"127.0.0.1:{self._grpc_port}", options=OPTIONS)
        self._journal = Journal(folder / "journal")
        self._starts = 0
        self.client = Client(self._channel, self._journal)
        self.provider = self._new_provider() if pays_over_http else None
        # Exit codes of processes that were not told to end.
        self.deaths: list[int] = []
        self._deaths_before = 0
        self._credential = ServiceCredential("matrix", SERVICE_SECRET)
        self.operator: Metadata = ()
        self.arm("")

    @property
    def service(self) -> Metadata:
        """What services show each other."""
        return self._credential.metadata()

    # --- failpoints

    def arm(self, text: str) -> None:
        """Arm the failpoints afresh, in the process that runs now or is started next."""
        self._hits.unlink(missing_ok=True)
        self._deaths_before = len(self.deaths)
        self._replace(text)

    def hits(self) -> Counter[str]:
        """How often each failpoint was hit since they were armed."""
        return Counter(line.partition("=")[0] for line in self._lines())

    def has_struck(self) -> bool:
        """Whether one has struck since they were armed."""
        return any("=" in line for line in self._lines())

    def is_to_die(self) -> bool:
        """Whether a strike since then kills the process."""
        return any("=crash" in line for line in self._lines())

    async def has_died(self) -> bool:
        """Whether the process has ended by itself since then."""
        return len(self.deaths) > self._deaths_before

    # --- the process

    def launch(self, *, patience_s: int = _PAYMENT_TIMEOUT_S) -> None:
        """Start the process and see to it that there is one. `patience_s` is the customers' time to pay."""
        self._supervisor = asyncio.create_task(self._supervise(self._start(patience_s), patience_s))

    async def ready(self) -> None:
        """Wait until the shop is open. Raises ShopError."""
        try:
            async with asyncio.timeout(_READY_S):
                while not await _is_open(self._http_port):
                    if self._supervisor is not None and self._supervisor.done():
                        self._supervisor.result()
                    await asyncio.sleep(_POLL_S)
        except TimeoutError:
            raise ShopError(self._log_tail()) from None

    async def open(self) -> None:
        """Start it, wait, let the operator in."""
        if self.provider is not None:
            await self.provider.start()
        self.launch()
        await self.ready()
        await self.let_operator_in()

    async def let_operator_in(self) -> None:
        """Get the operator a fresh token; they are good for 15 minutes."""
        request = IssueTokenRequest(email="operator@shop.test", password="operator-demo")
        pair = await self.client.ask(request)
        self.operator = (("authorization", f"Bearer {pair.access_token}"),)

    async def kill(self) -> None:
        """SIGKILL, and nothing is started after it."""
        process = await self._let_go()
        process.kill()
        await process.ended()

    async def stop(self) -> int:
        """SIGTERM; answers the exit code. Raises ShopError when it does not end."""
        process = await self._let_go()
        process.terminate()
        try:
            async with asyncio.timeout(_STOP_S):
                return await process.ended()
        except TimeoutError:
            process.kill()
            await process.ended()
            raise ShopError(f"it did not stop:\n{self._log_tail()}") from None

    # --- the books

    async def until_rested(self) -> None:
        """Wait until no saga is under way."""

        async def look() -> bool:
            page = await self.client.ask(ListSagasRequest(open=True, page_size=1), metadata=self.operator)
            return not page.sagas

        await until(look, what="all sagas to rest")

    async def audit(self) -> Report:
        """What the audit says of the databases and of all that was acknowledged."""
        per_service = {name: url for name, url in self._databases.items() if name.endswith("_DB_URL")}
        settings = Settings(data_dir=self._data, per_service=per_service)
        return await run(AuditOptions(settings=settings, journal=self._journal.path, reread_after_s=0.3))

    async def close(self) -> None:
        """Make sure that nothing runs and nothing is open."""
        if self._supervisor is not None:
            await self.kill()
        if self.provider is not None:
            await self.provider.stop()
        await self._channel.close()
        self._journal.__exit__()

    @property
    def _data(self) -> Path:
        return self.folder / "data"

    def _new_provider(self) -> HostilePsp:
        webhooks = signing_sender(f"http://127.0.0.1:{self._http_port}/v1/webhooks/payments", WEBHOOK_SECRET)
        provider = HostilePsp(Book(self.folder / "psp.jsonl"), webhooks)
        provider.play(*_TRICKS)
        return provider

    def _start(self, patience_s: int) -> Process:
        payment = {"SHOP_PAYMENT_URL": self.provider.url, "SHOP_PAYMENT_API_KEY": API_KEY} if self.provider else {}
        environment = {
            "SHOP_DATA_DIR": str(self._data),
            "SHOP_HTTP_PORT": str(self._http_port),
            "SHOP_GRPC_PORT": str(self._grpc_port),
            "SHOP_SERVICE_SECRET": SERVICE_SECRET,
            "SHOP_WEBHOOK_SECRETS": WEBHOOK_SECRET,
            "SHOP_DEMO": "1",
            "SHOP_DRAIN_S": "2",
            "SHOP_CART_CLEANUP_EVERY_S": "1",
            "SHOP_PAYMENT_TIMEOUT_S": str(patience_s),
            "SHOP_LOG_LEVEL": "warning",
            VARIABLE: f"@{self._armed}",
            **self._databases,
            **payment,
        }
        self._process = Process(environment, self._log)
        return self._process

    async def _supervise(self, process: Process, patience_s: int) -> None:
        while True:
            self.deaths.append(await process.ended())
            # Armed still, it would strike again for ever.
            self._replace("")
            process = self._start(patience_s)

    async def _let_go(self) -> Process:
        if self._supervisor is None or self._process is None:
            raise ShopError("it was never started")
        self._supervisor.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._supervisor
        self._supervisor = None
        return self._process

    def _replace(self, text: str) -> None:
        draft = self._armed.with_name("armed.draft")
        draft.write_text(text)
        draft.replace(self._armed)

    def _lines(self) -> list[str]:
        return self._hits.read_text().splitlines() if self._hits.exists() else []

    def _log_tail(self) -> str:
        return self._log.read_text(errors="replace")[-3000:] if self._log.exists() else ""


async def _is_open(port: int) -> bool:
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    try:
        writer.write(b"GET /readyz HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")
        return (await reader.readline()).startswith(b"HTTP/1.1 200")
    except OSError:
        return False
    finally:
        writer.close()
