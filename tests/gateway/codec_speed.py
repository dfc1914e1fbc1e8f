"""The codec beside google.protobuf.json_format on five of the shop's messages, both ways, in turn."""

from __future__ import annotations

from collections.abc import Callable
from statistics import median
from time import thread_time_ns
from typing import NamedTuple

from google.protobuf import descriptor_pool, json_format
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from gateway.codec import Codec, parse
from shop.cart.v1 import cart_pb2
from shop.checkout.v1 import checkout_pb2
from shop.inventory.v1 import catalog_pb2, inventory_pb2
from shop.type.v1.money_pb2 import Money

# So often in turn, so long each time for json_format; that is as many calls as the first few tell.
_TURNS, _TURN_NS, _FIRST = 9, 5_000_000, 3
_NOW = Timestamp(seconds=1_767_323_045, nanos=678_000_000)


class Race(NamedTuple):
    """The same, done by the codec and by json_format."""

    ours: Callable[[], object]
    theirs: Callable[[], object]

    def ratio(self) -> float:
        """How many times as fast the codec is: the median over nine turns. Wants the garbage collector off."""
        times = max(1, _FIRST * _TURN_NS // _duration_ns(self.theirs, _FIRST))
        return median(_duration_ns(self.theirs, times) / _duration_ns(self.ours, times) for _ in range(_TURNS))


def money(minor_units: int) -> Money:
    return Money(currency_code="EUR", minor_units=minor_units)


def order() -> checkout_pb2.Order:
    lines = [
        checkout_pb2.OrderLine(
            sku=f"coffee-{number}", name="Coffee", quantity=2, unit_price=money(1999), line_total=money(3998)
        )
        for number in range(3)
    ]
    return checkout_pb2.Order(
        order_id="0198c0de-0000-7000-8000-000000000001",
        state=checkout_pb2.ORDER_STATE_PAID,
        lines=lines,
        subtotal=money(11_994),
        discount=money(0),
        shipping=money(490),
        tax=money(2_372),
        total=money(14_856),
        cart_id="0198c0de-0000-7000-8000-000000000002",
        customer_id="0198c0de-0000-7000-8000-000000000003",
        destination=checkout_pb2.Destination(country="DE", postal_code="10115", address="Straße 1, Berlin"),
        source=checkout_pb2.ORDER_SOURCE_WEB,
        payment_id="pay_1",
        invoice_number="INV-2026-0198c0de",
        create_time=_NOW,
        update_time=_NOW,
        created_by="guest",
        updated_by="checkout",
    )


def cart() -> cart_pb2.Cart:
    items = [
        cart_pb2.CartItem(sku=f"coffee-{number}", quantity=1, unit_price=money(1999), name="Coffee")
        for number in range(5)
    ]
    return cart_pb2.Cart(
        cart_id="0198c0de-0000-7000-8000-000000000002",
        version=7,
        items=items,
        subtotal=money(9995),
        update_time=_NOW,
    )


def product(number: int = 0) -> catalog_pb2.Product:
    return catalog_pb2.Product(
        sku=f"coffee-{number}",
        name="Yirgacheffe",
        description="Washed, from Ethiopia. " * 4,
        category="coffee",
        price=money(1999),
        weight_grams=1000,
        available=250,
        etag="9f86d081",
        create_time=_NOW,
        update_time=_NOW,
    )


def products() -> catalog_pb2.ListProductsResponse:
    return catalog_pb2.ListProductsResponse(
        products=[product(number) for number in range(20)], next_page_token="eyJvIjoic2t1In0"
    )


def reserve() -> inventory_pb2.BatchReserveRequest:
    requests = [
        inventory_pb2.ReserveRequest(
            reservation_id=f"0198c0de-0000-7000-8000-{number:012d}",
            lines=[inventory_pb2.ReservationLine(sku=f"coffee-{line}", quantity=2) for line in range(3)],
            ttl_s=900,
            epoch=3,
        )
        for number in range(10)
    ]
    return inventory_pb2.BatchReserveRequest(requests=requests)


MAKERS: tuple[Callable[[], Message], ...] = (order, cart, product, products, reserve)


def writing(message: Message) -> Race:
    """The message to JSON."""
    writer = Codec(descriptor_pool.Default()).writer
    return Race(
        lambda: writer.text(message),
        lambda: json_format.MessageToJson(message, indent=None, always_print_fields_with_no_presence=True),
    )


def reading(message: Message) -> Race:
    """The message from the JSON that the codec makes of it."""
    codec = Codec(descriptor_pool.Default())
    new, text, reader = type(message), codec.writer.text(message), codec.reader

    def ours() -> None:
        assert not reader.read(parse(text), new())

    return Race(ours, lambda: json_format.Parse(text, new()))


def _duration_ns(call: Callable[[], object], times: int) -> int:
    """In time of the processor, so that it matters less what else runs."""
    start = thread_time_ns()
    for _ in range(times):
        call()
    return thread_time_ns() - start
