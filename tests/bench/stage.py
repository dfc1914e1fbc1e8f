"""What the figures are measured on: the servers, the mesh, the monolith's database, and what watches them."""

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import pymysql  # type: ignore[import-untyped]
import uvloop
from pymysql.cursors import Cursor  # type: ignore[import-untyped]

from mesh.clock import SYSTEM_CLOCK
from shopmesh.audit import AuditOptions
from shopmesh.audit.command import run as audit
from tests.bench import grpc_load, monolith, naive, wrk
from tests.bench.apart import apart
from tests.bench.carts import HOT, SPREAD, Kind, add_carts
from tests.bench.cpu import cpu_s
from tests.bench.mesh import Mesh, Servers
from tests.bench.sample import LOAD, Load, Measured, Sample
from tests.shopmesh.audit.shop import DATABASES

FEW_ORDERS = 3_000
HOT_SKU = "SKU-0000"
SATURATING = 128
# More checkouts in a second than either side will make here; who runs out of carts ends its window early.
_MOST_RATE = 1_500
_REST_S = 30.0
_POLL_S = 0.05
_WRITTEN_S = 120.0
# Of pages or of old versions; some always are.
_FEW = 500

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How long and how often. `many_orders` are those of the tables that are compared with few."""

    rounds: int
    window_s: float
    warm_s: float
    many_orders: int
    sell_out: int
    connections: Sequence[int]
    slack: float


@dataclass(frozen=True, slots=True)
class Check:
    """Something that has to be so, whatever the speed."""

    what: str
    holds: bool
    found: str


@dataclass(slots=True)
class Stage:
    """All that a figure needs. Made by `staged`."""

    options: Options
    servers: Servers
    mesh: Mesh
    cursor: Cursor
    checks: list[Check] = field(default_factory=list)
    # How orders ended, over all windows.
    ends: dict[str, int] = field(default_factory=dict)
    # All that was measured of the mesh with so many connections.
    saturated: list[Measured] = field(default_factory=list)
    _carts: int = 0

    def load(self, in_flight: int) -> Load:
        """The usual load with so many at the same time."""
        return Load(in_flight=in_flight, warm_s=self.options.warm_s, window_s=self.options.window_s)

    def carts(self, database: str, kind: Kind, number: int) -> list[str]:
        """New carts in a database, by their ids."""
        self._carts += 1
        return add_carts(self.cursor, database, kind, name=f"bench-{self._carts}", number=number)

    def enough(self, load: Load) -> int:
        """How many carts a window may take."""
        return int(_MOST_RATE * (load.warm_s + load.window_s)) + load.in_flight

    def orders(self, *, hot: bool = False, connections: int = SATURATING, mesh: Mesh | None = None) -> Measured:
        """PlaceOrder through REST by wrk. What was answered is compared with what the database says."""
        mesh, load = mesh or self.mesh, self.load(connections)
        cart_ids = self.carts(mesh.database("cart"), HOT if hot else SPREAD, self.enough(load))

        def run() -> Sample:
            first = SYSTEM_CLOCK.uuid7()
            sample = wrk.place_orders(mesh.http_url, load, cart_ids)
            self.until_rest(mesh)
            self._count_ends(mesh, first, sample)
            return sample

        measured = self.watch(mesh.pids, run)
        if connections == SATURATING and mesh is self.mesh:
            self.saturated.append(measured)
        return measured

    def monolith(self, *, connections: int = SATURATING) -> Measured:
        """The same checkouts by the monolith."""
        load = self.load(connections)
        cart_ids = self.carts(monolith.DATABASE, SPREAD, self.enough(load))
        run = lambda: apart(monolith.measure, self.servers.mariadb.port, cart_ids, load)  # noqa: E731
        return self.watch(self._database_alone(), run, name="monolith")

    def naive(self) -> Measured:
        """One reservation in a transaction, on one row."""
        run = lambda: apart(  # noqa: E731
            naive.measure, self.servers.mariadb.port, monolith.DATABASE, HOT_SKU, self.load(SATURATING)
        )
        return self.watch(self._database_alone(), run, name="naive")

    def calls(self, target: grpc_load.Target, in_flight: int) -> Measured:
        """Calls over gRPC."""
        return self.watch(self.mesh.pids, lambda: apart(grpc_load.measure, target, self.load(in_flight)))

    def watch(self, pids: Mapping[str, int], run: Callable[[], Sample], *, name: str = LOAD) -> Measured:
        """Run, and note what the processes took meanwhile; the load's own time goes by `name`."""
        before, commits = cpu_s(pids), self.commits()
        sample = run()
        commits = self.commits() - commits
        after = cpu_s(pids)
        taken = {process: after[process] - before[process] for process in pids}
        return Measured(sample=sample, cpu_s={**taken, name: sample.cpu_s}, commits=commits)

    def commits(self) -> int:
        """COMMITs that the server has been asked for so far, by all its clients.

        Each counts, whether it wrote anything or not, leases and sweeps included. Transactions that only read end with
        ROLLBACK here and do not count: they force nothing to the disk. So this is the most that can be said of writes.
        """
        return self._status("Com_commit")

    def until_rest(self, mesh: Mesh) -> None:
        """Return when no saga of the mesh is under way. Raises TimeoutError after half a minute."""
        self._until_none(f"{mesh.database('checkout')}.sagas", "owner <> ''", "sagas are still under way")

    def until_told(self, mesh: Mesh) -> None:
        """Return when all that happened to the mesh's orders has left its outbox. Raises TimeoutError likewise."""
        self._until_none(f"{mesh.database('checkout')}.outbox", "TRUE", "events are still in the outbox")

    def until_written(self) -> None:
        """Return when the server has brought to the disk what it was given; how long that takes is nobody's order's.

        Raises TimeoutError after two minutes.
        """
        deadline = time.monotonic() + _WRITTEN_S
        self.cursor.execute("SELECT @@GLOBAL.innodb_max_dirty_pages_pct")
        [before] = self.cursor.fetchone()
        self.cursor.execute("SET GLOBAL innodb_max_dirty_pages_pct = 0")
        while (
            self._status("Innodb_buffer_pool_pages_dirty") > _FEW or self._status("Innodb_history_list_length") > _FEW
        ):
            if time.monotonic() > deadline:
                raise TimeoutError("the server is still writing")
            time.sleep(_POLL_S)
        self.cursor.execute("SET GLOBAL innodb_max_dirty_pages_pct = %s", (before,))

    def audit(self, mesh: Mesh) -> None:
        """Audit the databases of a mesh at rest; nothing may be found."""
        report = uvloop.run(audit(AuditOptions(settings=mesh.settings)))
        found = [f"{one.invariant} {one.subject} {one.fault.rule}" for one in report.findings]
        examined = sum(report.checked.values())
        self.check(f"findings of the audit of {mesh.prefix}, {examined:,} things examined", found, [])

    def take_back_reservations(self) -> None:
        """Delete what the mesh holds for no order, hundreds of thousands of times, and let go of as many units.

        The audit would look at each of them four times. Whether units held are those of reservations it still sees.
        """
        stock, lines, reservations = (
            f"{self.mesh.database('inventory')}.{name}" for name in ("stock", "reservation_lines", "reservations")
        )
        held = (
            f"{reservations} JOIN {lines} USING (reservation_id)"
            f" LEFT JOIN {self.mesh.database('checkout')}.orders ON order_id = reservation_id"
            f" WHERE order_id IS NULL AND {reservations}.state = 'HELD'"
        )
        sums = f"SELECT sku, SUM(quantity) AS units FROM {held} GROUP BY sku"  # noqa: S608 - words of ours
        self.cursor.execute(f"UPDATE {stock} JOIN ({sums}) AS taken USING (sku) SET held = held - units")  # noqa: S608
        self.cursor.execute(f"DELETE {reservations}, {lines} FROM {held}")

    def check(self, what: str, found: object, expected: object) -> None:
        """Note whether something is as it has to be."""
        self.checks.append(Check(what, found == expected, f"{found}"))
        _log.info("  %s: %s%s", what, found, "" if found == expected else f", NOT {expected}")

    def count(self, table: str, where: str = "TRUE") -> int:
        """How many rows a table has, by its full name."""
        self.cursor.execute(f"SELECT COUNT(*) FROM {table} WHERE {where}")  # noqa: S608 - words of ours
        return int(self.cursor.fetchone()[0])

    def stock(self, sku: str) -> tuple[int, int]:
        """How much of a SKU the mesh has on hand, and holds."""
        query = f"SELECT on_hand, held FROM {self.mesh.database('inventory')}.stock WHERE sku = %s"  # noqa: S608
        self.cursor.execute(query, (sku,))
        on_hand, held = self.cursor.fetchone()
        return on_hand, held

    def _until_none(self, table: str, where: str, otherwise: str) -> None:
        deadline = time.monotonic() + _REST_S
        while self.count(table, where):
            if time.monotonic() > deadline:
                raise TimeoutError(otherwise)
            time.sleep(_POLL_S)

    def _status(self, name: str) -> int:
        self.cursor.execute("SHOW GLOBAL STATUS LIKE %s", (name,))
        return int(self.cursor.fetchone()[1])

    def _count_ends(self, mesh: Mesh, first: str, sample: Sample) -> None:
        table = f"{mesh.database('checkout')}.orders"
        query = f"SELECT state, COUNT(*) FROM {table} WHERE order_id >= %s GROUP BY state"  # noqa: S608
        self.cursor.execute(query, (first,))
        ends = dict(self.cursor.fetchall())
        for state, number in ends.items():
            self.ends[state] = self.ends.get(state, 0) + number
        if ends != {"PAID": sample.answered}:
            self.check("orders answered with 2xx are PAID", ends, {"PAID": sample.answered})

    def _database_alone(self) -> dict[str, int]:
        return {"mariadb": self.servers.mariadb.pid}


@contextmanager
def staged(options: Options, servers: Servers) -> Iterator[Stage]:
    """The stage, with the mesh running on it. The servers have to be up."""
    mesh = Mesh(servers, "shop", redis=0)
    uvloop.run(mesh.migrate(orders=FEW_ORDERS))
    connection = pymysql.connect(
        host="127.0.0.1", port=servers.mariadb.port, user="shop", password="shop", autocommit=True
    )
    with connection, connection.cursor() as cursor:
        _copy(cursor, mesh, monolith.DATABASE)
        with mesh.running():
            yield Stage(options, servers, mesh, cursor)


def _copy(cursor: Cursor, mesh: Mesh, database: str) -> None:
    """All tables of the mesh, with what is in them, as tables of one database."""
    cursor.execute(f"CREATE DATABASE {database} CHARACTER SET utf8mb4")
    for part, metadata in DATABASES.items():
        for table in metadata.tables:
            source = f"{mesh.database(part)}.{table}"
            cursor.execute(f"CREATE TABLE {database}.{table} LIKE {source}")
            cursor.execute(f"INSERT INTO {database}.{table} SELECT * FROM {source}")  # noqa: S608
