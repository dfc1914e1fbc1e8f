"""Answers shop.inventory.v1.InventoryService."""
# ruff: noqa: N802, ARG002 - the contract names the methods and their parameters

from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from typing import TypeVar

from inventory_service.domain.reservation import (
    DEFAULT_TTL_S,
    Commit,
    Extend,
    Failed,
    Line,
    Outcome,
    Release,
    Request,
    Reservation,
    Reserve,
    State,
)
from inventory_service.domain.stock import Adjust, Movement, Stock
from inventory_service.service.reservations import ReservationService
from inventory_service.service.stock import StockService
from inventory_service.servicer import Context
from mesh.caller import current_caller
from mesh.errors import Failure
from mesh.status import to_status
from mesh.timestamp import timestamp
from mesh.validate import Violations
from shop.inventory.v1 import inventory_pb2 as pb
from shop.inventory.v1 import inventory_pb2_grpc

Message = TypeVar("Message")

_MOST_REQUESTS = 1000
_STATES = {state: pb.ReservationState.Value(f"RESERVATION_STATE_{state}") for state in State}


class InventoryServicer(inventory_pb2_grpc.InventoryServiceServicer):
    """Proto to domain and back."""

    def __init__(self, stock: StockService, reservations: ReservationService) -> None:
        self._stock = stock
        self._reservations = reservations

    async def GetStock(self, request: pb.GetStockRequest, context: Context) -> pb.Stock:
        """See the contract."""
        return _stock(await self._stock.get_stock(request.sku))

    async def BatchGetStock(self, request: pb.BatchGetStockRequest, context: Context) -> pb.BatchGetStockResponse:
        """See the contract."""
        stocks = await self._stock.batch_get_stock(request.skus)
        return pb.BatchGetStockResponse(stocks=[_stock(stock) for stock in stocks])

    async def AdjustStock(self, request: pb.AdjustStockRequest, context: Context) -> pb.Stock:
        """See the contract."""
        adjust = Adjust(
            sku=request.sku,
            delta=request.delta,
            reason=request.reason,
            request_id=request.request_id,
            actor=current_caller().subject,
        )
        return _stock(await self._stock.adjust_stock(adjust))

    async def ListStockMovements(
        self, request: pb.ListStockMovementsRequest, context: Context
    ) -> pb.ListStockMovementsResponse:
        """See the contract."""
        page = await self._stock.list_stock_movements(
            request.sku, page_size_asked=request.page_size, page_token=request.page_token
        )
        movements = [_movement(movement) for movement in page.items]
        return pb.ListStockMovementsResponse(movements=movements, next_page_token=page.next_page_token)

    async def WatchStock(self, request: pb.WatchStockRequest, context: Context) -> AsyncIterator[pb.Stock]:
        """Planned: nothing comes here, the interceptor answers UNIMPLEMENTED."""
        raise NotImplementedError
        yield pb.Stock()

    async def Reserve(self, request: pb.ReserveRequest, context: Context) -> pb.Reservation:
        """See the contract."""
        return _reservation(await self._reservations.reserve(_reserve(request)))

    async def GetReservation(self, request: pb.GetReservationRequest, context: Context) -> pb.Reservation:
        """See the contract."""
        return _reservation(await self._reservations.get_reservation(request.reservation_id))

    async def CommitReservation(self, request: pb.CommitReservationRequest, context: Context) -> pb.Reservation:
        """See the contract."""
        return _reservation(await self._reservations.commit_reservation(_commit(request)))

    async def ReleaseReservation(self, request: pb.ReleaseReservationRequest, context: Context) -> pb.Reservation:
        """See the contract."""
        return _reservation(await self._reservations.release_reservation(_release(request)))

    async def ExtendReservation(self, request: pb.ExtendReservationRequest, context: Context) -> pb.Reservation:
        """See the contract."""
        extend = Extend(reservation_id=request.reservation_id, ttl_s=request.ttl_s, epoch=request.epoch)
        return _reservation(await self._reservations.extend_reservation(extend))

    async def BatchReserve(self, request: pb.BatchReserveRequest, context: Context) -> pb.BatchReserveResponse:
        """See the contract."""
        return pb.BatchReserveResponse(results=await self._batch(request.requests, _reserve))

    async def BatchCommit(self, request: pb.BatchCommitRequest, context: Context) -> pb.BatchCommitResponse:
        """See the contract."""
        return pb.BatchCommitResponse(results=await self._batch(request.requests, _commit))

    async def BatchRelease(self, request: pb.BatchReleaseRequest, context: Context) -> pb.BatchReleaseResponse:
        """See the contract."""
        return pb.BatchReleaseResponse(results=await self._batch(request.requests, _release))

    async def _batch(
        self, messages: Sequence[Message], read: Callable[[Message], Request]
    ) -> list[pb.ReservationResult]:
        violations = Violations()
        violations.count("requests", len(messages), most=_MOST_REQUESTS)
        violations.raise_if_any()
        requests = [_read_or_failure(read, message) for message in messages]
        return [_result(outcome) for outcome in await self._reservations.batch(requests)]


def _read_or_failure(read: Callable[[Message], Request], message: Message) -> Request | Failure:
    try:
        return read(message)
    except Failure as failure:
        return failure


def _reserve(request: pb.ReserveRequest) -> Reserve:
    return Reserve(
        reservation_id=request.reservation_id,
        lines=tuple(Line(line.sku, line.quantity) for line in request.lines),
        ttl_s=request.ttl_s or DEFAULT_TTL_S,
        epoch=request.epoch,
    )


def _commit(request: pb.CommitReservationRequest) -> Commit:
    return Commit(reservation_id=request.reservation_id, actor=current_caller().subject, epoch=request.epoch)


def _release(request: pb.ReleaseReservationRequest) -> Release:
    return Release(
        reservation_id=request.reservation_id,
        actor=current_caller().subject,
        epoch=request.epoch,
        return_committed=request.return_committed,
    )


def _result(outcome: Outcome) -> pb.ReservationResult:
    if isinstance(outcome, Failed):
        return pb.ReservationResult(error=to_status(outcome.failure), refused_lines=_lines(outcome.refused_lines))
    return pb.ReservationResult(reservation=_reservation(outcome))


def _reservation(reservation: Reservation) -> pb.Reservation:
    return pb.Reservation(
        reservation_id=reservation.reservation_id,
        state=_STATES[reservation.state],
        lines=_lines(reservation.lines),
        expire_time=None if reservation.expire_time is None else timestamp(reservation.expire_time),
        create_time=timestamp(reservation.create_time),
        epoch=reservation.epoch,
    )


def _lines(lines: Iterable[Line]) -> list[pb.ReservationLine]:
    return [pb.ReservationLine(sku=line.sku, quantity=line.quantity, available=line.available) for line in lines]


def _stock(stock: Stock) -> pb.Stock:
    return pb.Stock(
        sku=stock.sku,
        on_hand=stock.on_hand,
        held=stock.held,
        available=stock.available,
        update_time=timestamp(stock.update_time),
    )


def _movement(movement: Movement) -> pb.StockMovement:
    return pb.StockMovement(
        movement_id=movement.movement_id,
        sku=movement.sku,
        delta=movement.delta,
        reason=movement.reason,
        reservation_id=movement.reservation_id,
        actor=movement.actor,
        create_time=timestamp(movement.create_time),
    )
