"""The contract's messages to and from the cart service's own values; nothing else."""

from typing import Any

import grpc

from cart_service.domain import Cart, Settle, View
from cart_service.prices import Money, PricedCart
from cart_service.service import CartService
from mesh.caller import current_caller
from mesh.timestamp import timestamp
from shop.cart.v1 import cart_pb2, cart_pb2_grpc
from shop.type.v1 import money_pb2

Context = grpc.aio.ServicerContext[Any, Any]


class CartServicer(cart_pb2_grpc.CartServiceServicer):
    """Serves shop.cart.v1.CartService."""

    def __init__(self, service: CartService) -> None:
        self._service = service

    async def GetCart(self, request: cart_pb2.GetCartRequest, context: Context) -> cart_pb2.Cart:
        """Read a cart."""
        return _cart(await self._service.get_cart(current_caller(), request.cart_id))

    async def AddItem(self, request: cart_pb2.AddItemRequest, context: Context) -> cart_pb2.Cart:
        """Add to the quantity of a SKU."""
        cart = await self._service.add_item(
            current_caller(),
            request.cart_id,
            request.sku,
            quantity=request.quantity,
            request_id=request.request_id,
        )
        return _cart(cart)

    async def SetItemQuantity(self, request: cart_pb2.SetItemQuantityRequest, context: Context) -> cart_pb2.Cart:
        """Set the quantity of a SKU."""
        cart = await self._service.set_item_quantity(
            current_caller(), request.cart_id, request.sku, quantity=request.quantity
        )
        return _cart(cart)

    async def RemoveItem(self, request: cart_pb2.RemoveItemRequest, context: Context) -> cart_pb2.Cart:
        """Take a SKU out."""
        return _cart(await self._service.remove_item(current_caller(), request.cart_id, request.sku))

    async def ClearCart(self, request: cart_pb2.ClearCartRequest, context: Context) -> cart_pb2.Cart:
        """Take everything out."""
        return _cart(await self._service.clear_cart(current_caller(), request.cart_id))

    async def MergeCarts(self, request: cart_pb2.MergeCartsRequest, context: Context) -> cart_pb2.Cart:
        """Planned: the interceptor answers in its place."""
        raise NotImplementedError

    async def BatchGetCarts(
        self, request: cart_pb2.BatchGetCartsRequest, context: Context
    ) -> cart_pb2.BatchGetCartsResponse:
        """Read many carts."""
        carts = await self._service.batch_get_carts([View(v.cart_id, v.customer_id) for v in request.views])
        return cart_pb2.BatchGetCartsResponse(carts=[_bare_cart(cart) for cart in carts])

    async def BatchSettleCarts(
        self, request: cart_pb2.BatchSettleCartsRequest, context: Context
    ) -> cart_pb2.BatchSettleCartsResponse:
        """Take out what was bought."""
        settled = await self._service.batch_settle_carts([_settle(settlement) for settlement in request.settlements])
        return cart_pb2.BatchSettleCartsResponse(versions=[cart.version for cart in settled])


def _cart(priced: PricedCart) -> cart_pb2.Cart:
    message = _bare_cart(priced.cart)
    for item in message.items:
        product = priced.products.get(item.sku)
        if product is not None:
            item.name = product.name
            item.unit_price.CopyFrom(_money(product.price))
    if priced.cart.update_time is not None:
        message.update_time.CopyFrom(timestamp(priced.cart.update_time))
    if priced.subtotal is not None:
        message.subtotal.CopyFrom(_money(priced.subtotal))
    return message


def _bare_cart(cart: Cart) -> cart_pb2.Cart:
    items = [cart_pb2.CartItem(sku=line.sku, quantity=line.quantity) for line in cart.lines.values()]
    return cart_pb2.Cart(cart_id=cart.cart_id, version=cart.version, items=items)


def _money(money: Money) -> money_pb2.Money:
    return money_pb2.Money(currency_code=money.currency_code, minor_units=money.minor_units)


def _settle(message: cart_pb2.BatchSettleCartsRequest.Settlement) -> Settle:
    bought: dict[str, int] = {}
    for line in message.lines:
        bought[line.sku] = bought.get(line.sku, 0) + line.quantity
    return Settle(message.cart_id, message.order_id, bought, message.cart_version)
