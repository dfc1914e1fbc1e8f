"""What the engine does in each state of a saga: one remote command, and what its answer means to the table.

Every command is keyed by the order's id and carries the epoch, so running one again is harmless. None raises for what a
remote service answers; only StaleCoordinatorError says that somebody else moves this saga now.
"""

from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime, timedelta

from checkout_service.clients import CartClient, Hold, InventoryClient
from checkout_service.payments.provider import Authorization, PaymentProvider, PaymentStatus
from checkout_service.saga import TABLE, Course, Outcome, Report, SagaState
from mesh.errors import Failure

# Beyond the customer's time to pay, stock stays held for what follows: commit, or void and release.
HOLD_MARGIN = timedelta(minutes=5)
_HOLD_GONE = {"RESERVATION_EXPIRED", "RESERVATION_RELEASED", "RESERVATION_NOT_FOUND", "RESERVATION_RETURNED"}

_PAYMENT_OUTCOMES: Mapping[PaymentStatus, Outcome] = {
    PaymentStatus.AUTHORIZED: Outcome.AUTHORIZED,
    PaymentStatus.DECLINED: Outcome.DECLINED,
    PaymentStatus.PENDING: Outcome.PENDING,
    PaymentStatus.CANCELLED: Outcome.CANCELLED,
    PaymentStatus.NOT_FOUND: Outcome.NOT_FOUND,
    PaymentStatus.CAPTURED: Outcome.CAPTURED,
    PaymentStatus.CAPTURE_REFUSED: Outcome.CAPTURE_REFUSED,
    PaymentStatus.REFUNDED: Outcome.REFUNDED,
    PaymentStatus.REFUND_REFUSED: Outcome.REFUND_REFUSED,
    PaymentStatus.UNKNOWN: Outcome.UNKNOWN,
}
# Nothing is set aside or taken any more.
_VOID = frozenset({PaymentStatus.CANCELLED, PaymentStatus.DECLINED, PaymentStatus.REFUNDED})


class StaleCoordinatorError(Exception):
    """A participant has seen a higher epoch: this saga was taken over, and we must not touch it any more."""


class Commands:
    """Runs the command that a state stands for. `payment_timeout` is the customer's time to pay."""

    def __init__(
        self,
        inventory: InventoryClient,
        carts: CartClient,
        provider: PaymentProvider,
        *,
        payment_timeout: timedelta,
    ) -> None:
        self._inventory = inventory
        self._carts = carts
        self._provider = provider
        self._hold_for = payment_timeout + HOLD_MARGIN
        self._payment_timeout = payment_timeout
        self._by_state: Mapping[SagaState, Callable[[Course, datetime], Awaitable[Report]]] = {
            SagaState.RESERVING: self._reserve,
            SagaState.AUTHORIZING: self._authorize,
            SagaState.FINDING_AUTHORIZATION: self._find_authorization,
            SagaState.COMMITTING: self._commit,
            SagaState.CAPTURING: self._capture,
            SagaState.FINDING_CAPTURE: self._find_capture,
            SagaState.SETTLING: self._settle,
            SagaState.VOIDING: self._void,
            SagaState.RELEASING: self._release,
            SagaState.RETURNING: self._release,
            SagaState.REFUNDING: self._refund,
        }

    async def run(self, course: Course, *, at: datetime) -> Report:
        """Run the command of the saga's state; `at` is the database's time, about now."""
        try:
            report = await self._by_state[course.saga.state](course, at)
        except Failure as failure:
            report = _report(failure)
        if report.outcome in TABLE[course.saga.state]:
            return report
        # Whoever answers off the table is asked again, and a person looks into it in the end.
        return Report(outcome=Outcome.UNKNOWN, error=f"{report.outcome} was answered in {course.saga.state}")

    async def payment_status(self, order_id: str) -> PaymentStatus:
        """What the provider says of the order's payment."""
        return (await self._provider.look_up(order_id)).status

    async def _reserve(self, course: Course, _: datetime) -> Report:
        hold = Hold(course.order, course.saga.epoch, int(self._hold_for.total_seconds()))
        shortage = await self._inventory.reserve(hold)
        if shortage is not None:
            return Report(outcome=Outcome.OUT_OF_STOCK, available=shortage.available)
        # Another try may have met the hold of the first, which ends sooner: it is extended before money is asked for.
        is_first = course.saga.epoch == 1 and not course.saga.attempts
        return Report(outcome=Outcome.RESERVED, held_for=self._hold_for if is_first else timedelta())

    async def _authorize(self, course: Course, at: datetime) -> Report:
        held_for = await self._extend_if_short(course, at)
        order = course.order
        result = await self._provider.authorize(
            Authorization(
                payment_key=order.order_id,
                token=course.saga.payment_token,
                amount_minor=order.totals.total,
                currency_code=order.totals.currency_code,
            )
        )
        return _payment_report(result.status, result.payment_id, held_for=held_for)

    async def _find_authorization(self, course: Course, at: datetime) -> Report:
        held_for = await self._extend_if_short(course, at)
        result = await self._provider.look_up(course.order.order_id)
        return _payment_report(result.status, result.payment_id, held_for=held_for)

    async def _commit(self, course: Course, _: datetime) -> Report:
        await self._inventory.commit(course.order.order_id, epoch=course.saga.epoch)
        return Report(outcome=Outcome.COMMITTED)

    async def _capture(self, course: Course, _: datetime) -> Report:
        result = await self._provider.capture(course.order.order_id)
        return _payment_report(result.status, result.payment_id)

    async def _find_capture(self, course: Course, _: datetime) -> Report:
        result = await self._provider.look_up(course.order.order_id)
        return _payment_report(result.status, result.payment_id)

    async def _settle(self, course: Course, _: datetime) -> Report:
        version = await self._carts.settle(course.order)
        return Report(outcome=Outcome.SETTLED, settled_version=version)

    async def _void(self, course: Course, _: datetime) -> Report:
        result = await self._provider.cancel(course.order.order_id)
        if result.status in _VOID:
            return Report(outcome=Outcome.VOIDED, payment_id=result.payment_id)
        if result.status is PaymentStatus.CAPTURED:
            return Report(outcome=Outcome.CAPTURED, payment_id=result.payment_id)
        return Report(outcome=Outcome.UNKNOWN, error=f"the provider answered {result.status} to cancel")

    async def _refund(self, course: Course, _: datetime) -> Report:
        result = await self._provider.refund(course.order.order_id)
        if result.status in _VOID:
            return Report(outcome=Outcome.REFUNDED)
        if result.status is PaymentStatus.REFUND_REFUSED:
            return Report(outcome=Outcome.REFUND_REFUSED, error="the provider refuses to refund")
        return Report(outcome=Outcome.UNKNOWN, error=f"the provider answered {result.status} to refund")

    async def _release(self, course: Course, _: datetime) -> Report:
        await self._inventory.release(course.order.order_id, epoch=course.saga.epoch)
        return Report(outcome=Outcome.RELEASED)

    async def _extend_if_short(self, course: Course, at: datetime) -> timedelta | None:
        """Before money is asked for, the hold must outlast the time that paying may take."""
        held_until = course.saga.held_until
        if held_until is not None and held_until - at > self._payment_timeout:
            return None
        ttl_s = int(self._hold_for.total_seconds())
        try:
            await self._inventory.extend(course.order.order_id, epoch=course.saga.epoch, ttl_s=ttl_s)
        except Failure as failure:
            # Sold already, by a run that was not recorded: what is sold does not expire.
            if failure.reason != "RESERVATION_COMMITTED":
                raise
        return self._hold_for


def _payment_report(status: PaymentStatus, payment_id: str, *, held_for: timedelta | None = None) -> Report:
    outcome = _PAYMENT_OUTCOMES[status]
    error = "the payment provider did not answer" if outcome is Outcome.UNKNOWN else ""
    return Report(outcome=outcome, payment_id=payment_id, held_for=held_for, error=error)


def _report(failure: Failure) -> Report:
    """What a participant's failure means: stock that is not there, a hold that is gone, or nothing known."""
    if failure.reason == "STALE_EPOCH":
        raise StaleCoordinatorError
    if failure.reason in _HOLD_GONE:
        return Report(outcome=Outcome.HOLD_LOST)
    if failure.reason == "PRODUCT_NOT_FOUND":
        # Retired between the quote and the hold: there is none to be had.
        return Report(outcome=Outcome.OUT_OF_STOCK, available={failure.metadata.get("sku", ""): 0})
    return Report(outcome=Outcome.UNKNOWN, error=str(failure)[:200])
