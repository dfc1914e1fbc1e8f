import asyncio
from collections.abc import AsyncIterator

import pytest

from cart_service.catalogue import Catalogue, Offer
from mesh.cache import MemoryCache
from mesh.errors import Failure, Kind
from tests.cart_service.shelf import Shelf


@pytest.fixture
async def catalogue(shelf: Shelf) -> AsyncIterator[Catalogue]:
    catalogue = Catalogue(shelf, MemoryCache())
    yield catalogue
    await catalogue.close()


async def test_an_offer_is_of_this_moment(catalogue: Catalogue, shelf: Shelf) -> None:
    assert await catalogue.offer("apple", deadline=None) == Offer(shelf.sold["apple"], 1000)
    shelf.put("apple", 3, price_minor=60)
    assert await catalogue.offer("apple", deadline=None) == Offer(shelf.sold["apple"], 3)
    shelf.retire("apple")
    assert await catalogue.offer("apple", deadline=None) is None


async def test_offers_asked_for_at_once_are_asked_for_together(catalogue: Catalogue, shelf: Shelf) -> None:
    offers = await asyncio.gather(*(catalogue.offer(sku, deadline=None) for sku in ["pear", "apple", "ghost"] * 30))

    assert [offer.product.sku if offer else None for offer in offers] == ["pear", "apple", None] * 30
    assert shelf.calls == [("products", ("apple", "ghost", "pear")), ("available", ("apple", "ghost", "pear"))]


async def test_products_are_remembered_for_a_while(catalogue: Catalogue, shelf: Shelf) -> None:
    first = await catalogue.products(["apple", "ghost"])
    shelf.put("apple", 1, price_minor=99)
    second = await catalogue.products(["apple"])

    assert first == second
    assert set(first) == {"apple"}
    assert len(shelf.calls) == 1


async def test_what_an_offer_taught_needs_no_second_call(catalogue: Catalogue, shelf: Shelf) -> None:
    await catalogue.offer("apple", deadline=None)
    shelf.calls.clear()

    assert await catalogue.products(["apple"]) == {"apple": shelf.sold["apple"]}
    assert shelf.calls == []


async def test_while_inventory_is_away_offers_fail_and_products_are_those_remembered(
    catalogue: Catalogue, shelf: Shelf
) -> None:
    await catalogue.products(["apple"])
    shelf.away = True

    assert set(await catalogue.products(["apple", "pear"])) == {"apple"}
    with pytest.raises(Failure) as caught:
        await catalogue.offer("apple", deadline=None)
    assert caught.value.kind is Kind.UNAVAILABLE


async def test_a_read_does_not_wait_for_an_inventory_that_hangs(
    catalogue: Catalogue, shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cart_service.catalogue._PATIENCE_S", 0.01)
    shelf.open.clear()

    assert await catalogue.products(["apple"]) == {}

    shelf.open.set()
