"""Load for a running mesh: guests who browse, fill a cart, order and read the invoice, over REST and over gRPC.

`make load` runs it. REST goes to --host (or SHOP_TEST_HTTP), gRPC to SHOP_TEST_GRPC. locust-plugins turns the failure
ratio into the exit code (--check-fail-ratio). A product that sells out is the shop's lawful answer, not a failure.
"""

import os
import random
import time
import uuid
from collections.abc import Callable
from http import HTTPStatus
from typing import Any, TypeVar

import grpc
import grpc.experimental.gevent as grpc_gevent
import locust_plugins  # noqa: F401 - registers --check-fail-ratio and its like
from locust import FastHttpUser, User, between, task
from locust.env import Environment

from shop.cart.v1 import cart_pb2, cart_pb2_grpc
from shop.checkout.v1 import checkout_pb2, checkout_pb2_grpc
from shop.inventory.v1 import catalog_pb2, catalog_pb2_grpc

# After locust's own patching of the standard library, before the first channel.
grpc_gevent.init_gevent()

Answer = TypeVar("Answer")
Json = dict[str, Any]

RANDOM = random.SystemRandom()
CALL_TIMEOUT_S = 15.0
PAGE_SIZE = 50
LINES_PER_CART = 3
# A card that pays: an order ends paid, or rejected because others were quicker.
PAYMENT_TOKEN = "tok_ok"
PAID = "ORDER_STATE_PAID"
ENDS = {PAID, "ORDER_STATE_REJECTED"}
DESTINATION = {"country": "DE", "postalCode": "10115", "address": "Invalidenstrasse 43, Berlin"}


class RestShopper(FastHttpUser):
    """A guest at the REST shim."""

    host = os.environ.get("SHOP_TEST_HTTP", "http://127.0.0.1:8080")
    wait_time = between(0.1, 0.5)
    network_timeout = CALL_TIMEOUT_S
    weight = 4

    @task
    def buy(self) -> None:
        """One purchase with a new cart: list, look, add, read back, order, invoice."""
        cart = f"/v1/carts/{uuid.uuid4()}"
        skus = self._browse()
        added = [sku for sku in RANDOM.sample(skus, min(LINES_PER_CART, len(skus))) if self._add(cart, sku)]
        if not added:
            return
        self._call("GET", cart, "/v1/carts/{cart_id}")
        order = self._order(cart.rpartition("/")[2])
        if order.get("state") == PAID:
            self._call("GET", f"/v1/orders/{order['orderId']}/invoice", "/v1/orders/{order_id}/invoice")

    def _browse(self) -> list[str]:
        listing = f"/v1/products?pageSize={PAGE_SIZE}&inStock=true"
        skus = [product["sku"] for product in self._call("GET", listing, "/v1/products").get("products", [])]
        if skus:
            self._call("GET", f"/v1/products/{RANDOM.choice(skus)}", "/v1/products/{sku}")
        return skus

    def _add(self, cart: str, sku: str) -> bool:
        body = {"sku": sku, "quantity": RANDOM.randint(1, 2), "requestId": str(uuid.uuid4())}
        answer = self._call("POST", f"{cart}/items", "/v1/carts/{cart_id}/items", body, lawful=("OUT_OF_STOCK",))
        return "cartId" in answer

    def _order(self, cart_id: str) -> Json:
        body = {"cartId": cart_id, "paymentToken": PAYMENT_TOKEN, "destination": DESTINATION}
        key = {"Idempotency-Key": str(uuid.uuid4())}
        return self._call("POST", "/v1/orders", "/v1/orders", body, headers=key, complaint=complaint_about)

    def _call(
        self,
        method: str,
        path: str,
        name: str,
        body: Json | None = None,
        *,
        headers: dict[str, str] | None = None,
        lawful: tuple[str, ...] = (),
        complaint: Callable[[Json], str] = lambda _: "",
    ) -> Json:
        """The answer as JSON, {} for an error. One with a `lawful` reason counts as success, a complaint as failure."""
        with self.client.request(method, path, name=name, json=body, headers=headers, catch_response=True) as response:
            # 0 stands for no answer at all.
            answer: Json = response.json() if response.status_code else {}
            ok = response.status_code == HTTPStatus.OK
            problem = complaint(answer) if ok else reason_of(answer) or "no reason"
            if problem and problem not in lawful:
                response.failure(f"{response.status_code} {problem}")
            else:
                response.success()
            return answer if ok else {}


def reason_of(error: Json) -> str:
    """The ErrorInfo reason of an AIP-193 error, or its status."""
    details = error.get("error", {}).get("details", [])
    named = [detail["reason"] for detail in details if "reason" in detail]
    return str(named[0] if named else error.get("error", {}).get("status", ""))


def complaint_about(order: Json) -> str:
    """What is wrong with how an order ended; empty when nothing is."""
    state = str(order.get("state"))
    return "" if state in ENDS else f"{state} {order.get('reason')}"


class GrpcShopper(User):
    """A guest at the gRPC port."""

    wait_time = between(0.1, 0.5)
    weight = 1

    def __init__(self, environment: Environment) -> None:
        super().__init__(environment)
        self._channel = grpc.insecure_channel(os.environ.get("SHOP_TEST_GRPC", "127.0.0.1:50051"))
        self._catalog = catalog_pb2_grpc.CatalogServiceStub(self._channel)
        self._carts = cart_pb2_grpc.CartServiceStub(self._channel)
        self._checkout = checkout_pb2_grpc.CheckoutServiceStub(self._channel)

    def on_stop(self) -> None:
        """Close the connection."""
        self._channel.close()

    @task
    def buy(self) -> None:
        """One purchase with a new cart, as RestShopper's."""
        cart_id = str(uuid.uuid4())
        listing = catalog_pb2.ListProductsRequest(page_size=PAGE_SIZE, in_stock=True)
        page = self._call("CatalogService/ListProducts", self._catalog.ListProducts, listing)
        products = list(page.products) if page else []
        chosen = RANDOM.sample(products, min(LINES_PER_CART, len(products)))
        if not [product for product in chosen if self._add(cart_id, product.sku)]:
            return
        order = self._order(cart_id)
        if order and order.state == checkout_pb2.ORDER_STATE_PAID:
            invoice = checkout_pb2.GetInvoiceRequest(order_id=order.order_id)
            self._call("CheckoutService/GetInvoice", self._checkout.GetInvoice, invoice)

    def _add(self, cart_id: str, sku: str) -> bool:
        item = cart_pb2.AddItemRequest(
            cart_id=cart_id, sku=sku, quantity=RANDOM.randint(1, 2), request_id=str(uuid.uuid4())
        )
        sold_out = (grpc.StatusCode.FAILED_PRECONDITION,)
        return self._call("CartService/AddItem", self._carts.AddItem, item, lawful=sold_out) is not None

    def _order(self, cart_id: str) -> checkout_pb2.Order | None:
        destination = checkout_pb2.Destination(
            country=DESTINATION["country"],
            postal_code=DESTINATION["postalCode"],
            address=DESTINATION["address"],
        )
        request = checkout_pb2.PlaceOrderRequest(
            cart_id=cart_id,
            request_id=str(uuid.uuid4()),
            payment_token=PAYMENT_TOKEN,
            destination=destination,
        )
        return self._call("CheckoutService/PlaceOrder", self._checkout.PlaceOrder, request)

    def _call(
        self,
        name: str,
        method: Callable[..., Answer],
        request: object,
        *,
        lawful: tuple[grpc.StatusCode, ...] = (),
    ) -> Answer | None:
        """The answer, None for an error; one with a `lawful` code counts as success, as RestShopper's."""
        answer: Answer | None = None
        problem: Exception | None = None
        start = time.perf_counter()
        try:
            answer = method(request, timeout=CALL_TIMEOUT_S)
        except grpc.RpcError as error:
            problem = None if error.code() in lawful else error
        if isinstance(answer, checkout_pb2.Order) and (complaint := complaint_about(as_json(answer))):
            problem = UnexpectedEndError(complaint)
        self.environment.events.request.fire(
            request_type="gRPC",
            name=name,
            response_time=(time.perf_counter() - start) * 1000,
            response_length=0,
            exception=problem,
        )
        return answer


def as_json(order: checkout_pb2.Order) -> Json:
    """How the order ended, as the shim would say it."""
    return {"state": checkout_pb2.OrderState.Name(order.state), "reason": order.reason}


class UnexpectedEndError(Exception):
    """An order ended in a state that its payment token does not lead to."""
