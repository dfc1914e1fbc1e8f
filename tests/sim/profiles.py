"""How bad it gets: how much of each fault there is, and how much there is to do."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """How much of each fault there is: probabilities per message, statement, COMMIT and stopping point."""

    name: str
    # Per message.
    slow: float = 0.02
    late: float = 0.0
    lost: float = 0.0
    echo: float = 0.0
    # Per statement, per COMMIT.
    statement: float = 0.0
    commit: float = 0.0
    # Per stopping point: before a node sends, before and after it commits.
    crash: float = 0.0
    pause: float = 0.0
    # What happens from outside, and how often: the mean of the seconds between.
    every_s: float = 1e9
    events: Mapping[str, float] = field(default_factory=dict)
    # How much there is to do.
    customers: tuple[int, int] = (1, 6)
    products: tuple[int, int] = (1, 3)
    stock: tuple[int, int] = (1, 8)
    lasts_s: tuple[float, float] = (0.3, 3.0)

    @property
    def is_calm(self) -> bool:
        """Whether nothing goes wrong."""
        return not (self.late or self.lost or self.statement or self.commit or self.crash or self.pause or self.events)


_ALL = {"crash": 3.0, "pause": 2.0, "restart": 1.0, "cut": 2.0, "outage": 2.0, "clock": 1.0}
PROFILES: Mapping[str, Profile] = {
    profile.name: profile
    for profile in (
        Profile(name="calm"),
        Profile(name="crowd", customers=(10, 30), products=(1, 2), stock=(1, 12), lasts_s=(0.2, 2.0), slow=0.1),
        Profile(name="network", slow=0.1, late=0.02, lost=0.06, echo=0.06, every_s=1.2, events={"cut": 1}),
        Profile(
            name="crashes",
            echo=0.03,
            crash=0.01,
            pause=0.005,
            every_s=0.9,
            events={"crash": 2, "pause": 2, "restart": 1},
        ),
        Profile(name="pauses", late=0.01, echo=0.02, pause=0.015, every_s=0.9, events={"pause": 3, "clock": 1}),
        Profile(name="database", statement=0.004, commit=0.06, every_s=1.2, events={"outage": 2, "crash": 1}),
        Profile(
            name="nasty",
            slow=0.1,
            late=0.02,
            lost=0.03,
            echo=0.05,
            statement=0.002,
            commit=0.03,
            crash=0.006,
            pause=0.005,
            every_s=0.9,
            events=_ALL,
        ),
    )
}
# Which profile a seed has when none is asked for.
MIX = ("calm", "crowd", "network", "crashes", "pauses", "database", "nasty", "nasty", "crashes", "network")
