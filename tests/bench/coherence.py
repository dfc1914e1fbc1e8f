"""Whether two replicas of the cart service are of one mind: what one acknowledged, the other shows at once."""

import uuid
from collections.abc import Sequence

import grpc

from shop.cart.v1 import cart_pb2_grpc
from shop.cart.v1.cart_pb2 import AddItemRequest, GetCartRequest


async def count_missed(addresses: Sequence[str], sku: str, carts: int) -> int:
    """Fill so many carts, each time at the other replica, read each where it was not filled; how often it differed."""
    channels = [grpc.aio.insecure_channel(address) for address in addresses]
    services = [cart_pb2_grpc.CartServiceStub(channel) for channel in channels]
    missed = 0
    for number in range(carts):
        writer, reader = services[number % 2], services[1 - number % 2]
        cart_id = str(uuid.uuid4())
        for quantity in (1, 2, 3):
            await writer.AddItem(AddItemRequest(cart_id=cart_id, sku=sku, quantity=1))
            cart = await reader.GetCart(GetCartRequest(cart_id=cart_id))
            missed += [item.quantity for item in cart.items] != [quantity]
    for channel in channels:
        await channel.close()
    return missed
