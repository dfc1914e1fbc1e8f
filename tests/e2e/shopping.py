"""What the tests do in the shop, in a line each."""

import asyncio
import hashlib
import hmac
import json
import ssl
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, TypeVar

import grpc
import httpx

from tests.e2e.running_shop import WEBHOOK_SECRET, RunningShop

Json = dict[str, Any]
T = TypeVar("T")

DESTINATION = {"country": "DE", "postalCode": "10115", "address": "Invalidenstrasse 43, Berlin"}
ERROR_INFO = "type.googleapis.com/google.rpc.ErrorInfo"
BAD_REQUEST = "type.googleapis.com/google.rpc.BadRequest"
RETRY_INFO = "type.googleapis.com/google.rpc.RetryInfo"


@asynccontextmanager
async def rest_client(base_url: str) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the REST shim."""
    # Nothing here speaks TLS; an empty context saves reading the machine's certificates for every client.
    no_tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    async with httpx.AsyncClient(base_url=base_url, timeout=30, verify=no_tls, trust_env=False) as client:
        yield client


@asynccontextmanager
async def crowd(base_url: str, number: int) -> AsyncIterator[list["Shopper"]]:
    """So many guests who can all have a request under way at once."""
    # A client's own work grows with the square of its connections, so each serves a few guests.
    async with AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(rest_client(base_url)) for _ in range(-(-number // 10))]
        yield [Shopper(clients[n // 10]) for n in range(number)]


class Shopper:
    """Somebody at the REST shim: a guest, or whoever `token` says."""

    def __init__(self, client: httpx.AsyncClient, token: str = "") -> None:
        self.client = client
        self.headers = {"authorization": f"Bearer {token}"} if token else {}

    async def send(self, method: str, path: str, body: Any = None, **headers: str) -> httpx.Response:
        """One request with a JSON body, or none."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return await self.client.request(method, path, json=body, headers={**self.headers, **named})

    async def get(self, path: str) -> Json:
        """Read what must be there."""
        return ok(await self.send("GET", path))

    async def add(self, cart_id: str, sku: str, quantity: int = 1) -> Json:
        """Put something into a cart."""
        return ok(await self.send("POST", f"/v1/carts/{cart_id}/items", {"sku": sku, "quantity": quantity}))

    async def filled_cart(self, sku: str, quantity: int = 1) -> str:
        """A new cart with one line."""
        cart_id = str(uuid.uuid4())
        await self.add(cart_id, sku, quantity)
        return cart_id

    async def order(
        self, cart_id: str, token: str = "tok_ok", *, key: str | None = None, **more: Any
    ) -> httpx.Response:
        """Order a cart; `more` are further members of the request."""
        body = {"cartId": cart_id, "paymentToken": token, "destination": DESTINATION, **more}
        return await self.send("POST", "/v1/orders", body, idempotency_key=key or str(uuid.uuid4()))

    async def ordered(self, cart_id: str, token: str = "tok_ok", **more: Any) -> Json:
        """Order a cart and expect an order, whatever its state."""
        return ok(await self.order(cart_id, token, **more))


async def sign_in(client: httpx.AsyncClient, email: str, password: str) -> Shopper:
    """Whoever the e-mail address and password belong to."""
    tokens = ok(await Shopper(client).send("POST", "/v1/tokens", {"email": email, "password": password}))
    return Shopper(client, tokens["accessToken"])


async def operator(client: httpx.AsyncClient) -> Shopper:
    """The demo's operator."""
    return await sign_in(client, "operator@shop.test", "operator-demo")


async def new_customer(client: httpx.AsyncClient) -> Shopper:
    """A customer who has just registered."""
    account = {"email": f"{uuid.uuid4().hex}@example.com", "password": "correct horse battery"}
    ok(await Shopper(client).send("POST", "/v1/customers", account))
    return await sign_in(client, account["email"], account["password"])


async def new_product(keeper: Shopper, *, stock: int, price_minor: int = 1000, category: str = "tools") -> str:
    """A product that nobody else knows; answers its SKU."""
    sku = f"test-{uuid.uuid4().hex[:16]}"
    product = {
        "sku": sku,
        "name": f"Product {sku}",
        "category": category,
        "price": {"currencyCode": "EUR", "minorUnits": str(price_minor)},
        "weightGrams": 100,
    }
    ok(await keeper.send("POST", "/v1/products", product))
    if stock:
        delivery = {"delta": str(stock), "reason": "test", "requestId": f"first-{sku}"}
        ok(await keeper.send("POST", f"/v1/stock/{sku}:adjust", delivery))
    return sku


async def stock_of(client: httpx.AsyncClient, sku: str) -> tuple[int, int]:
    """(on hand, held)."""
    stock = ok(await client.get(f"/v1/stock/{sku}"))
    return int(stock["onHand"]), int(stock["held"])


def ok(response: httpx.Response) -> Json:
    """The body of an answer that must be 200."""
    assert response.status_code == 200, f"{response.request.method} {response.request.url}: {response.text}"
    body: Json = response.json()
    return body


def error_of(response: httpx.Response) -> tuple[int, str, str]:
    """(HTTP code, gRPC code name, reason) of an answer that is an error in the one form that all errors have."""
    error = response.json()["error"]
    assert error["code"] == response.status_code
    return response.status_code, error["status"], detail(response, ERROR_INFO)["reason"]


def fields_of(response: httpx.Response) -> set[str]:
    """The fields that an INVALID_ARGUMENT names."""
    return {violation["field"] for violation in detail(response, BAD_REQUEST).get("fieldViolations", [])}


def detail(response: httpx.Response, kind: str) -> Json:
    """One detail of an error by its type; empty when it has none."""
    details: list[Json] = response.json()["error"]["details"]
    return next((one for one in details if one["@type"] == kind), {})


async def until(look: Callable[[], Awaitable[T | None]], *, within_s: float = 15.0, every_s: float = 0.05) -> T:
    """Look again and again until the answer is true, and answer it."""
    deadline = time.monotonic() + within_s
    while not (seen := await look()):
        assert time.monotonic() < deadline, "it did not come about"
        await asyncio.sleep(every_s)
    return seen


async def order_in_state(shopper: Shopper, order_id: str, *states: str, within_s: float = 15.0) -> Json:
    """The order once it is in one of the states."""

    async def look() -> Json | None:
        order = await shopper.get(f"/v1/orders/{order_id}")
        return order if order["state"] in states else None

    return await until(look, within_s=within_s)


async def until_held(client: httpx.AsyncClient, sku: str) -> None:
    """Return when an order under way holds some of the SKU."""

    async def look() -> bool:
        return (await stock_of(client, sku))[1] > 0

    await until(look)


async def left_in_cart(shopper: Shopper, cart_id: str, *, without: str) -> list[str]:
    """The SKUs in the cart once `without` has left it, which it does soon after it was bought."""

    async def look() -> tuple[list[str]] | None:
        cart = await shopper.get(f"/v1/carts/{cart_id}")
        skus = [item["sku"] for item in cart["items"]]
        return None if without in skus else (skus,)

    return (await until(look))[0]


def webhook(order: Json, kind: str, *, event_id: str | None = None, secret: str = WEBHOOK_SECRET) -> tuple[bytes, Json]:
    """The body and headers of a signed payment event for an order."""
    event = {
        "id": event_id or f"evt-{uuid.uuid4().hex}",
        "type": kind,
        "order_id": order["orderId"],
        "payment_id": order.get("paymentId", ""),
    }
    body = json.dumps(event).encode()
    at = int(time.time())
    digest = hmac.new(secret.encode(), f"{at}.".encode() + body, hashlib.sha256).hexdigest()
    return body, {"content-type": "application/json", "shop-signature": f"t={at},v1={digest}"}


def channel_to(shop: RunningShop) -> grpc.aio.Channel:
    """A gRPC channel to the shop, without retries, to be closed by its user."""
    return grpc.aio.insecure_channel(shop.grpc_address, options=[("grpc.enable_retries", 0)])
