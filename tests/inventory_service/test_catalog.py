"""The catalogue over both databases: products, lists, caching."""

import asyncio
import itertools
from dataclasses import replace
from typing import Any

import pytest

from inventory_service.domain.catalog import Change, Draft, Money
from inventory_service.tables import products
from mesh.errors import Failure, Kind
from tests.inventory_service.build import MUG, Replica, adjust, skus
from tests.inventory_service.conftest import MakeReplica


async def refusal(call: Any) -> Failure:
    with pytest.raises(Failure) as caught:
        await call
    return caught.value


async def listed(replica: Replica, **asked: Any) -> list[str]:
    """The SKUs of every page, two products each."""
    everything: dict[str, Any] = {"category": "", "in_stock": False, "q": "", "order_by": "", **asked}
    found, token = [], ""
    for _ in range(20):
        page = await replica.app.catalog.list_products(page_size_asked=2, page_token=token, **everything)
        found += skus(page.items)
        token = page.next_page_token
        if not token:
            return found
    raise AssertionError("the list has no end")


async def test_a_new_product_is_sold_with_no_stock(replica: Replica) -> None:
    created = await replica.app.catalog.create_product(Draft(sku="mug", facts=MUG))

    assert (created.sku, created.facts, created.available) == ("mug", MUG, 0)
    assert created.create_time == created.update_time
    assert await replica.app.catalog.get_product("mug") == created
    assert await replica.counters("mug") == (0, 0)


async def test_a_sku_is_given_once_even_after_it_was_retired(replica: Replica) -> None:
    results = await asyncio.gather(
        *(replica.app.catalog.create_product(Draft(sku="mug", facts=MUG)) for _ in range(5)), return_exceptions=True
    )
    await replica.app.catalog.delete_product("mug", etag="")
    again = await refusal(replica.app.catalog.create_product(Draft(sku="mug", facts=MUG)))

    assert sum(isinstance(result, Failure) for result in results) == 4
    assert (again.kind, again.reason) == (Kind.ALREADY_EXISTS, "PRODUCT_EXISTS")


async def test_an_update_takes_the_fields_it_names(replica: Replica) -> None:
    created = await replica.app.catalog.create_product(Draft(sku="mug", facts=MUG))
    facts = replace(MUG, name="Big mug", price=Money("EUR", 1499), category="nonsense!")

    updated = await replica.app.catalog.update_product(
        Change(sku="mug", etag=created.etag, facts=facts, fields=("name", "price"))
    )

    assert updated.facts == replace(MUG, name="Big mug", price=Money("EUR", 1499))
    assert updated.etag != created.etag
    assert await replica.app.catalog.get_product("mug") == updated
    stale = Change(sku="mug", etag=created.etag, facts=facts, fields=("name",))
    failure = await refusal(replica.app.catalog.update_product(stale))
    assert (failure.kind, failure.reason) == (Kind.ABORTED, "ETAG_MISMATCH")
    failure = await refusal(replica.app.catalog.delete_product("mug", etag=created.etag))
    assert (failure.kind, failure.reason) == (Kind.ABORTED, "ETAG_MISMATCH")


async def test_a_retired_product_is_sold_no_more_but_its_stock_remains(replica: Replica) -> None:
    await replica.put("mug", 3)
    await replica.put("cup", 3)
    await replica.app.catalog.get_product("mug")

    await replica.app.catalog.delete_product("mug", etag="")
    await replica.app.catalog.delete_product("mug", etag="whatever")

    assert (await refusal(replica.app.catalog.get_product("mug"))).reason == "PRODUCT_NOT_FOUND"
    assert await listed(replica) == ["cup"]
    change = Change(sku="mug", etag="", facts=MUG, fields=("name",))
    assert (await refusal(replica.app.catalog.update_product(change))).reason == "PRODUCT_NOT_FOUND"
    assert (await refusal(replica.app.catalog.delete_product("nothing", etag=""))).reason == "PRODUCT_NOT_FOUND"
    assert (await replica.app.stock.adjust_stock(adjust("mug", -3))).on_hand == 0


async def test_many_products_come_in_the_order_asked(replica: Replica) -> None:
    await replica.put("mug", 3)
    await replica.put("cup")

    for _ in range(2):  # from the database, then from the cache
        found, missing = await replica.app.catalog.batch_get_products(["mug", "nothing", "cup", "mug"])
        assert skus(found) == ["mug", "cup", "mug"]
        assert missing == ["nothing"]
        assert found[0].available == 3


async def test_reads_are_cached_and_a_write_makes_them_fresh(make_replica: MakeReplica, replica: Replica) -> None:
    other = await make_replica()
    await replica.put("mug")
    await replica.app.catalog.get_product("mug")
    change = Change(sku="mug", etag="", facts=replace(MUG, name="New"), fields=("name",))

    await other.app.catalog.update_product(change)
    assert (await replica.app.catalog.get_product("mug")).facts.name == "Mug"

    await replica.app.stock.adjust_stock(adjust("mug", 4))
    fresh = await replica.app.catalog.get_product("mug")
    assert (fresh.facts.name, fresh.available) == ("New", 4)


async def test_lists_are_complete_in_every_order(replica: Replica) -> None:
    names = ["pear", "Apple", "apple", "Öl", "zebra", "apple pie", "Æther"]
    for number, name in enumerate(names):
        await replica.put(f"p{number}", name=name, price=Money("EUR", 100 + number % 3))
    by_name = sorted(range(7), key=lambda number: (names[number].casefold(), f"p{number}"))
    by_price = sorted(range(7), key=lambda number: (number % 3, f"p{number}"))
    orders = {"": range(7), "sku": range(7), "name": by_name, "price": by_price, "create_time": range(7)}

    for order_by, expected in orders.items():
        assert await listed(replica, order_by=order_by) == [f"p{number}" for number in expected]
    for order_by in ("sku", "name", "price", "create_time"):
        backwards = [f"p{number}" for number in reversed(orders[order_by])]
        assert await listed(replica, order_by=f"{order_by} desc") == backwards


async def test_lists_are_filtered(replica: Replica) -> None:
    await replica.put("a", 1, name="Blue MUG", category="kitchen")
    await replica.put("b", 0, name="Red mug", category="kitchen")
    await replica.put("c", 2, name="100% cotton_shirt/blue", category="clothes")

    assert await listed(replica, category="kitchen") == ["a", "b"]
    assert await listed(replica, in_stock=True) == ["a", "c"]
    assert await listed(replica, q="mUg") == ["a", "b"]
    assert await listed(replica, q="blue", in_stock=True, category="clothes") == ["c"]
    # What LIKE would take for a wildcard is only itself.
    for text, expected in {"%": ["c"], "_": ["c"], "/": ["c"], "b_ue": [], "0%c": []}.items():
        assert await listed(replica, q=text) == expected


async def test_a_page_token_belongs_to_its_list(replica: Replica) -> None:
    for sku in "abc":
        await replica.put(sku)
    everything: dict[str, Any] = {"category": "", "in_stock": False, "q": "", "order_by": "price"}
    page = await replica.app.catalog.list_products(page_size_asked=1, page_token="", **everything)

    for token, change in itertools.product(
        [page.next_page_token, "x", "é", page.next_page_token + "A", "W1tb", "x" * 5000], [{}, {"category": "kitchen"}]
    ):
        if (token, change) == (page.next_page_token, {}):
            continue
        asked = everything | change
        failure = await refusal(replica.app.catalog.list_products(page_size_asked=1, page_token=token, **asked))
        assert [field.field for field in failure.fields] == ["page_token"]


async def test_a_bad_list_request_names_every_field(replica: Replica) -> None:
    failure = await refusal(
        replica.app.catalog.list_products(
            page_size_asked=-1, page_token="?", category="No!", in_stock=False, q="x" * 101, order_by="price, name"
        )
    )

    assert {field.field for field in failure.fields} == {"page_size", "page_token", "category", "q", "order_by"}


async def test_page_sizes_are_kept_within_bounds(replica: Replica) -> None:
    for number in range(103):
        await replica.put(f"p{number:03}")
    everything: dict[str, Any] = {"category": "", "in_stock": False, "q": "", "order_by": "", "page_token": ""}

    sizes = {
        asked: len((await replica.app.catalog.list_products(page_size_asked=asked, **everything)).items)
        for asked in (0, 7, 100, 1000)
    }

    assert sizes == {0: 20, 7: 7, 100: 100, 1000: 100}


def test_an_unlawful_product_names_every_field() -> None:
    facts = replace(MUG, name="", description="x" * 4001, category="A b", price=Money("eur", 0), weight_grams=-1)
    named = ["name", "description", "category", "price.currency_code", "price.minor_units", "weight_grams"]

    with pytest.raises(Failure) as drafted:
        Draft(sku="a/b", facts=facts)
    with pytest.raises(Failure) as changed:
        Change(sku="mug", etag="", facts=facts, fields=("weight_grams", "sku", "name"))

    assert [field.field for field in drafted.value.fields] == ["product.sku", *(f"product.{name}" for name in named)]
    assert [field.field for field in changed.value.fields] == ["product.weight_grams", "update_mask", "product.name"]


async def test_a_price_is_in_the_shops_currency(replica: Replica) -> None:
    dollars = replace(MUG, price=Money("USD", 100))
    await replica.put("mug")

    refused = [
        await refusal(replica.app.catalog.create_product(Draft(sku="cup", facts=dollars))),
        await refusal(replica.app.catalog.update_product(Change(sku="mug", etag="", facts=dollars, fields=("price",)))),
    ]

    for failure in refused:
        assert [field.field for field in failure.fields] == ["product.price.currency_code"]


def test_a_folded_name_fits_its_column() -> None:
    column: Any = products.c.name_folded
    longest = max((chr(code) for code in range(0x110000)), key=lambda character: len(character.casefold()))

    assert len((longest * 200).casefold()) <= column.type.length
