"""Looks for payments that should not be: after an unpaid end, and after a success that was told once more.

The provider is asked for everything under the order's key; what is live there beside the order's own payment is voided
or refunded, and the operator finds it in the saga's log. Nothing of this moves a saga. Checks are due by the database's
clock, survive a crash, and are made by whoever comes first; making one twice is harmless.
"""

import asyncio
import logging
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

from checkout_service import log_store, operator_store
from checkout_service.domain import OrderState
from checkout_service.log_store import LogEntry, LogKind
from checkout_service.payments.provider import PaymentProvider, PaymentResult, PaymentStatus
from checkout_service.saga import Course
from mesh.db import Connection, Database, now

ACTOR = "checkout"
_AT_ONCE = 100
# The provider did not answer: it is asked again after this.
_AGAIN_AFTER = timedelta(minutes=1)
_KEEPS = frozenset({OrderState.PAID, OrderState.IN_TRANSIT, OrderState.COMPLETED})

_log = logging.getLogger(__name__)


class PaymentChecks:
    """Makes the checks that are due."""

    def __init__(self, database: Database, provider: PaymentProvider) -> None:
        self._database = database
        self._provider = provider

    async def run(self) -> None:
        """Make up to a hundred checks that are due now. Raises UNAVAILABLE when the database is away."""

        async def body(connection: Connection) -> tuple[list[Course], set[str]]:
            due = await operator_store.read_checks_due(connection, _AT_ONCE)
            repaid = await log_store.read_repaid(connection, [course.saga.saga_id for course in due]) if due else set()
            return due, repaid

        due, repaid = await self._database.transact("payment_checks_due", body, read_only=True)
        if not due:
            return
        undone = await asyncio.gather(
            *(self._void_strays(course, repaid=course.saga.saga_id in repaid) for course in due)
        )
        answered = {course.saga.saga_id: found for course, found in zip(due, undone, strict=True)}
        await self._record(due, answered)

    async def _void_strays(self, course: Course, *, repaid: bool) -> Sequence[PaymentResult] | None:
        order = course.order
        # What was paid back another way must not be paid back once more.
        keep = order.payment_id if repaid or order.state in _KEEPS else ""
        return await self._provider.void_others(order.order_id, keep=keep)

    async def _record(self, due: Sequence[Course], answered: Mapping[str, Sequence[PaymentResult] | None]) -> None:
        strays = [
            _stray(saga_id, result) for saga_id, found in answered.items() if found is not None for result in found
        ]
        for stray in strays:
            _log.warning("stray payment", extra={"saga_id": stray.saga_id, "payment": stray.detail})

        async def body(connection: Connection) -> None:
            at = await now(connection)
            await log_store.add_entries(connection, strays, at)
            await operator_store.set_check_times(connection, _next_checks(due, answered, at))

        await self._database.transact("payment_checks", body)


def _next_checks(
    due: Sequence[Course], answered: Mapping[str, Sequence[PaymentResult] | None], at: datetime
) -> dict[str, tuple[datetime | None, datetime | None]]:
    """By saga: the check time that was seen, and the next one, None for a check that was answered."""
    return {
        course.saga.saga_id: (
            course.saga.check_time,
            at + _AGAIN_AFTER if answered[course.saga.saga_id] is None else None,
        )
        for course in due
    }


def _stray(saga_id: str, result: PaymentResult) -> LogEntry:
    refused = result.status is PaymentStatus.REFUND_REFUSED
    became = "the provider refuses to give it back: it is owed" if refused else "was undone"
    return LogEntry(
        saga_id=saga_id,
        entry_id=f"stray-{result.payment_id}"[:64],
        kind=LogKind.STRAY_PAYMENT,
        actor=ACTOR,
        reason=f"A payment that should not be was found, and {became}.",
        detail=f"{result.payment_id} {result.status}",
    )
