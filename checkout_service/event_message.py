"""An order's event as the contract's message: what streams carry."""

from checkout_service.domain import OrderState
from checkout_service.outbox_store import OrderEvent
from mesh.timestamp import timestamp
from shop.checkout.v1 import checkout_pb2


def encode_event(event: OrderEvent) -> bytes:
    """The serialized shop.checkout.v1.OrderEvent, the same bytes each time."""
    message = checkout_pb2.OrderEvent(
        event_id=event.event_id,
        order_id=event.order_id,
        sequence=event.sequence,
        state=_STATES[event.state],
        reason=event.reason,
        actor=event.actor,
        create_time=timestamp(event.create_time),
    )
    return message.SerializeToString(deterministic=True)


_STATES = {state: checkout_pb2.OrderState.Value(f"ORDER_STATE_{state}") for state in OrderState}
