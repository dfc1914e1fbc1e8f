"""Reservations: their states, the requests that move them, and the failures that requests may end in."""

import enum
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from mesh.errors import Failure, Kind
from mesh.validate import Violations

DEFAULT_TTL_S = 900
OUT_OF_STOCK = "OUT_OF_STOCK"

_MOST_TTL_S = 86_400
_MOST_LINES = 200
_MOST_QUANTITY = 10_000
_MOST_EPOCH = 2**63 - 1


class State(enum.StrEnum):
    """Where a reservation stands."""

    HELD = "HELD"
    COMMITTED = "COMMITTED"
    RELEASED = "RELEASED"
    EXPIRED = "EXPIRED"
    REFUSED = "REFUSED"
    RETURNED = "RETURNED"


# Every change of state there is; what is not here never happens.
EDGES = {
    State.HELD: {State.COMMITTED, State.RELEASED, State.EXPIRED},
    State.COMMITTED: {State.RETURNED},
    State.RELEASED: set[State](),
    State.EXPIRED: set[State](),
    State.REFUSED: set[State](),
    State.RETURNED: set[State](),
}
# Nothing comes after these, and nothing is held or sold in them.
ENDED = frozenset(state for state, after in EDGES.items() if not after)
# What may be forgotten one day. A returned sale may not: its rows in the ledger stay, under keys made of its id.
FORGOTTEN = ENDED - {State.RETURNED}


class Line(NamedTuple):
    """One SKU of a reservation. `available` is what a refusal saw, None otherwise."""

    sku: str
    quantity: int
    available: int | None = None


class Reservation(NamedTuple):
    """Stock held for one order, or what became of it. Barred before it came: RELEASED without lines."""

    reservation_id: str
    state: State
    # Each SKU once, in byte order.
    lines: tuple[Line, ...]
    expire_time: datetime | None
    create_time: datetime
    # The highest coordinator epoch that touched it.
    epoch: int

    def become(self, state: State) -> "Reservation":
        """The same reservation in another state. Raises ValueError for an edge that is not lawful."""
        if state not in EDGES[self.state]:
            raise ValueError(f"{self.state} -> {state}")
        return self._replace(state=state)

    def lapsed(self, now: datetime) -> bool:
        """Whether its time is over although nobody has given it back yet."""
        return self.state is State.HELD and self.expire_time is not None and self.expire_time <= now

    def has_lines(self, lines: Sequence[Line]) -> bool:
        """Whether it was made of these merged lines."""
        return [(line.sku, line.quantity) for line in self.lines] == [(line.sku, line.quantity) for line in lines]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reserve:
    """Hold all lines or none. Raises INVALID_ARGUMENT naming each bad field, as every request here does."""

    reservation_id: str
    # As asked; those of one SKU are judged by their sum.
    lines: tuple[Line, ...]
    ttl_s: int = DEFAULT_TTL_S
    epoch: int = 0

    def __post_init__(self) -> None:
        violations = _violations(self.reservation_id, self.epoch)
        violations.between("ttl_s", self.ttl_s, low=1, high=_MOST_TTL_S)
        violations.count("lines", len(self.lines), most=_MOST_LINES)
        # Of too many lines only the first are looked at, so that an answer stays short.
        for number, line in enumerate(self.lines[:_MOST_LINES]):
            violations.identifier(f"lines[{number}].sku", line.sku)
            violations.between(f"lines[{number}].quantity", line.quantity, low=1, high=_MOST_QUANTITY)
        violations.raise_if_any()

    def merged(self) -> tuple[Line, ...]:
        """Each SKU once with the sum of its lines, in byte order."""
        if len(self.lines) == 1:
            [line] = self.lines
            return (Line(line.sku, line.quantity),)
        sums: Counter[str] = Counter()
        for line in self.lines:
            sums[line.sku] += line.quantity
        return tuple(Line(sku, sums[sku]) for sku in sorted(sums))

    def field_of(self, sku: str) -> str:
        """Where the request first names the SKU."""
        return next(f"lines[{number}].sku" for number, line in enumerate(self.lines) if line.sku == sku)


@dataclass(frozen=True, slots=True, kw_only=True)
class Commit:
    """Turn a hold into a sale."""

    reservation_id: str
    actor: str
    epoch: int = 0

    def __post_init__(self) -> None:
        _violations(self.reservation_id, self.epoch).raise_if_any()


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """Give a hold back, bar one that has not come yet or, if told so, return a sale to stock."""

    reservation_id: str
    actor: str
    epoch: int = 0
    return_committed: bool = False

    def __post_init__(self) -> None:
        _violations(self.reservation_id, self.epoch).raise_if_any()


@dataclass(frozen=True, slots=True, kw_only=True)
class Extend:
    """Make a hold last at least ttl_s from now."""

    reservation_id: str
    ttl_s: int
    epoch: int = 0

    def __post_init__(self) -> None:
        violations = _violations(self.reservation_id, self.epoch)
        violations.between("ttl_s", self.ttl_s, low=1, high=_MOST_TTL_S)
        violations.raise_if_any()


Request = Reserve | Commit | Release | Extend


@dataclass(frozen=True, slots=True)
class Failed:
    """A request that failed; out of stock, with every line and what was available of it."""

    failure: Failure
    refused_lines: tuple[Line, ...] = ()


# What became of one request.
Outcome = Reservation | Failed


def not_found(reservation_id: str) -> Failure:
    """The failure for a reservation that never came."""
    metadata = {"reservation_id": reservation_id}
    return Failure(Kind.NOT_FOUND, "RESERVATION_NOT_FOUND", "There is no such reservation.", metadata=metadata)


def id_reused() -> Failure:
    """The failure for an id that belongs to a reservation of something else."""
    message = "This reservation_id belongs to a reservation with other lines."
    return Failure(Kind.ALREADY_EXISTS, "RESERVATION_ID_REUSED", message)


def stale_epoch(*, seen: int, yours: int) -> Failure:
    """The failure for a coordinator whose successor was here before it."""
    metadata = {"seen": str(seen), "yours": str(yours)}
    return Failure(Kind.ABORTED, "STALE_EPOCH", "A later coordinator has taken over.", metadata=metadata)


def given_back_before(state: State) -> Failure:
    """The failure for a reserve that comes after its own release, or after the return of what was sold."""
    return Failure(Kind.ABORTED, f"RESERVATION_{state}", f"The reservation was {state.lower()} before.")


def not_held(state: State) -> Failure:
    """The failure for a request that needs a hold where there is none; the reason says what there is instead."""
    message = f"The reservation is {state.lower()}."
    return Failure(Kind.FAILED_PRECONDITION, f"RESERVATION_{state}", message)


def out_of_stock(refused: Reservation) -> Failure:
    """The failure for a refused reservation, naming its first line that fell short and what that saw."""
    short = next(line for line in refused.lines if line.available is not None and line.quantity > line.available)
    metadata = {"sku": short.sku, "requested": str(short.quantity), "available": str(short.available)}
    message = f"Of {short.sku}, {short.available} can be bought, not {short.quantity}."
    return Failure(Kind.FAILED_PRECONDITION, OUT_OF_STOCK, message, metadata=metadata)


def _violations(reservation_id: str, epoch: int) -> Violations:
    violations = Violations()
    violations.identifier("reservation_id", reservation_id)
    violations.between("epoch", epoch, low=0, high=_MOST_EPOCH)
    return violations
