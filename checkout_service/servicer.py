"""The contract's messages to the domain's values and back; nothing else."""

import re
from collections.abc import Awaitable, Callable, Sequence
from functools import lru_cache
from typing import Any, cast

import grpc
from google.api.httpbody_pb2 import HttpBody

from checkout_service.domain import (
    Destination,
    Invoice,
    Money,
    Order,
    OrderLine,
    OrderSource,
    OrderState,
    PlaceOrder,
    StoredAnswer,
    Totals,
)
from checkout_service.service import CheckoutService
from mesh.caller import current_caller
from mesh.channel import current_deadline
from mesh.errors import FieldViolation, invalid
from mesh.paging import decode_token, page, page_size
from mesh.timestamp import timestamp
from mesh.validate import Violations, is_id
from shop.checkout.v1 import checkout_pb2, checkout_pb2_grpc, saga_pb2
from shop.type.v1 import money_pb2

SIGNATURE_HEADER = "shop-signature"
_Context = grpc.aio.ServicerContext[Any, Any]
_COUNTRY = re.compile(r"[A-Z]{2}", re.ASCII)
_CURRENCY = re.compile(r"[A-Z]{3}", re.ASCII)
# What a client mistakes for a token when it sends the card itself (ISO/IEC 7812: 12 to 19 digits).
_CARD_NUMBER = re.compile(r"\W*(?:\d\W*){12,19}", re.ASCII)
_MOST_AMOUNT = 10**15


async def _planned(self: object, request: object, context: _Context) -> Any:
    """The interceptor answers in its place."""
    raise NotImplementedError


class CheckoutServicer(checkout_pb2_grpc.CheckoutServiceServicer):
    """CheckoutService over the use cases. Planned methods are answered by the interceptor."""

    def __init__(self, service: CheckoutService) -> None:
        self._service = service

    async def QuoteOrder(self, request: checkout_pb2.QuoteOrderRequest, context: _Context) -> checkout_pb2.Quote:
        """As the contract says."""
        violations = Violations()
        violations.uuid("cart_id", request.cart_id)
        _check_destination(violations, request.destination, whole=False)
        _check_promotions(violations, list(request.promotion_codes))
        violations.raise_if_any()
        quote = await self._service.quote_order(current_caller(), request.cart_id, _destination(request.destination))
        return checkout_pb2.Quote(lines=_lines(quote.lines, quote.totals.currency_code), **_amounts(quote.totals))

    async def PlaceOrder(self, request: checkout_pb2.PlaceOrderRequest, context: _Context) -> Any:
        """As the contract says: its Order, in bytes."""
        answer = await self._service.place_order(_place_order(request), deadline=current_deadline())
        return answer.encoded if isinstance(answer, StoredAnswer) else encode_order(answer)

    async def GetOrder(self, request: checkout_pb2.GetOrderRequest, context: _Context) -> checkout_pb2.Order:
        """As the contract says."""
        check_id("order_id", request.order_id)
        return order_message(await self._service.get_order(current_caller(), request.order_id))

    async def ListOrders(
        self, request: checkout_pb2.ListOrdersRequest, context: _Context
    ) -> checkout_pb2.ListOrdersResponse:
        """As the contract says."""
        state = _STATES_IN.get(request.state) if request.state else None
        if request.state and state is None:
            raise invalid(FieldViolation("state", "must be a known order state"))
        listing = ("orders", state)
        size, before = page_of(request, listing)
        orders = await self._service.list_orders(current_caller(), state=state, before=before, limit=size + 1)
        found = page(orders, size, listing=listing, key=lambda order: [order.order_id])
        return checkout_pb2.ListOrdersResponse(
            orders=map(order_message, found.items), next_page_token=found.next_page_token
        )

    async def GetInvoice(self, request: checkout_pb2.GetInvoiceRequest, context: _Context) -> checkout_pb2.Invoice:
        """As the contract says."""
        check_id("order_id", request.order_id)
        return _invoice_message(await self._service.get_invoice(current_caller(), request.order_id))

    async def ReceivePaymentEvent(self, request: HttpBody, context: _Context) -> checkout_pb2.ReceiveEventResponse:
        """As the contract says; the signature comes as metadata."""
        metadata = dict(context.invocation_metadata() or ())
        await self._service.receive_payment_event(request.data, str(metadata.get(SIGNATURE_HEADER, "")))
        return checkout_pb2.ReceiveEventResponse()

    async def CancelOrder(self, request: checkout_pb2.CancelOrderRequest, context: _Context) -> checkout_pb2.Order:
        """As the contract says."""
        return await self._undo(self._service.cancel_order, request)

    async def RefundOrder(self, request: checkout_pb2.RefundOrderRequest, context: _Context) -> checkout_pb2.Order:
        """As the contract says."""
        return await self._undo(self._service.refund_order, request)

    UpdateOrder = WatchOrder = ListOrderEvents = cast("Any", _planned)
    GetOrderMetrics = ReceiveDeliveryEvent = cast("Any", _planned)

    async def _undo(
        self,
        undo: Callable[..., Awaitable[Order]],
        request: checkout_pb2.CancelOrderRequest | checkout_pb2.RefundOrderRequest,
    ) -> checkout_pb2.Order:
        violations = Violations()
        violations.identifier("order_id", request.order_id)
        violations.identifier("request_id", request.request_id, optional=True)
        violations.text("reason", request.reason, most=500)
        violations.raise_if_any()
        order = await undo(
            current_caller(),
            request.order_id,
            reason=request.reason,
            request_id=request.request_id,
            deadline=current_deadline(),
        )
        return order_message(order)


def order_message(order: Order) -> checkout_pb2.Order:
    """The order as the contract shows it."""
    return checkout_pb2.Order(
        order_id=order.order_id,
        state=_STATES_OUT[order.state],
        reason=order.reason,
        lines=_lines(order.lines, order.totals.currency_code),
        cart_id=order.cart_id,
        customer_id=order.customer_id,
        destination=_destination_message(order.destination),
        promotion_codes=order.promotion_codes,
        source=_SOURCES_OUT[order.source],
        notes=order.notes,
        delivery_instructions=order.delivery_instructions,
        payment_id=order.payment_id,
        invoice_number=order.invoice_number,
        created_by=order.created_by,
        updated_by=order.updated_by,
        create_time=timestamp(order.create_time),
        update_time=timestamp(order.update_time),
        **_amounts(order.totals),
    )


# An order that is stored as an answer is answered, too, a moment later.
@lru_cache(maxsize=1000)
def encode_order(order: Order) -> bytes:
    """The order as the answer that its key repeats for ever."""
    return order_message(order).SerializeToString(deterministic=True)


def _place_order(request: checkout_pb2.PlaceOrderRequest) -> PlaceOrder:
    violations = Violations()
    violations.uuid("cart_id", request.cart_id)
    violations.identifier("request_id", request.request_id)
    _check_token(violations, request.payment_token)
    _check_destination(violations, request.destination, whole=True)
    _check_promotions(violations, list(request.promotion_codes))
    _check_expected(violations, request)
    if request.source not in _SOURCES_IN:
        violations.add("source", "must be a known source")
    violations.text("notes", request.notes, most=1000)
    violations.text("delivery_instructions", request.delivery_instructions, most=1000)
    violations.raise_if_any()
    expected = request.expected_total
    return PlaceOrder(
        caller_id=current_caller().customer_id,
        cart_id=request.cart_id,
        request_id=request.request_id,
        payment_token=request.payment_token,
        destination=_destination(request.destination),
        promotion_codes=tuple(request.promotion_codes),
        expected_total=Money(expected.currency_code, expected.minor_units)
        if request.HasField("expected_total")
        else None,
        source=_SOURCES_IN[request.source],
        notes=request.notes,
        delivery_instructions=request.delivery_instructions,
    )


def _check_token(violations: Violations, token: str) -> None:
    violations.text("payment_token", token, least=1, most=255)
    if _CARD_NUMBER.fullmatch(token):
        violations.add("payment_token", "looks like a card number; send what the payment provider gave for it")


def _check_destination(violations: Violations, destination: checkout_pb2.Destination, *, whole: bool) -> None:
    """A quote needs the country alone; an order needs somewhere to go."""
    if not _COUNTRY.fullmatch(destination.country):
        violations.add("destination.country", "must be two capital letters (ISO 3166-1), such as DE")
    least = 1 if whole else 0
    violations.text("destination.postal_code", destination.postal_code, most=20)
    violations.text("destination.address", destination.address, least=least, most=500)
    violations.text("destination.phone_number", destination.phone_number, most=40)


def _check_promotions(violations: Violations, codes: list[str]) -> None:
    # No code has been issued yet, so none is known.
    for index in range(len(codes)):
        violations.add(f"promotion_codes[{index}]", "is not a known promotion code")


def _check_expected(violations: Violations, request: checkout_pb2.PlaceOrderRequest) -> None:
    if not request.HasField("expected_total"):
        return
    expected = request.expected_total
    if not _CURRENCY.fullmatch(expected.currency_code):
        violations.add("expected_total.currency_code", "must be three capital letters (ISO 4217), such as EUR")
    violations.between("expected_total.minor_units", expected.minor_units, low=0, high=_MOST_AMOUNT)


def check_id(field: str, value: str) -> None:
    """Raise INVALID_ARGUMENT naming the field unless the value is an id."""
    violations = Violations()
    violations.identifier(field, value)
    violations.raise_if_any()


def page_of(
    request: checkout_pb2.ListOrdersRequest | saga_pb2.ListSagasRequest, listing: object
) -> tuple[int, str | None]:
    """How long a page is, and the id of the last item of the page before; None on the first."""
    violations = Violations()
    size = page_size(violations, request.page_size)
    last = decode_token(violations, request.page_token, listing, _last_id)
    violations.raise_if_any()
    return size, last


def _last_id(key: Sequence[str]) -> str:
    (last,) = key
    if not is_id(last):
        raise ValueError("no id")
    return last


def _destination(message: checkout_pb2.Destination) -> Destination:
    return Destination(message.country, message.postal_code, message.address, message.phone_number)


def _destination_message(destination: Destination) -> checkout_pb2.Destination:
    return checkout_pb2.Destination(
        country=destination.country,
        postal_code=destination.postal_code,
        address=destination.address,
        phone_number=destination.phone_number,
    )


def _lines(lines: tuple[OrderLine, ...], currency_code: str) -> list[checkout_pb2.OrderLine]:
    return [
        checkout_pb2.OrderLine(
            sku=line.sku,
            name=line.name,
            quantity=line.quantity,
            unit_price=money_message(currency_code, line.unit_minor),
            line_total=money_message(currency_code, line.total_minor),
            available=line.available,
        )
        for line in lines
    ]


def _amounts(totals: Totals) -> dict[str, Any]:
    """The five amounts that quotes, orders and invoices carry under the same names."""
    return {
        "subtotal": money_message(totals.currency_code, totals.subtotal),
        "discount": money_message(totals.currency_code, totals.discount),
        "shipping": money_message(totals.currency_code, totals.shipping),
        "tax": money_message(totals.currency_code, totals.tax),
        "total": money_message(totals.currency_code, totals.total),
    }


def money_message(currency_code: str, minor_units: int) -> money_pb2.Money:
    """An amount as the contract shows it."""
    return money_pb2.Money(currency_code=currency_code, minor_units=minor_units)


def _invoice_message(invoice: Invoice) -> checkout_pb2.Invoice:
    order = invoice.order
    return checkout_pb2.Invoice(
        invoice_number=invoice.invoice_number,
        order_id=order.order_id,
        lines=_lines(order.lines, order.totals.currency_code),
        destination=_destination_message(order.destination),
        create_time=timestamp(invoice.create_time),
        **_amounts(order.totals),
    )


_STATES_OUT = {state: checkout_pb2.OrderState.Value(f"ORDER_STATE_{state}") for state in OrderState}
_STATES_IN = {number: state for state, number in _STATES_OUT.items()}
_SOURCES_OUT = {
    source: checkout_pb2.OrderSource.Value(f"ORDER_SOURCE_{source or 'UNSPECIFIED'}") for source in OrderSource
}
_SOURCES_IN = {number: source for source, number in _SOURCES_OUT.items()}
