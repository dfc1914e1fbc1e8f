"""What reaches sagas from outside while they wait: wishes of people, and what the payment provider tells.

Any replica may take these in, so a waiting saga's owner looks for them in the database: at once if they came through
this process, else after a moment.
"""

import asyncio
import contextlib
from collections.abc import Sequence
from dataclasses import dataclass

from checkout_service import inbox_store, saga_store
from checkout_service.domain import PaymentEvent, PaymentEventKind
from checkout_service.saga import BEFORE_COMMIT, Course, Outcome, Report, SagaState
from mesh.db import Database

_LOOK_EVERY_S = 0.3
_EVENT_OUTCOMES = {
    PaymentEventKind.SUCCEEDED: Outcome.AUTHORIZED,
    PaymentEventKind.FAILED: Outcome.DECLINED,
    PaymentEventKind.CANCELLED: Outcome.CANCELLED,
}


@dataclass(frozen=True, slots=True)
class _Waiting:
    """A saga that waits, and the report that ends the wait."""

    course: Course
    report: asyncio.Future[Report]

    def tell(self, report: Report | None) -> None:
        """The first report counts."""
        if report is not None and not self.report.done():
            self.report.set_result(report)


class Outside:
    """The sagas of this process that wait, for time to pass or for a payment."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._waiting: dict[str, _Waiting] = {}
        self._touched = asyncio.Event()

    def waiting(self, order_id: str) -> Course | None:
        """The order's course, if it waits."""
        waiting = self._waiting.get(order_id)
        return waiting.course if waiting is not None else None

    async def wait(self, course: Course, left_s: float | None) -> Report | None:
        """Wait that long, or for ever with None, but for a report from outside: the first that comes."""
        saga_id = course.saga.saga_id
        waiting = self._waiting[saga_id] = _Waiting(course, asyncio.get_running_loop().create_future())
        # What came before the wait began is there to be found.
        self._touched.set()
        try:
            async with asyncio.timeout(left_s):
                return await waiting.report
        except TimeoutError:
            return None
        finally:
            if self._waiting.get(saga_id) is waiting:
                del self._waiting[saga_id]

    async def look(self, course: Course) -> Report | None:
        """What the provider has told about the order's payment by now."""
        order = course.order
        return _first_report((await self._read_events([order.order_id])).get(order.order_id, ()), order.payment_id)

    def wake(self) -> None:
        """Something came through this process: look now."""
        self._touched.set()

    async def watch(self) -> None:
        """Wait for a moment or a wake, then look for everybody who waits. To be repeated without a pause."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_LOOK_EVERY_S):
                await self._touched.wait()
        self._touched.clear()
        await self._take_wishes([key for key, one in self._waiting.items() if one.course.saga.state in BEFORE_COMMIT])
        await self._take_events([key for key, one in self._waiting.items() if _awaits_payment(one)])

    async def _take_wishes(self, saga_ids: Sequence[str]) -> None:
        if not saga_ids:
            return
        for saga_id in await self._database.transact(
            "wishes", lambda connection: saga_store.read_wishes(connection, saga_ids), read_only=True
        ):
            if saga_id in self._waiting:
                self._waiting[saga_id].tell(Report(outcome=Outcome.CALLED_OFF))

    async def _take_events(self, order_ids: Sequence[str]) -> None:
        if not order_ids:
            return
        for order_id, events in (await self._read_events(order_ids)).items():
            waiting = self._waiting.get(order_id)
            if waiting is not None and _awaits_payment(waiting):
                waiting.tell(_first_report(events, waiting.course.order.payment_id))

    async def _read_events(self, order_ids: Sequence[str]) -> dict[str, list[PaymentEvent]]:
        return await self._database.transact(
            "inbox", lambda connection: inbox_store.read_events(connection, order_ids), read_only=True
        )


def _awaits_payment(waiting: _Waiting) -> bool:
    return waiting.course.saga.state is SagaState.AWAITING_PAYMENT


def _first_report(events: Sequence[PaymentEvent], payment_id: str) -> Report | None:
    """The first event about this payment decides; what comes later finds the saga moved on."""
    for event in events:
        if event.kind in _EVENT_OUTCOMES and event.payment_id in ("", payment_id):
            return Report(outcome=_EVENT_OUTCOMES[event.kind])
    return None
