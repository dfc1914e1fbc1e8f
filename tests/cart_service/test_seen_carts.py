"""A cart that an order has looked at is settled without another look, unless it has changed since."""

import uuid

import pytest

from cart_service.domain import Settle, View
from cart_service.service import CartService
from mesh.caller import Caller, Tier
from tests.cart_service.conftest import MakeService
from tests.support.faults import Watched

ANN = Caller(Tier.CUSTOMER, "ann")


async def seen(service: CartService, cart_id: str) -> None:
    """A cart that an order has looked at, in version 2."""
    await service.add_item(ANN, cart_id, "apple", quantity=3)
    await service.add_item(ANN, cart_id, "pear", quantity=1)
    await service.batch_get_carts([View(cart_id, "ann")])


async def quantities(service: CartService, cart_id: str) -> dict[str, int]:
    found = await service.get_cart(ANN, cart_id)
    return {sku: line.quantity for sku, line in found.cart.lines.items()}


async def test_a_seen_cart_is_settled_without_a_look(service: CartService, cart_id: str) -> None:
    await seen(service, cart_id)
    watched = Watched(service._database)

    [settled] = await service.batch_settle_carts([Settle(cart_id, "o1", {"apple": 2, "pear": 1}, version=2)])

    assert not watched.read("carts")
    assert settled.version == 3
    assert await quantities(service, cart_id) == {"apple": 1}


async def test_a_cart_that_changed_since_is_looked_at(make_service: MakeService, cart_id: str) -> None:
    service, other = await make_service(), await make_service()
    await seen(service, cart_id)
    await other.add_item(ANN, cart_id, "apple", quantity=5)
    watched = Watched(service._database)

    [settled] = await service.batch_settle_carts([Settle(cart_id, "o1", {"apple": 2, "pear": 1}, version=2)])

    assert watched.read("carts")
    assert watched.transactions == 2
    assert settled.version == 4
    assert await quantities(service, cart_id) == {"apple": 6}


async def test_a_cart_that_was_seen_in_another_version_is_looked_at(service: CartService, cart_id: str) -> None:
    await seen(service, cart_id)
    watched = Watched(service._database)

    # Made of what another replica has seen.
    [settled] = await service.batch_settle_carts([Settle(cart_id, "o1", {"apple": 2, "pear": 1}, version=1)])

    assert watched.read("carts")
    assert watched.transactions == 1
    assert settled.version == 3


async def test_carts_in_different_versions_are_settled_together(service: CartService) -> None:
    carts = {str(uuid.uuid4()): additions for additions in (1, 2, 1, 3)}
    for cart_id, additions in carts.items():
        for _ in range(additions):
            await service.add_item(ANN, cart_id, "apple", quantity=1)
    await service.batch_get_carts([View(cart_id, "ann") for cart_id in carts])
    watched = Watched(service._database)

    settled = await service.batch_settle_carts(
        [Settle(cart_id, cart_id, {"apple": 1}, version=additions) for cart_id, additions in carts.items()]
    )

    assert watched.transactions == 1
    assert [cart.version for cart in settled] == [additions + 1 for additions in carts.values()]
    assert [await quantities(service, cart_id) for cart_id in carts] == [{}, {"apple": 1}, {}, {"apple": 2}]


@pytest.mark.parametrize("settled_by", ["this one", "another"])
async def test_an_order_is_settled_once_whoever_has_seen_the_cart(
    make_service: MakeService, cart_id: str, settled_by: str
) -> None:
    service, other = await make_service(), await make_service()
    await seen(service, cart_id)
    settlement = Settle(cart_id, "o1", {"apple": 2, "pear": 1}, version=2)
    await (service if settled_by == "this one" else other).batch_settle_carts([settlement])
    # Seen again, in the version that the settlement has left.
    await service.batch_get_carts([View(cart_id, "ann")])

    [settled] = await service.batch_settle_carts([settlement])

    assert settled.version == 3
    assert await quantities(service, cart_id) == {"apple": 1}
