"""What goes wrong, drawn by the seed: messages, databases, nodes. `heal` ends it all."""

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable, Sequence
from random import Random
from typing import Protocol

from tests.sim.database import failure, lost_connection
from tests.sim.log import Log
from tests.sim.loop import LIFE, Life
from tests.sim.profiles import Profile

# A moment, or longer than the lease of a coordinator lasts.
_STOPPED_S = ((0.1, 1.5), (2.2, 5.0))
# The provider's book is where outcomes are to be lost: that is the payment provider which does not answer.
_BOOK = "psp"
# What most often happens is of least interest: leases that are renewed while nothing else goes on.
_ROUTINE = ("coordinators", "relays")
_CHANGES = ("INSERT", "UPDATE", "DELETE")
# The answers that are worst to be late: by then the cart may have been bought.
_SLOW_ANSWER = "BatchGetCarts"


class Strikes(Protocol):
    """What can be done to nodes."""

    def living(self) -> Sequence[Life]:
        """The nodes that run."""

    def crash(self, life: Life, why: str) -> None:
        """Kill a node in the middle of whatever it does; it starts again after a while."""

    def pause(self, life: Life, for_s: float, why: str) -> None:
        """Stop a node; it goes on as if nothing had happened."""

    def restart(self, life: Life) -> None:
        """Stop a node in order, and start it again."""

    def move_clock(self, life: Life, by_s: float) -> None:
        """Move the wall clock of one node."""


class Faults:
    """The faults of one simulation; off until `begin`, and again after `heal`."""

    def __init__(self, profile: Profile, rng: Random, *, log: Log, addresses: Sequence[str]) -> None:
        self.profile = profile
        self.is_on = False
        self._rng = rng
        self._log = log
        self._addresses = addresses
        self._cuts: set[str] = set()
        self._outages: dict[str, sqlite3.OperationalError] = {}
        self._strikes: Strikes | None = None
        self._task: asyncio.Task[None] | None = None

    def begin(self, strikes: Strikes) -> None:
        """From now on things go wrong."""
        self.is_on = True
        self._strikes = strikes
        self._task = asyncio.create_task(self._strike_now_and_then(), name="faults")

    def heal(self) -> None:
        """From now on nothing goes wrong any more. Nodes that are down or paused come back by themselves."""
        self.is_on = False
        self._cuts.clear()
        self._outages.clear()
        if self._task is not None:
            self._task.cancel()

    # Messages.

    def delay_s(self, path: str = "") -> float:
        """A moment; some messages take seconds, a few much longer than anybody waits. `path` is of an answer's call."""
        draw = self._rng.random()
        if self.is_on and path.endswith(_SLOW_ANSWER) and draw > 1 - 2 * self.profile.slow:
            return self._rng.uniform(0.01, 0.3)
        if self.is_on and draw < self.profile.late:
            return self._rng.uniform(2.0, 9.0)
        if self.is_on and draw < self.profile.late + self.profile.slow:
            return self._rng.uniform(0.01, 1.5)
        return self._rng.uniform(0.0002, 0.002)

    def is_cut(self, caller: str, address: str) -> bool:
        """Whether the line between these two is cut."""
        return address in self._cuts and caller.partition("-")[0] != address

    def loses_request(self) -> bool:
        """By chance."""
        return self.is_on and self._rng.random() < self.profile.lost

    def loses_answer(self) -> bool:
        """By chance."""
        return self.is_on and self._rng.random() < self.profile.lost

    def is_silent(self) -> bool:
        """Half the time."""
        return self._rng.random() < 0.5

    def echoes_after_s(self) -> float | None:
        """At once, or long after everybody has forgotten it."""
        if not self.is_on or self._rng.random() >= self.profile.echo:
            return None
        return self._rng.choice(
            (self._rng.uniform(0.0, 0.05), self._rng.uniform(0.05, 3.0), self._rng.uniform(3.0, 12.0))
        )

    async def before_send(self) -> None:
        """A stopping point."""
        await self._stopping_point("before a call")

    async def before_publish(self) -> None:
        """A stopping point."""
        await self._stopping_point("around a publication")

    # Databases.

    async def on_statement(self, database: str) -> None:
        """Busy, or the connection is gone; during an outage nothing works."""
        if database in self._outages:
            raise self._outages[database]
        if self.is_on and self._rng.random() < self.profile.statement:
            error = self._rng.choice((failure("database is locked", sqlite3.SQLITE_BUSY), lost_connection()))
            self._count(f"statements failed: {error}")
            raise error

    async def on_commit(self, database: str, statements: Sequence[str]) -> sqlite3.OperationalError | None:
        """Lost before or after it was carried out; and the repetition may be possible or not."""
        await self._stopping_point("before a commit")
        await self.on_statement(database)
        likely = self.profile.commit * (3 if database == _BOOK or _matters(statements) else 1)
        if not self.is_on or self._rng.random() >= likely:
            return None
        error = self._rng.choice((lost_connection(), failure("disk I/O error", sqlite3.SQLITE_IOERR)))
        if self._rng.random() < 0.4:
            self._count("commits lost, not done")
            raise error
        self._count("commits lost, done")
        return error

    async def on_committed(self, database: str) -> None:  # noqa: ARG002 - one stopping point for all
        """A stopping point."""
        await self._stopping_point("after a commit")

    # Nodes.

    async def _stopping_point(self, where: str) -> None:
        life = LIFE.get(None)
        if not self.is_on or life is None or self._strikes is None:
            return
        draw = self._rng.random()
        if draw < self.profile.crash:
            self._strikes.crash(life, where)
            # Never: whoever is dead does not go on.
            await asyncio.get_running_loop().create_future()
        elif draw < self.profile.crash + self.profile.pause:
            self._strikes.pause(life, self._rng.uniform(*self._rng.choice(_STOPPED_S)), where)
            await asyncio.sleep(0)

    async def _strike_now_and_then(self) -> None:
        kinds: dict[str, Callable[[], Awaitable[None] | None]] = {
            "crash": self._crash,
            "pause": self._pause,
            "restart": self._restart,
            "cut": self._cut,
            "outage": self._outage,
            "clock": self._move_clock,
        }
        if not self.profile.events:
            return
        while True:
            await asyncio.sleep(self._rng.expovariate(1 / self.profile.every_s))
            kind = self._rng.choices(list(self.profile.events), list(self.profile.events.values()))[0]
            done = kinds[kind]()
            if done is not None:
                await done

    def _victim(self) -> Life | None:
        living = self._strikes.living() if self._strikes is not None else ()
        return self._rng.choice(living) if living else None

    def _crash(self) -> None:
        if (life := self._victim()) is not None and self._strikes is not None:
            self._strikes.crash(life, "from outside")

    def _pause(self) -> None:
        if (life := self._victim()) is not None and self._strikes is not None:
            self._strikes.pause(life, self._rng.uniform(*self._rng.choice(_STOPPED_S)), "from outside")

    def _restart(self) -> None:
        if (life := self._victim()) is not None and self._strikes is not None:
            self._strikes.restart(life)

    def _move_clock(self) -> None:
        if (life := self._victim()) is not None and self._strikes is not None:
            self._count("clocks moved")
            self._strikes.move_clock(life, self._rng.choice((-600.0, 600.0)))

    async def _cut(self) -> None:
        address = self._rng.choice(self._addresses)
        self._count("lines cut")
        self._log.add(f"nobody reaches {address}")
        self._cuts.add(address)
        await asyncio.sleep(self._rng.uniform(0.3, 4.0))
        self._cuts.discard(address)
        self._log.add(f"{address} is reached again")

    async def _outage(self) -> None:
        name = self._rng.choice(("inventory", "cart", "checkout", "psp", "psp"))
        errors = (failure("database or disk is full", sqlite3.SQLITE_FULL), lost_connection())
        self._count("databases away")
        self._log.add(f"the database {name} is away")
        self._outages[name] = self._rng.choice(errors)
        await asyncio.sleep(self._rng.uniform(0.3, 4.0))
        self._outages.pop(name, None)
        self._log.add(f"the database {name} is back")

    def _count(self, kind: str) -> None:
        self._log.count(kind)
        if self._task is not None:
            self._log.add(kind)


def _matters(statements: Sequence[str]) -> bool:
    """Whether a transaction changes more than leases."""
    changes = (sql for sql in statements if sql.startswith(_CHANGES))
    return any(not any(name in sql for name in _ROUTINE) for sql in changes)
