"""Stock of a SKU, and the ledger of every change of what is on hand."""

import hashlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime

from inventory_service.domain.catalog import product_not_found
from mesh.errors import Failure, Kind
from mesh.validate import Violations

SALE = "sale"
RETURN = "return"

_MOST_DELTA = 1_000_000_000
_REASON_LENGTH = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Stock:
    """How much of a SKU there is; available is never negative."""

    sku: str
    on_hand: int
    held: int
    update_time: datetime

    @property
    def available(self) -> int:
        """What can be promised to one more customer."""
        return self.on_hand - self.held


@dataclass(slots=True)
class Shelf:
    """The stock of one SKU while a transaction holds it locked."""

    on_hand: int
    held: int
    retired: bool = False

    @property
    def available(self) -> int:
        """What can still be held."""
        return self.on_hand - self.held


@dataclass(frozen=True, slots=True, kw_only=True)
class Movement:
    """One row of the ledger: a change of on_hand."""

    movement_id: str
    sku: str
    delta: int
    reason: str
    # Empty for an adjustment.
    reservation_id: str
    actor: str
    create_time: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Adjust:
    """An operator's receipt or correction. Raises INVALID_ARGUMENT naming each bad field."""

    sku: str
    delta: int
    reason: str
    request_id: str
    actor: str

    def __post_init__(self) -> None:
        violations = Violations()
        violations.identifier("sku", self.sku)
        if self.delta == 0:
            violations.add("delta", "must not be zero")
        violations.between("delta", self.delta, low=-_MOST_DELTA, high=_MOST_DELTA)
        violations.text("reason", self.reason, least=1, most=_REASON_LENGTH)
        violations.identifier("request_id", self.request_id)
        violations.raise_if_any()

    def movement(self, now: datetime) -> Movement:
        """The ledger row for it; its key is the same for the same operator and request_id."""
        return Movement(
            movement_id=movement_id("adjust", self.actor, self.request_id),
            sku=self.sku,
            delta=self.delta,
            reason=self.reason,
            reservation_id="",
            actor=self.actor,
            create_time=now,
        )


class Adjustments:
    """Decides on adjustments whose keys and shelves one transaction holds locked, in the order of their arrival.

    `standing` are the ledger rows under the keys, `fresh` the keys that nobody has used before.
    """

    def __init__(self, standing: Mapping[str, Movement], fresh: Collection[str], shelves: Mapping[str, Shelf]) -> None:
        self._standing = standing
        self._fresh = fresh
        self._shelves = shelves
        # What is done, by key.
        self.done: dict[str, Movement] = {}

    def apply(self, adjust: Adjust, movement: Movement) -> Failure | None:
        """Do it unless its key has done it before, or answer why not. `movement` is its ledger row."""
        key = movement.movement_id
        standing = self._standing[key]
        if (standing.sku, standing.delta) != (adjust.sku, adjust.delta):
            return _key_reused(adjust.request_id)
        if key in self.done or key not in self._fresh:
            return None
        shelf = self._shelves.get(adjust.sku)
        if shelf is None:
            return product_not_found(adjust.sku)
        if shelf.on_hand + adjust.delta < shelf.held:
            return _stock_held(adjust.sku, shelf)
        shelf.on_hand += adjust.delta
        self.done[key] = movement
        return None


def movement_id(kind: str, *key: str) -> str:
    """The id of the one movement of this kind that `key` may cause: the same key, the same id."""
    digest = hashlib.blake2b("\0".join(key).encode(), digest_size=16).hexdigest()
    return f"{kind}-{digest}"


def _stock_held(sku: str, shelf: Shelf) -> Failure:
    metadata = {"sku": sku, "on_hand": str(shelf.on_hand), "held": str(shelf.held)}
    message = f"Of {sku}, {shelf.on_hand} are on hand and {shelf.held} of them are held for orders."
    return Failure(Kind.FAILED_PRECONDITION, "STOCK_HELD", message, metadata=metadata)


def _key_reused(request_id: str) -> Failure:
    message = "This request_id belongs to another adjustment."
    return Failure(Kind.ALREADY_EXISTS, "IDEMPOTENCY_KEY_REUSED", message, metadata={"request_id": request_id})
