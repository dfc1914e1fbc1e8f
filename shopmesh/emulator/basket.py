"""A customer and a cart: browsing, filling, changing one's mind. Every answer is compared with what it should be."""

import asyncio
from collections.abc import Sequence

from mesh.errors import Failure
from shop.cart.v1.cart_pb2 import (
    AddItemRequest,
    Cart,
    GetCartRequest,
    RemoveItemRequest,
    SetItemQuantityRequest,
)
from shop.inventory.v1.catalog_pb2 import GetProductRequest, ListProductsRequest, Product
from shop.inventory.v1.inventory_pb2 import GetStockRequest
from shopmesh.emulator.contract import (
    ADD_ITEM,
    GET_CART,
    GET_PRODUCT,
    GET_STOCK,
    LIST_PRODUCTS,
    REMOVE_ITEM,
    SET_ITEM_QUANTITY,
    Method,
    Request,
)
from shopmesh.emulator.visit import Visit, items_of

_PAGE_SIZE = 20
_BROWSES_ON = 0.35
_HIDES_SOLD_OUT = 0.5
_SEARCHES = 0.3
_LOOKS_CLOSER = 0.5
_CLICKS_ADD_TWICE = 0.1
_CHANGES_MIND = 0.4
_MOST_LINES = 4
_MOST_OF_ONE = 3
_MOST_HUNTED = 12
_SETTLED_WITHIN_S = 10.0
_POLL_S = 0.1


class Basket:
    """A cart with the id that the customer drew, and what the customer knows to be in it."""

    def __init__(self, visit: Visit, categories: Sequence[str]) -> None:
        self.cart_id = visit.new_id()
        self.items: dict[str, int] = {}
        self._visit = visit
        self._categories = categories
        self._version = 0

    async def fill(self) -> None:
        """Browse and put a few products in; what is sold out stays out."""
        most = _MOST_HUNTED if self._visit.persona.hunts else _MOST_OF_ONE
        for product in self._choose(await self._browse()):
            await self._visit.think()
            await self._look_closer(product)
            await self.add(product.sku, self._visit.rng.randint(1, most))

    async def add(self, sku: str, quantity: int) -> None:
        """Add to the cart, now and then by clicking twice, which adds once."""
        request = AddItemRequest(cart_id=self.cart_id, sku=sku, quantity=quantity, request_id=self._visit.new_id())
        expected = {**self.items, sku: self.items.get(sku, 0) + quantity}
        await self._write(ADD_ITEM, request, expected)
        if self.items == expected and self._visit.rng.random() < _CLICKS_ADD_TWICE:
            await self._write(ADD_ITEM, request, expected)

    async def change_mind(self) -> None:
        """Perhaps want more or less of something, perhaps nothing of it, then look at the cart."""
        rng = self._visit.rng
        for sku in list(self.items):
            if rng.random() >= _CHANGES_MIND:
                continue
            await self._visit.think()
            quantity = rng.randint(0, _MOST_OF_ONE)
            if quantity:
                request = SetItemQuantityRequest(cart_id=self.cart_id, sku=sku, quantity=quantity)
                await self._write(SET_ITEM_QUANTITY, request, {**self.items, sku: quantity})
            else:
                others = {other: number for other, number in self.items.items() if other != sku}
                await self._write(REMOVE_ITEM, RemoveItemRequest(cart_id=self.cart_id, sku=sku), others)
        await self.look()

    async def look(self) -> None:
        """Read the cart, which holds what it was last said to hold."""
        answer = await self._visit.session.call(GET_CART, GetCartRequest(cart_id=self.cart_id))
        self._compare("holds", answer.message, self.items)

    async def bought(self, items: dict[str, int]) -> None:
        """Wait until what was bought has left the cart, which happens soon after the order was paid."""
        left = {sku: number - items.get(sku, 0) for sku, number in self.items.items() if number > items.get(sku, 0)}
        loop = asyncio.get_running_loop()
        deadline = loop.time() + _SETTLED_WITHIN_S * self._visit.patience
        while True:
            cart = (await self._visit.session.call(GET_CART, GetCartRequest(cart_id=self.cart_id))).message
            if items_of(cart) == left or loop.time() > deadline:
                break
            await asyncio.sleep(_POLL_S)
        self._compare("after the purchase holds", cart, left)
        self.items, self._version = items_of(cart), cart.version

    async def _browse(self) -> list[Product]:
        """Leaf through a category, or search; answers what was seen."""
        rng = self._visit.rng
        request = ListProductsRequest(page_size=_PAGE_SIZE, category=rng.choice(self._categories))
        request.in_stock = self._visit.persona.hunts or rng.random() < _HIDES_SOLD_OUT
        request.order_by = rng.choice(("", "price", "name desc"))
        products: list[Product] = []
        while True:
            answer = (await self._visit.session.call(LIST_PRODUCTS, request)).message
            products += answer.products
            request.page_token = answer.next_page_token
            if not request.page_token or rng.random() > _BROWSES_ON:
                break
            await self._visit.think()
        if products and rng.random() < _SEARCHES:
            products = await self._search(products)
        return products

    def _choose(self, products: Sequence[Product]) -> list[Product]:
        """Settle on a few products, or on the scarcest."""
        if self._visit.persona.hunts:
            return sorted(products, key=lambda product: product.available)[:1]
        return self._visit.rng.sample(products, min(len(products), self._visit.rng.randint(1, _MOST_LINES)))

    async def _search(self, seen: Sequence[Product]) -> list[Product]:
        """Search for a word of a name that was seen, which finds that product at least."""
        product = self._visit.rng.choice(seen)
        word = max(product.name.split(), key=len)
        request = ListProductsRequest(page_size=100, q=word)
        found = list((await self._visit.session.call(LIST_PRODUCTS, request)).message.products)
        if not all(word.casefold() in one.name.casefold() for one in found):
            self._visit.differ(f"a search for {word!r} found products without it")
        return found or list(seen)

    async def _look_closer(self, product: Product) -> None:
        if self._visit.rng.random() > _LOOKS_CLOSER:
            return
        closer = (await self._visit.session.call(GET_PRODUCT, GetProductRequest(sku=product.sku))).message
        stock = (await self._visit.session.call(GET_STOCK, GetStockRequest(sku=product.sku))).message
        if (closer.sku, closer.price) != (product.sku, product.price):
            self._visit.differ(f"{product.sku} is listed at {product.price} and shown at {closer.price}")
        if stock.available != stock.on_hand - stock.held or stock.available < 0:
            self._visit.differ(f"the stock of {product.sku} does not add up: {stock}")

    async def _write(self, method: Method[Request, Cart], request: Request, expected: dict[str, int]) -> None:
        """Change the cart and compare. A refusal that was to be expected leaves it as it was."""
        try:
            cart = (await self._visit.session.call(method, request)).message
        except Failure as failure:
            if failure.reason not in method.expected:
                raise
            return
        self._visit.note_cart(cart)
        self._compare(f"after {method.name} holds", cart, expected)
        if cart.version < self._version:
            self._visit.differ(f"cart {self.cart_id} went from version {self._version} back to {cart.version}")
        self.items, self._version = items_of(cart), cart.version

    def _compare(self, what: str, cart: Cart, expected: dict[str, int]) -> None:
        if items_of(cart) != expected:
            self._visit.differ(f"cart {self.cart_id} {what} {items_of(cart)}, not {expected}")
