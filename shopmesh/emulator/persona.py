"""Who the customers are: drawn from a seed, so that a run can be repeated."""

import enum
import random
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TypeVar

T = TypeVar("T")

# How many customers come in a second at pace 1: each of them costs the server two password hashes.
_ARRIVALS_PER_S = 5
_NAMES = ("Ada", "Bruno", "Chloe", "Daan", "Elif", "Farid", "Greta", "Hugo", "Ines", "Jonas", "Kaja", "Luca")
_COUNTRIES = {"DE": 50, "FR": 12, "NL": 10, "AT": 8, "SE": 6, "IE": 4, "CH": 5, "US": 5}


class Joining(enum.Enum):
    """When somebody registers."""

    NEVER = enum.auto()
    FIRST = enum.auto()
    # With a filled cart, which then becomes the customer's.
    BEFORE_PAYING = enum.auto()


class Manner(enum.Enum):
    """How somebody orders."""

    PLAIN = enum.auto()
    # The same request twice at the same time.
    DOUBLE_CLICK = enum.auto()
    # Cuts the connection in the middle, then asks again with the same key.
    GIVE_UP = enum.auto()
    # Leaves a filled cart behind.
    ABANDON = enum.auto()
    # Regrets it: cancels as soon as the order's id is known, which may be before or after it is paid.
    CANCEL = enum.auto()


_JOININGS = {Joining.FIRST: 60, Joining.NEVER: 25, Joining.BEFORE_PAYING: 15}
_MANNERS = {Manner.PLAIN: 62, Manner.CANCEL: 6, Manner.DOUBLE_CLICK: 14, Manner.GIVE_UP: 12, Manner.ABANDON: 6}
_CARDS = {
    ("tok_ok",): 76,
    ("tok_decline", "tok_ok"): 6,
    ("tok_decline",): 4,
    ("tok_capture_decline", "tok_ok"): 2,
    ("tok_capture_decline",): 2,
    ("tok_timeout_charged",): 4,
    ("tok_slow",): 3,
    ("tok_webhook_twice",): 3,
}
_BASKETS = {1: 85, 2: 15}
_HUNTERS = 0.15


@dataclass(frozen=True, slots=True, kw_only=True)
class Persona:
    """One customer. `cards` are tried one after the other, while the one before is declined."""

    number: int
    name: str
    speaks_grpc: bool
    joining: Joining
    manner: Manner
    cards: tuple[str, ...]
    baskets: int
    # Buys much of what there is little left of.
    hunts: bool
    country: str
    arrives_after_s: float
    # For every later choice.
    seed: str

    @property
    def label(self) -> str:
        """What the journal calls the customer."""
        return f"customer-{self.number}"


def draw(*, seed: int, number: int, of: int, grpc_share: float, pace: float) -> Persona:
    """The customer of a number: the same one for the same seed, however many others there are."""
    own_seed = f"{seed}/{number}"
    rng = random.Random(own_seed)  # noqa: S311 - an emulation, not a secret
    return Persona(
        number=number,
        name=rng.choice(_NAMES),
        speaks_grpc=rng.random() < grpc_share,
        joining=_weighted(rng, _JOININGS),
        manner=_weighted(rng, _MANNERS),
        cards=_weighted(rng, _CARDS),
        baskets=_weighted(rng, _BASKETS),
        hunts=rng.random() < _HUNTERS,
        country=_weighted(rng, _COUNTRIES),
        arrives_after_s=pace * rng.random() * of / _ARRIVALS_PER_S,
        seed=own_seed,
    )


def another_day(persona: Persona, day: int) -> Persona:
    """The same person on another day, with other cards and in another mood."""
    rng = random.Random(f"{persona.seed}/day {day}")  # noqa: S311 - an emulation, not a secret
    return replace(
        persona, manner=_weighted(rng, _MANNERS), cards=_weighted(rng, _CARDS), hunts=rng.random() < _HUNTERS
    )


def _weighted(rng: random.Random, weights: Mapping[T, int]) -> T:
    return rng.choices(list(weights), weights=list(weights.values()))[0]
