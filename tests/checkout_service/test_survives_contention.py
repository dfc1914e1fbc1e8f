"""More buyers than units, over and over: as many orders as there is stock, and nobody is told wrong."""

import asyncio
import random
from collections import Counter
from typing import Any

import pytest

from mesh.errors import Failure
from shop.checkout.v1 import checkout_pb2 as pb
from shop.inventory.v1 import inventory_pb2, inventory_pb2_grpc
from tests.checkout_service.shop import Shop
from tests.checkout_service.shopper import Shopper, end_of, new_product, stock

pytestmark = pytest.mark.asyncio(loop_scope="session")

SOLD_OUT = ("REJECTED", "OUT_OF_STOCK")


@pytest.mark.survives("last-unit")
async def test_of_two_hundred_buyers_one_gets_the_last_unit(shop: Shop) -> None:
    guest, sku = Shopper(shop), await new_product(shop, 1)
    carts = await asyncio.gather(*(guest.fill(sku) for _ in range(200)))

    orders = await asyncio.gather(*(guest.place(cart_id) for cart_id in carts))

    assert Counter(map(end_of, orders)) == {("PAID", ""): 1, SOLD_OUT: 199}
    assert await stock(shop, sku) == (0, 0)
