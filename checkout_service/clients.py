"""What checkout asks of the other services, in its own words. Calls that are made at the same time share one RPC.

Every method raises Failure as the other service meant it, or UNAVAILABLE / DEADLINE_EXCEEDED when it did not answer.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import grpc

from checkout_service.domain import CartView, Money, Order, Product
from mesh import status
from mesh.batch import Batcher
from mesh.channel import Calls
from mesh.errors import Failure
from shop.cart.v1 import cart_pb2, cart_pb2_grpc
from shop.inventory.v1 import catalog_pb2, catalog_pb2_grpc, inventory_pb2, inventory_pb2_grpc

# In background work no caller's deadline applies; the contract's per-method time-out is the ceiling in any case.
_TIMEOUT_S = 5.0
# So that a replica which hangs does not hold up those who could go to another.
_LANES = 2
# What the catalogue answers in one call; many large carts together may name more.
_MOST_SKUS = 1000


class CartClient:
    """Carts, read as their callers see them and settled once they are bought."""

    def __init__(self, channel: grpc.aio.Channel, calls: Calls) -> None:
        self._stub: Any = cart_pb2_grpc.CartServiceStub(channel)
        self._calls = calls
        self._views: Batcher[tuple[str, str], CartView] = Batcher("cart views", self._get_many)
        self._settlements: Batcher[Order, int] = Batcher("cart settlements", self._settle_many)

    async def get(self, cart_id: str, customer_id: str) -> CartView:
        """The cart as this caller (empty for a guest) sees it; one that is absent or somebody else's is empty."""
        return await self._views.submit((cart_id, customer_id))

    async def settle(self, order: Order) -> int:
        """Take what was bought out of the cart, and answer a version of it without that. Idempotent by order."""
        return await self._settlements.submit(order)

    async def close(self) -> None:
        """Finish what waits."""
        await self._views.close()
        await self._settlements.close()

    async def _get_many(self, views: Sequence[tuple[str, str]]) -> list[CartView | Failure]:
        members = [cart_pb2.BatchGetCartsRequest.View(cart_id=cart, customer_id=customer) for cart, customer in views]
        request = cart_pb2.BatchGetCartsRequest(views=members)
        response = await self._calls(self._stub.BatchGetCarts, request, timeout_s=_TIMEOUT_S)
        return [
            CartView(cart.cart_id, cart.version, {item.sku: item.quantity for item in cart.items})
            for cart in response.carts
        ]

    async def _settle_many(self, orders: Sequence[Order]) -> list[int | Failure]:
        request = cart_pb2.BatchSettleCartsRequest(settlements=[_settlement(order) for order in orders])
        response = await self._calls(self._stub.BatchSettleCarts, request, timeout_s=_TIMEOUT_S)
        # A cart service of before tells no versions.
        return list(response.versions) or [0] * len(orders)


class CatalogClient:
    """The catalogue's prices."""

    def __init__(self, channel: grpc.aio.Channel, calls: Calls) -> None:
        self._stub: Any = catalog_pb2_grpc.CatalogServiceStub(channel)
        self._calls = calls
        self._reads: Batcher[frozenset[str], Mapping[str, Product]] = Batcher("products", self._get_many)

    async def get(self, skus: frozenset[str]) -> Mapping[str, Product]:
        """The products of these SKUs that are sold now."""
        return await self._reads.submit(skus)

    async def close(self) -> None:
        """Finish what waits."""
        await self._reads.close()

    async def _get_many(self, wanted: Sequence[frozenset[str]]) -> list[Mapping[str, Product] | Failure]:
        skus = sorted(frozenset().union(*wanted))
        sold: dict[str, Product] = {}
        for start in range(0, len(skus), _MOST_SKUS):
            request = catalog_pb2.BatchGetProductsRequest(skus=skus[start : start + _MOST_SKUS])
            response = await self._calls(self._stub.BatchGetProducts, request, timeout_s=_TIMEOUT_S)
            sold |= {product.sku: _product(product) for product in response.products}
        return [{sku: sold[sku] for sku in asked if sku in sold} for asked in wanted]


@dataclass(frozen=True, slots=True)
class Hold:
    """A wish to hold an order's stock for `ttl_s` seconds, by the coordinator of `epoch`."""

    order: Order
    epoch: int
    ttl_s: int


@dataclass(frozen=True, slots=True)
class StockShortage:
    """A hold that was refused: what was available of each SKU asked for."""

    available: Mapping[str, int]


class InventoryClient:
    """Reservations of stock; the reservation's id is the order's."""

    def __init__(self, channel: grpc.aio.Channel, calls: Calls) -> None:
        self._stub: Any = inventory_pb2_grpc.InventoryServiceStub(channel)
        self._calls = calls
        self._reserves: Batcher[Hold, StockShortage | None] = Batcher("reserve", self._reserve_many, lanes=_LANES)
        self._commits: Batcher[tuple[str, int], None] = Batcher("commit", self._commit_many, lanes=_LANES)
        self._releases: Batcher[tuple[str, int], None] = Batcher("release", self._release_many, lanes=_LANES)

    async def reserve(self, hold: Hold) -> StockShortage | None:
        """Hold all lines or none. Idempotent. None when held, else what was available."""
        return await self._reserves.submit(hold)

    async def extend(self, order_id: str, *, epoch: int, ttl_s: int) -> None:
        """Make the hold last at least `ttl_s` seconds from now."""
        request = inventory_pb2.ExtendReservationRequest(reservation_id=order_id, epoch=epoch, ttl_s=ttl_s)
        await self._calls(self._stub.ExtendReservation, request, timeout_s=_TIMEOUT_S)

    async def commit(self, order_id: str, *, epoch: int) -> None:
        """Turn the hold into a sale. Idempotent."""
        await self._commits.submit((order_id, epoch))

    async def release(self, order_id: str, *, epoch: int) -> None:
        """Give back whatever the order took, sold or held, and bar what may still arrive. Idempotent."""
        await self._releases.submit((order_id, epoch))

    async def close(self) -> None:
        """Finish what waits."""
        await self._reserves.close()
        await self._commits.close()
        await self._releases.close()

    async def _reserve_many(self, holds: Sequence[Hold]) -> list[StockShortage | Failure | None]:
        request = inventory_pb2.BatchReserveRequest(requests=[_reserve_request(hold) for hold in holds])
        response = await self._calls(self._stub.BatchReserve, request, timeout_s=_TIMEOUT_S)
        return [_held_or_short(result) for result in response.results]

    async def _commit_many(self, commits: Sequence[tuple[str, int]]) -> list[Failure | None]:
        members = [inventory_pb2.CommitReservationRequest(reservation_id=key, epoch=epoch) for key, epoch in commits]
        request = inventory_pb2.BatchCommitRequest(requests=members)
        response = await self._calls(self._stub.BatchCommit, request, timeout_s=_TIMEOUT_S)
        return [_failure(result) for result in response.results]

    async def _release_many(self, releases: Sequence[tuple[str, int]]) -> list[Failure | None]:
        members = [
            inventory_pb2.ReleaseReservationRequest(reservation_id=key, epoch=epoch, return_committed=True)
            for key, epoch in releases
        ]
        request = inventory_pb2.BatchReleaseRequest(requests=members)
        response = await self._calls(self._stub.BatchRelease, request, timeout_s=_TIMEOUT_S)
        return [_failure(result) for result in response.results]


def _settlement(order: Order) -> cart_pb2.BatchSettleCartsRequest.Settlement:
    lines = [cart_pb2.BatchSettleCartsRequest.BoughtLine(sku=line.sku, quantity=line.quantity) for line in order.lines]
    return cart_pb2.BatchSettleCartsRequest.Settlement(
        cart_id=order.cart_id, order_id=order.order_id, lines=lines, cart_version=order.cart_version
    )


def _product(message: catalog_pb2.Product) -> Product:
    price = Money(message.price.currency_code, message.price.minor_units)
    return Product(message.sku, message.name, message.category, price, message.weight_grams)


def _reserve_request(hold: Hold) -> inventory_pb2.ReserveRequest:
    lines = [inventory_pb2.ReservationLine(sku=line.sku, quantity=line.quantity) for line in hold.order.lines]
    return inventory_pb2.ReserveRequest(
        reservation_id=hold.order.order_id, lines=lines, ttl_s=hold.ttl_s, epoch=hold.epoch
    )


def _held_or_short(result: inventory_pb2.ReservationResult) -> StockShortage | Failure | None:
    failure = _failure(result)
    if failure is not None and failure.reason == "OUT_OF_STOCK":
        return StockShortage({line.sku: line.available for line in result.refused_lines})
    return failure


def _failure(result: inventory_pb2.ReservationResult) -> Failure | None:
    return status.from_status(result.error) if result.HasField("error") else None
