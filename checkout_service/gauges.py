"""What an operator watches: how many sagas are under way, how old, how many are unknown or wait for a person."""

from datetime import datetime

from prometheus_client import Counter, Gauge

from checkout_service import operator_store
from checkout_service.saga import RESTING, SagaState
from mesh.db import Connection, Database, now

TAKEN_OVER = Counter("shop_sagas_taken_over_total", "Sagas taken over from coordinators that ended.")
_BY_STATE = Gauge("shop_sagas", "Sagas that do not rest, by state.", ["state"])
_OLDEST = Gauge("shop_saga_oldest_age_seconds", "Age of the oldest saga that does not rest.")
_UNKNOWN = Gauge("shop_sagas_unknown", "Sagas whose last command has an outcome that is not known.")
_PARKED = Gauge("shop_sagas_with_operator", "Sagas that wait for an operator.")
_OWED = Gauge("shop_owed_minor_units", "Money due back to customers, in minor units.", ["currency"])


async def measure(database: Database) -> None:
    """Read the figures from the database, the same in every replica. Raises UNAVAILABLE."""

    async def body(connection: Connection) -> tuple[operator_store.OpenSagas, datetime]:
        return await operator_store.count_open(connection), await now(connection)

    found, at = await database.transact("saga_figures", body, read_only=True)
    for state in SagaState:
        if state not in RESTING:
            _BY_STATE.labels(state).set(found.by_state.get(state, 0))
    _OLDEST.set((at - found.oldest).total_seconds() if found.oldest is not None else 0.0)
    _UNKNOWN.set(found.unknown)
    _PARKED.set(found.parked)
    _OWED.clear()
    for currency_code, minor_units in found.owed.items():
        _OWED.labels(currency_code).set(minor_units)
