"""The calls that customers and operators make, as the contract describes them: for either wire."""

import re
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from google.api import annotations_pb2
from google.protobuf.descriptor import FileDescriptor, MethodDescriptor
from google.protobuf.descriptor_pb2 import MethodOptions
from google.protobuf.message import Message

from shop.cart.v1 import cart_pb2 as cart
from shop.checkout.v1 import checkout_pb2 as checkout
from shop.checkout.v1 import saga_pb2 as saga
from shop.identity.v1 import identity_pb2 as identity
from shop.inventory.v1 import catalog_pb2 as catalog
from shop.inventory.v1 import inventory_pb2 as inventory

Request = TypeVar("Request", bound=Message)
Response = TypeVar("Response", bound=Message)

_FIELD = re.compile(r"\{([a-z_]+)\}")


@dataclass(frozen=True, slots=True)
class Binding:
    """How a method is called over HTTP."""

    verb: str
    # Such as "/v1/carts/{cart_id}"; `fields` are the names in it.
    template: str
    fields: tuple[str, ...]
    has_body: bool


@dataclass(frozen=True, slots=True)
class Method(Generic[Request, Response]):
    """One method. `expected` are the reasons for which a sane customer may be refused."""

    descriptor: MethodDescriptor
    response: type[Response]
    expected: frozenset[str] = frozenset()

    @property
    def name(self) -> str:
        """Such as "GetCart"."""
        return self.descriptor.name

    @property
    def path(self) -> str:
        """Such as "/shop.cart.v1.CartService/GetCart"."""
        return f"/{self.descriptor.containing_service.full_name}/{self.descriptor.name}"

    @property
    def is_repeatable(self) -> bool:
        """Whether asking twice does no more than asking once: by nature, or by the key that every customer gives."""
        by_nature = self.descriptor.GetOptions().idempotency_level != MethodOptions.IDEMPOTENCY_UNKNOWN
        return by_nature or "request_id" in self.descriptor.input_type.fields_by_name

    @property
    def binding(self) -> Binding:
        """The method's google.api.http rule; every method here has one that names top-level fields."""
        rule = self.descriptor.GetOptions().Extensions[annotations_pb2.http]
        verb = rule.WhichOneof("pattern")
        template = getattr(rule, verb)
        return Binding(verb.upper(), template, tuple(_FIELD.findall(template)), rule.body == "*")


def _method(
    file: FileDescriptor, name: str, _: type[Request], response: type[Response], *expected: str
) -> Method[Request, Response]:
    service, method = name.split(".")
    descriptor: Any = file.services_by_name[service].methods_by_name[method]
    return Method(descriptor, response, frozenset(expected))


REGISTER = _method(identity.DESCRIPTOR, "IdentityService.Register", identity.RegisterRequest, identity.Customer)
ISSUE_TOKEN = _method(identity.DESCRIPTOR, "IdentityService.IssueToken", identity.IssueTokenRequest, identity.TokenPair)
REFRESH_TOKEN = _method(
    identity.DESCRIPTOR, "IdentityService.RefreshToken", identity.RefreshTokenRequest, identity.TokenPair
)
LIST_PRODUCTS = _method(
    catalog.DESCRIPTOR, "CatalogService.ListProducts", catalog.ListProductsRequest, catalog.ListProductsResponse
)
GET_PRODUCT = _method(catalog.DESCRIPTOR, "CatalogService.GetProduct", catalog.GetProductRequest, catalog.Product)
GET_STOCK = _method(inventory.DESCRIPTOR, "InventoryService.GetStock", inventory.GetStockRequest, inventory.Stock)
GET_CART = _method(cart.DESCRIPTOR, "CartService.GetCart", cart.GetCartRequest, cart.Cart)
ADD_ITEM = _method(cart.DESCRIPTOR, "CartService.AddItem", cart.AddItemRequest, cart.Cart, "OUT_OF_STOCK")
SET_ITEM_QUANTITY = _method(
    cart.DESCRIPTOR, "CartService.SetItemQuantity", cart.SetItemQuantityRequest, cart.Cart, "OUT_OF_STOCK"
)
REMOVE_ITEM = _method(cart.DESCRIPTOR, "CartService.RemoveItem", cart.RemoveItemRequest, cart.Cart)
CLEAR_CART = _method(cart.DESCRIPTOR, "CartService.ClearCart", cart.ClearCartRequest, cart.Cart)
QUOTE_ORDER = _method(checkout.DESCRIPTOR, "CheckoutService.QuoteOrder", checkout.QuoteOrderRequest, checkout.Quote)
PLACE_ORDER = _method(
    checkout.DESCRIPTOR,
    "CheckoutService.PlaceOrder",
    checkout.PlaceOrderRequest,
    checkout.Order,
    "CHECKOUT_IN_PROGRESS",
    "PRICE_CHANGED",
)
CANCEL_ORDER = _method(
    checkout.DESCRIPTOR, "CheckoutService.CancelOrder", checkout.CancelOrderRequest, checkout.Order, "ORDER_ENDED"
)
GET_ORDER = _method(checkout.DESCRIPTOR, "CheckoutService.GetOrder", checkout.GetOrderRequest, checkout.Order)
LIST_ORDERS = _method(
    checkout.DESCRIPTOR, "CheckoutService.ListOrders", checkout.ListOrdersRequest, checkout.ListOrdersResponse
)
GET_INVOICE = _method(checkout.DESCRIPTOR, "CheckoutService.GetInvoice", checkout.GetInvoiceRequest, checkout.Invoice)

# What operators do.
ADJUST_STOCK = _method(
    inventory.DESCRIPTOR, "InventoryService.AdjustStock", inventory.AdjustStockRequest, inventory.Stock
)
REFUND_ORDER = _method(
    checkout.DESCRIPTOR,
    "CheckoutService.RefundOrder",
    checkout.RefundOrderRequest,
    checkout.Order,
    "ORDER_ENDED",
    "ORDER_NOT_PAID",
)
LIST_SAGAS = _method(saga.DESCRIPTOR, "SagaService.ListSagas", saga.ListSagasRequest, saga.ListSagasResponse)
ABORT_SAGA = _method(
    saga.DESCRIPTOR, "SagaService.AbortSaga", saga.AbortSagaRequest, saga.Saga, "ORDER_ENDED", "SAGA_PAST_COMMIT"
)
