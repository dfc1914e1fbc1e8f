"""What has to be true once all is quiet again: every saga rests, the books agree, what was acknowledged is there."""

import asyncio
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from shopmesh.audit import AuditOptions
from shopmesh.audit.command import run as audit
from tests.nemesis.cluster import Cluster
from tests.nemesis.load import Seen

_POLL_S = 0.5
# Neither is a customer's fault, nor does a call that is tried again mend it.
_NEVER = ("INTERNAL", "UNKNOWN", "DATA_LOSS", "UNAUTHENTICATED", "DATA_REFUSED", "NOT_THE_CONTRACT")

_RESTLESS = """
    SELECT saga_id, state, owner, epoch, attempts, last_error, next_attempt_time, wish, stuck_reason
    FROM shop_checkout.sagas WHERE state NOT IN ('DONE', 'UNDONE') ORDER BY saga_id"""
# Each query answers what is wrong, a row each, and is written without any code of the shop or of its audit.
_EXACT = {
    "stock is not what was delivered less what was sold": """
        SELECT stock.sku, stock.on_hand, stock.held, delivered.units, COALESCE(sold.units, 0)
        FROM shop_inventory.stock
        JOIN (SELECT sku, SUM(delta) AS units FROM shop_inventory.movements WHERE reservation_id = '' GROUP BY sku)
            AS delivered ON delivered.sku = stock.sku
        LEFT JOIN (SELECT sku, SUM(quantity) AS units
            FROM shop_checkout.order_lines JOIN shop_checkout.orders USING (order_id)
            WHERE orders.state IN ('PAID', 'IN_TRANSIT', 'COMPLETED') GROUP BY sku) AS sold ON sold.sku = stock.sku
        WHERE stock.held <> 0 OR stock.on_hand <> delivered.units - COALESCE(sold.units, 0)""",
    "money is not what the paid orders cost": """
        SELECT kept.minor, owed.minor
        FROM (SELECT COALESCE(SUM(captured_minor - refunded_minor), 0) AS minor FROM shop_psp.payments) AS kept
        JOIN (SELECT COALESCE(SUM(total_minor), 0) AS minor FROM shop_checkout.orders
            WHERE state IN ('PAID', 'IN_TRANSIT', 'COMPLETED')) AS owed
        WHERE kept.minor <> owed.minor""",
    "money is set aside for nothing": """
        SELECT payment_key, state, amount_minor FROM shop_psp.payments WHERE state IN ('AUTHORIZED', 'PENDING')""",
    "an order was bought again": """
        SELECT cart_id, cart_version, COUNT(*) FROM shop_checkout.orders
        WHERE state IN ('PAID', 'REFUNDED') GROUP BY cart_id, cart_version HAVING COUNT(*) > 1""",
    "a wish to undo an order was granted and forgotten": """
        SELECT DISTINCT orders.order_id, orders.state, saga_log.kind
        FROM shop_checkout.saga_log JOIN shop_checkout.orders ON orders.order_id = saga_log.saga_id
        WHERE saga_log.kind IN ('CANCEL', 'REFUND', 'ABORT') AND orders.state IN ('PAID', 'IN_TRANSIT', 'COMPLETED')""",
    "a cart waits for an order that has ended": """
        SELECT cart_claims.cart_id, cart_claims.order_id, orders.state
        FROM shop_checkout.cart_claims JOIN shop_checkout.orders ON orders.order_id = cart_claims.order_id
        WHERE orders.state NOT IN ('RECEIVED', 'RESERVED', 'AUTHORIZED', 'PAYMENT_PENDING')""",
    "a transaction was left open": """
        SELECT trx_mysql_thread_id, trx_state, trx_started FROM information_schema.innodb_trx
        WHERE trx_started < NOW() - INTERVAL 5 SECOND""",
}
_ORDERS = "SELECT CONCAT_WS(' ', state, NULLIF(reason, '')), COUNT(*) FROM shop_checkout.orders GROUP BY 1"
_EPOCHS = "SELECT CAST(epoch AS CHAR), COUNT(*) FROM shop_checkout.sagas GROUP BY 1"


@dataclass(slots=True)
class Verdict:
    """What was examined and what was found; `violations` is empty when all that was promised holds."""

    # Seconds from the last fault's end until every saga rested; None when some did not in time.
    rest_after_s: float | None = None
    violations: list[str] = field(default_factory=list)
    # Worth a look, and nothing broken.
    notices: list[str] = field(default_factory=list)
    # How many orders ended how, how many sagas have which epoch, how many things the audit examined per invariant.
    orders: dict[str, int] = field(default_factory=dict)
    epochs: dict[str, int] = field(default_factory=dict)
    audited: dict[str, int] = field(default_factory=dict)


async def until_rest(cluster: Cluster, verdict: Verdict, *, since: float, within_s: float) -> None:
    """Wait until every saga rests, counting from `since` in loop time; each that does not is a violation."""
    loop = asyncio.get_running_loop()
    while restless := await asyncio.to_thread(_rows, cluster, _RESTLESS):
        if loop.time() > since + within_s:
            verdict.violations += [
                f"a saga does not rest {within_s:.0f} s after the last fault: {row}" for row in restless
            ]
            return
        await asyncio.sleep(_POLL_S)
    verdict.rest_after_s = loop.time() - since


async def examine(cluster: Cluster, verdict: Verdict, journal: Path) -> None:
    """Audit the databases with the journal, then count for ourselves."""
    report = await audit(AuditOptions(settings=cluster.settings, journal=journal))
    verdict.audited = {str(invariant): number for invariant, number in report.checked.items()}
    for listed, found in ((verdict.violations, report.findings), (verdict.notices, report.notices)):
        listed += [f"{one.invariant} {one.subject} {one.fault.rule}: {one.fault.message}" for one in found]
    for sentence, query in _EXACT.items():
        verdict.violations += [f"{sentence}: {row}" for row in await asyncio.to_thread(_rows, cluster, query)]
    verdict.orders = dict(await asyncio.to_thread(_rows, cluster, _ORDERS))
    verdict.epochs = dict(await asyncio.to_thread(_rows, cluster, _EPOCHS))


def judge(cluster: Cluster, verdict: Verdict, seen: Seen) -> None:
    """Take in what the customers saw, and how the processes are."""
    verdict.violations += seen.differences
    verdict.violations += [f"somebody was answered {error}, {number} times" for error, number in _forbidden(seen)]
    verdict.violations += [f"{name} has ended by itself" for name in cluster.dead()]
    for name, process in cluster.processes.items():
        verdict.notices += [
            f"{name} logged {number} times: {event}" for event, number in _errors(process.output).items()
        ]


def _forbidden(seen: Seen) -> Iterator[tuple[str, int]]:
    for error, number in seen.errors.items():
        if error.partition(" ")[2] in _NEVER:
            yield error, number


def _errors(output: str) -> Counter[str]:
    """The events that a process has logged as errors."""
    lines = (json.loads(line) for line in output.splitlines() if line.startswith("{") and line.endswith("}"))
    return Counter(line["event"] for line in lines if line.get("level") == "error")


def _rows(cluster: Cluster, query: str) -> list[tuple[Any, ...]]:
    with cluster.administrator() as cursor:
        cursor.execute(query)
        return list(cursor.fetchall())
