"""What goes on in the shop while a failpoint strikes: short stories with an end that no failure may change.

A strike makes things slower and repeats them. It never turns a paid order into a failed one, or the other way round: so
each story says exactly how it ends.
"""

import asyncio
import uuid
from collections.abc import Callable, Coroutine
from typing import Any

from google.protobuf.field_mask_pb2 import FieldMask

from mesh.errors import Failure
from shop.cart.v1 import cart_pb2
from shop.checkout.v1 import checkout_pb2, saga_pb2
from shop.identity.v1 import identity_pb2
from shop.inventory.v1 import catalog_pb2, inventory_pb2
from shopmesh.emulator.visit import state_of
from tests.chaos.scene import (
    BERLIN,
    BrokenPromiseError,
    Scene,
    answered,
    answers_again,
    checked_again,
    ended,
    filled_cart,
    new_id,
    ordered,
    pending,
    place_request,
    placed,
    product_request,
    unless_over,
    until,
    webhook,
)

Story = Callable[[Scene], Coroutine[Any, Any, None]]


async def bought(scene: Scene) -> None:
    """A guest buys, reads the order and its invoice, and asks once more under the same key."""
    paid = await ordered(scene, "tok_ok", {scene.sku: 1}, ends=("PAID", ""))
    invoice = await scene.client.ask(checkout_pb2.GetInvoiceRequest(order_id=paid.order_id))
    if invoice.total != paid.total:
        raise BrokenPromiseError(f"the invoice of {paid.order_id} says {invoice.total}, the order {paid.total}")


async def bought_two_lines(scene: Scene) -> None:
    """Two lines, and a provider that tells of its success twice besides."""
    await ordered(scene, "tok_webhook_twice", {scene.other: 2, scene.sku: 1}, ends=("PAID", ""))


async def declined_then_bought(scene: Scene) -> None:
    """A card is declined; the same cart is bought with another."""
    cart_id = await filled_cart(scene, {scene.sku: 1})
    await placed(scene, cart_id, "tok_decline", ends=("PAYMENT_FAILED", "CARD_DECLINED"))
    await placed(scene, cart_id, "tok_ok", ends=("PAID", ""))


async def charged_unheard(scene: Scene) -> None:
    """The provider charges, and its answer is lost."""
    await ordered(scene, "tok_timeout_charged", {scene.sku: 1}, ends=("PAID", ""))


async def capture_refused(scene: Scene) -> None:
    """The provider sets the money aside and refuses to hand it over."""
    await ordered(scene, "tok_capture_decline", {scene.other: 1}, ends=("PAYMENT_FAILED", "CAPTURE_DECLINED"))


async def last_unit(scene: Scene) -> None:
    """Two carts, one unit: one gets it."""
    carts = [await filled_cart(scene, {scene.last: 1}) for _ in range(2)]
    orders = await asyncio.gather(*(placed(scene, cart_id, "tok_ok") for cart_id in carts))
    if sorted((state_of(order), order.reason) for order in orders) != [("PAID", ""), ("REJECTED", "OUT_OF_STOCK")]:
        raise BrokenPromiseError(f"two orders of one unit ended as {[state_of(order) for order in orders]}")


async def confirmed_later(scene: Scene) -> None:
    """A pending payment is confirmed by a webhook."""
    order, _ = await pending(scene)
    await webhook(scene, order)
    await ended(scene, order.order_id, "PAID")
    scene.sold[scene.sku] += 1


async def cancelled(scene: Scene) -> None:
    """A pending order is cancelled; what the provider says later changes nothing."""
    order, request = await pending(scene)
    cancel = checkout_pb2.CancelOrderRequest(order_id=order.order_id, reason="no more", request_id=new_id())
    await scene.client.ask(cancel)
    await ended(scene, order.order_id, "CANCELLED")
    await webhook(scene, order)
    await checked_again(scene, order.order_id)
    await answers_again(scene, request, await scene.client.ask_for_bytes(request))


async def refunded(scene: Scene) -> None:
    """A paid order goes back; a second request for it changes nothing."""
    paid = await ordered(scene, "tok_ok", {scene.sku: 1}, ends=("PAID", ""))
    refund = checkout_pb2.RefundOrderRequest(order_id=paid.order_id, reason="broken", request_id=new_id())
    await scene.client.ask(refund, metadata=scene.operator)
    await ended(scene, paid.order_id, "REFUNDED")
    scene.sold[scene.sku] -= 1
    await scene.client.ask(refund, metadata=scene.operator)


async def aborted(scene: Scene) -> None:
    """The operator turns a saga back that waits for its payment."""
    order, _ = await pending(scene)
    abort = saga_pb2.AbortSagaRequest(saga_id=order.order_id, reason="a test")
    await scene.client.ask(abort, metadata=scene.operator)
    order = await ended(scene, order.order_id, "CANCELLED")
    if order.reason != "ABORTED_BY_OPERATOR":
        raise BrokenPromiseError(f"{order.order_id} was aborted and shows {order.reason}")


async def resolved(scene: Scene) -> None:
    """A provider never answers; the operator looks, tries again, and says that nothing was charged."""
    request = place_request(await filled_cart(scene, {scene.other: 1}), "tok_timeout")
    order = await scene.client.ask(request, timeout_s=0.7)
    saga_id = order.order_id
    await scene.client.ask(saga_pb2.ListSagasRequest(open=True, page_size=100), metadata=scene.operator)
    await scene.client.ask(saga_pb2.GetSagaRequest(saga_id=saga_id), metadata=scene.operator)
    for wish in (
        saga_pb2.RetrySagaRequest(saga_id=saga_id, reason="a test"),
        saga_pb2.ResolveSagaRequest(saga_id=saga_id, reason="asked the bank", resolution="not_charged"),
    ):
        await unless_over(scene, wish)
    answer = await answered(scene, request)
    scene.orders.append(answer.message)
    if (state_of(answer.message), answer.message.reason) != ("PAYMENT_FAILED", "PAYMENT_TIMEOUT"):
        raise BrokenPromiseError(f"{saga_id}, never charged, ended as {answer.message}")


async def account(scene: Scene) -> None:
    """Somebody registers, signs in, changes the name, signs in anew and out, and lists orders."""
    email, password = f"{uuid.uuid4().hex}@example.com", "correct horse battery"
    register = identity_pb2.RegisterRequest(email=email, password=password, name="A")
    await scene.client.ask(register, settled_by=("EMAIL_TAKEN",))
    pair = await scene.client.ask(identity_pb2.IssueTokenRequest(email=email, password=password))
    bearer = (("authorization", f"Bearer {pair.access_token}"),)
    rename = identity_pb2.UpdateMeRequest(
        customer=identity_pb2.Customer(name="B"), update_mask=FieldMask(paths=["name"])
    )
    await scene.client.ask(rename, metadata=bearer)
    me = await scene.client.ask(identity_pb2.GetMeRequest(), metadata=bearer)
    if me.name != "B":
        raise BrokenPromiseError(f"{email} was renamed to B and is {me.name}")
    await scene.client.ask(checkout_pb2.ListOrdersRequest(), metadata=bearer)
    refresh = identity_pb2.RefreshTokenRequest(refresh_token=pair.refresh_token)
    # A lost answer took the new token along: whoever shows the old one again has to sign in anew.
    fresh = await scene.client.ask(refresh, settled_by=("REFRESH_TOKEN_REUSED", "TOKEN_REUSED"))
    await scene.client.ask(identity_pb2.RevokeTokenRequest(refresh_token=(fresh or pair).refresh_token))


async def shelf(scene: Scene) -> None:
    """The operator adds a product, changes it, looks at it and takes it off."""
    sku = f"shelf-{uuid.uuid4().hex[:16]}"
    ask = scene.client.ask
    await ask(product_request(sku), metadata=scene.operator, settled_by=("PRODUCT_EXISTS",))
    change = catalog_pb2.Product(sku=sku, name="Changed")
    update = catalog_pb2.UpdateProductRequest(product=change, update_mask=FieldMask(paths=["name"]))
    await ask(update, metadata=scene.operator)
    await until(lambda: _shows(scene, sku, "Changed"), what=f"{sku} to show its new name")
    await ask(catalog_pb2.ListProductsRequest(page_size=5))
    receipt = inventory_pb2.AdjustStockRequest(sku=sku, delta=3, reason="receipt", request_id=f"more-{sku}")
    for _ in range(2):
        await ask(receipt, metadata=scene.operator)
    moved = await ask(inventory_pb2.ListStockMovementsRequest(sku=sku), metadata=scene.operator)
    if [movement.delta for movement in moved.movements] != [3]:
        raise BrokenPromiseError(f"3 of {sku} were received once, the ledger has {moved}")
    await ask(catalog_pb2.DeleteProductRequest(sku=sku), metadata=scene.operator, settled_by=("PRODUCT_NOT_FOUND",))


async def cart_of_many_minds(scene: Scene) -> None:
    """A cart is filled, changed and emptied; another is asked for its price."""
    ask = scene.client.ask
    cart_id = await filled_cart(scene, {scene.sku: 1, scene.other: 1})
    await ask(cart_pb2.SetItemQuantityRequest(cart_id=cart_id, sku=scene.sku, quantity=3))
    await ask(cart_pb2.RemoveItemRequest(cart_id=cart_id, sku=scene.other))
    cart = await ask(cart_pb2.GetCartRequest(cart_id=cart_id))
    if {item.sku: item.quantity for item in cart.items} != {scene.sku: 3}:
        raise BrokenPromiseError(f"cart {cart_id} should have 3 of {scene.sku}, it has {cart.items}")
    await ask(cart_pb2.ClearCartRequest(cart_id=cart_id))
    await ask(checkout_pb2.QuoteOrderRequest(cart_id=await filled_cart(scene, {scene.sku: 1}), destination=BERLIN))


async def hold_that_expires(scene: Scene) -> None:
    """Stock is held for a second; then it is there again, and the hold cannot be sold any more."""
    key = new_id()
    lines = [inventory_pb2.ReservationLine(sku=scene.other, quantity=2)]
    reserve = inventory_pb2.ReserveRequest(reservation_id=key, lines=lines, ttl_s=1)
    await scene.client.ask(reserve, metadata=scene.service, settled_by=("RESERVATION_EXPIRED",))
    look = inventory_pb2.GetReservationRequest(reservation_id=key)

    async def expired() -> bool:
        found = await scene.client.ask(look, metadata=scene.operator)
        return bool(found.state == inventory_pb2.RESERVATION_STATE_EXPIRED)

    await until(expired, what=f"the hold {key} to expire")
    try:
        commit = inventory_pb2.CommitReservationRequest(reservation_id=key)
        await scene.client.ask(commit, metadata=scene.service)
    except Failure as failure:
        if failure.reason != "RESERVATION_EXPIRED":
            raise
    else:
        raise BrokenPromiseError(f"the hold {key} had expired and was sold")


# Under way whatever strikes: orders of several kinds.
ORDERS: tuple[Story, ...] = (
    bought,
    bought_two_lines,
    declined_then_bought,
    charged_unheard,
    capture_refused,
    last_unit,
)
# Under way where they are what hits a failpoint.
OTHERS: tuple[Story, ...] = (
    confirmed_later,
    cancelled,
    refunded,
    aborted,
    resolved,
    account,
    shelf,
    cart_of_many_minds,
    hold_that_expires,
)


async def _shows(scene: Scene, sku: str, name: str) -> bool:
    product = await scene.client.ask(catalog_pb2.GetProductRequest(sku=sku))
    return bool(product.name == name)
