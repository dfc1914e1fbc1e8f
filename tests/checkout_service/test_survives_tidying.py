"""Keys outlive what is forgotten: a year after its order ended, a key still stands for it and still has its answer."""

from datetime import timedelta

import pytest

from checkout_service.lease_store import forget_coordinators
from checkout_service.placing import KeyTaken
from checkout_service.saga import Outcome
from checkout_service.store import Key, delete_free_claims, read_keys
from checkout_service.tables import cart_claims
from mesh.db import Connection, Database, now
from tests.checkout_service.build import new_order
from tests.checkout_service.records import place, placed, rows, step

ENDS = {
    "paid": (Outcome.RESERVED, Outcome.AUTHORIZED, Outcome.COMMITTED, Outcome.CAPTURED, Outcome.SETTLED),
    "declined": (Outcome.RESERVED, Outcome.DECLINED, Outcome.RELEASED),
    "sold out": (Outcome.OUT_OF_STOCK,),
}


@pytest.mark.survives("keys-outlive-sagas")
@pytest.mark.parametrize("end", ENDS)
async def test_a_key_still_answers_when_all_else_is_forgotten(database: Database, end: str) -> None:
    wish = new_order()
    await step(database, await placed(database, wish), *ENDS[end])
    [first] = (await keys(database, wish.request.key)).values()
    assert first.answer

    await database.transact("tidy", forget_everything)

    assert await rows(database, cart_claims) == []
    assert await keys(database, wish.request.key) == {wish.request.key: first}
    assert await place(database, new_order(wish.request)) == [KeyTaken()]


async def keys(database: Database, key_id: str) -> dict[str, Key]:
    return await database.transact("keys", lambda connection: read_keys(connection, [key_id]), read_only=True)


async def forget_everything(connection: Connection) -> None:
    """What the engine forgets now and then, as if it were a year later."""
    later = await now(connection) + timedelta(days=365)
    await delete_free_claims(connection, older_than=later, limit=1000)
    await forget_coordinators(connection, older_than=later)
