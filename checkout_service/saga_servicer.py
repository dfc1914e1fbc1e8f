"""SagaService: the contract's messages to the domain's values and back; nothing else."""

from collections.abc import Iterable
from typing import Any

import grpc

from checkout_service.log_store import TimelineEntry
from checkout_service.saga import OWING, Course, Resolution, SagaState
from checkout_service.saga_service import Listing, SagaService
from checkout_service.servicer import check_id, money_message, page_of
from mesh.caller import current_caller
from mesh.errors import FieldViolation, invalid
from mesh.paging import page
from mesh.timestamp import timestamp
from mesh.validate import Violations
from shop.checkout.v1 import saga_pb2, saga_pb2_grpc

_Context = grpc.aio.ServicerContext[Any, Any]


class SagaServicer(saga_pb2_grpc.SagaServiceServicer):
    """SagaService over the use cases."""

    def __init__(self, service: SagaService) -> None:
        self._service = service

    async def ListSagas(self, request: saga_pb2.ListSagasRequest, context: _Context) -> saga_pb2.ListSagasResponse:
        """As the contract says."""
        if request.state and request.state not in SagaState.__members__:
            raise invalid(FieldViolation("state", f"must be one of {', '.join(SagaState)}"))
        state = SagaState(request.state) if request.state else None
        order = ("sagas", state, request.open, request.stuck)
        size, after = page_of(request, order)
        listing = Listing(state, request.open, request.stuck, after, size + 1)
        found = page(
            await self._service.list_sagas(listing), size, listing=order, key=lambda course: [course.saga.saga_id]
        )
        return saga_pb2.ListSagasResponse(sagas=map(_saga_message, found.items), next_page_token=found.next_page_token)

    async def GetSaga(self, request: saga_pb2.GetSagaRequest, context: _Context) -> saga_pb2.Saga:
        """As the contract says."""
        check_id("saga_id", request.saga_id)
        course, timeline = await self._service.get_saga(request.saga_id)
        return _saga_message(course, timeline)

    async def RetrySaga(self, request: saga_pb2.RetrySagaRequest, context: _Context) -> saga_pb2.Saga:
        """As the contract says."""
        return _saga_message(await self._service.retry_saga(request.saga_id, **_who_and_why(request)))

    async def AbortSaga(self, request: saga_pb2.AbortSagaRequest, context: _Context) -> saga_pb2.Saga:
        """As the contract says."""
        return _saga_message(await self._service.abort_saga(request.saga_id, **_who_and_why(request)))

    async def ResolveSaga(self, request: saga_pb2.ResolveSagaRequest, context: _Context) -> saga_pb2.Saga:
        """As the contract says."""
        asked = _who_and_why(request)
        if request.resolution not in list(Resolution):
            raise invalid(FieldViolation("resolution", f"must be one of {', '.join(Resolution)}"))
        resolution = Resolution(request.resolution)
        return _saga_message(await self._service.resolve_saga(request.saga_id, resolution, **asked))


def _who_and_why(
    request: saga_pb2.RetrySagaRequest | saga_pb2.AbortSagaRequest | saga_pb2.ResolveSagaRequest,
) -> dict[str, str]:
    violations = Violations()
    violations.identifier("saga_id", request.saga_id)
    violations.text("reason", request.reason, least=1, most=500)
    violations.raise_if_any()
    return {"reason": request.reason, "actor": current_caller().subject}


def _saga_message(course: Course, timeline: Iterable[TimelineEntry] = ()) -> saga_pb2.Saga:
    saga, totals = course.saga, course.order.totals
    message = saga_pb2.Saga(
        saga_id=saga.saga_id,
        order_id=saga.saga_id,
        state=saga.state,
        epoch=saga.epoch,
        owner=saga.owner,
        attempts=saga.attempts,
        last_error=saga.last_error,
        stuck_reason=saga.stuck_reason,
        wish=saga.wish,
        owed=money_message(totals.currency_code, totals.total) if saga.state in OWING else None,
        timeline=map(_timeline_message, timeline),
    )
    times = {
        "next_attempt_time": saga.next_attempt_time,
        "create_time": saga.create_time,
        "update_time": saga.update_time,
    }
    for field, value in times.items():
        if value is not None:
            getattr(message, field).CopyFrom(timestamp(value))
    return message


def _timeline_message(entry: TimelineEntry) -> saga_pb2.TimelineEntry:
    return saga_pb2.TimelineEntry(what=entry.what, actor=entry.actor, text=entry.text, time=timestamp(entry.time))
