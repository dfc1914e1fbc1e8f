"""Nodes: each runs one service as its app.py builds it, on the simulation's clock, network and databases."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextvars import Context
from dataclasses import dataclass
from datetime import datetime, timedelta
from random import Random
from typing import Any, cast

from mesh.auth import Authenticator, FetchKeys
from mesh.cache import MemoryCache
from mesh.clock import Clock
from mesh.config import Settings
from mesh.events import Events
from mesh.interceptors import PolicyInterceptor
from mesh.program import Kit
from tests.sim.channel import Channels
from tests.sim.database import Storage
from tests.sim.log import Log
from tests.sim.loop import Life, Loop
from tests.sim.transport import Host, Network

_DOWN_S = (0.1, 3.0)
_GRACE_S = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """Where nodes stand: what they share."""

    loop: Loop
    network: Network
    channels: Channels
    events: Events
    storage: Storage
    log: Log
    service_secret: str
    fetch_keys: FetchKeys
    now: Callable[[], datetime]


class Node:
    """One replica of a service, through all its lives."""

    def __init__(
        self,
        name: str,
        address: str,
        build: Callable[[Settings, Kit], Awaitable[Any]],
        settings: Settings,
        *,
        site: Site,
        rng: Random,
    ) -> None:
        self.name = name
        self.address = address
        self.host: Host | None = None
        self.app: Any = None
        self._build = build
        self._settings = settings
        self._site = site
        self._rng = rng
        self._lives = 0
        self._leaves: list[str] = []
        self._clock_is_off_by = timedelta()

    @property
    def is_up(self) -> bool:
        """Whether it has begun to serve and has not ended."""
        return self.host is not None and not self.host.life.is_over and self.app is not None

    def start(self) -> None:
        """Begin a new life."""
        self._lives += 1
        self.app = None
        self.host = Host(Life(f"{self.name}.{self._lives}"), self.address)
        self._site.log.add("starts", node=self.host.life.name)
        self._within(self._serve(self.host))

    def crash(self, why: str) -> None:
        """SIGKILL: nothing of this life runs again, open transactions roll back; another begins after a while."""
        host = self._living_host()
        self._site.log.count(f"crashes {why}")
        self._site.log.add(f"is killed {why}", node=host.life.name)
        host.life.end()
        self._site.storage.kill(host.life)
        self._site.network.kill(host)
        self._later(self._rng.uniform(*_DOWN_S), self.start)

    def pause(self, for_s: float, why: str) -> None:
        """SIGSTOP, and SIGCONT after a while."""
        life = self._living_host().life
        self._site.log.count(f"pauses {why}")
        self._site.log.add(f"is paused {why} for {for_s:.3f} s", node=life.name)
        life.is_paused = True
        self._later(for_s, self._resume, life)

    def restart(self) -> None:
        """SIGTERM: stop in order, and start again."""
        host = self._living_host()
        self._site.log.count("restarts in order")
        self._within(self._stop_and_start(host))

    def move_clock(self, by_s: float) -> None:
        """From now on its wall clock is off by that much more."""
        self._clock_is_off_by += timedelta(seconds=by_s)
        self._site.log.add(f"the clock of {self.name} moves by {by_s} s")

    def set_clock(self) -> None:
        """Its wall clock is right again."""
        self._clock_is_off_by = timedelta()

    def leaves(self) -> list[str]:
        """The tasks that were still there when it had stopped in order."""
        return self._leaves

    def under_way(self) -> list[str]:
        """The tasks of its present life."""
        return sorted(task.get_name() for task in self.host.life.tasks) if self.host is not None else []

    async def stop(self) -> None:
        """Stop in order, for good."""
        host = self._living_host()
        await self._within(self._stop(host))

    def _within(self, work: Any) -> Any:
        """Do it as a part of the present life."""
        context = self._living_host().context.copy()
        return context.run(self._site.loop.create_task, work, context=context)

    def _living_host(self) -> Host:
        if self.host is None:
            raise AssertionError(f"{self.name} has not been started")
        return self.host

    async def _serve(self, host: Host) -> None:
        clock = Clock(now=self._now, monotonic=self._site.loop.time, random_bytes=self._rng.randbytes)
        kit = Kit(
            clock=clock,
            cache=MemoryCache(clock=clock),
            channels=cast("Any", self._site.channels),
            service_secret=self._site.service_secret,
            events=self._site.events,
        )
        app = await self._build(self._settings, kit)
        authenticator = Authenticator(self._site.service_secret, self._site.fetch_keys, clock=clock)
        host.interceptor = PolicyInterceptor(app.descriptors, authenticator, clock=clock)
        app.register(host)
        self._site.network.open(host)
        await app.start()
        self.app = app

    async def _stop(self, host: Host) -> None:
        self._site.log.add("stops")
        self._site.network.close(host)
        app, self.app = self.app, None
        await self._drain(host)
        await app.stop()
        self._leaves = [task.get_name() for task in host.life.tasks if task is not asyncio.current_task()]
        host.life.end()
        self._site.log.add("has stopped")

    async def _stop_and_start(self, host: Host) -> None:
        await self._stop(host)
        self._later(self._rng.uniform(*_DOWN_S), self.start)

    async def _drain(self, host: Host) -> None:
        """What gRPC's server does: give calls a moment, then cancel them."""
        # A request that was doubled may be served elsewhere too, perhaps by the dead.
        serving = [task for flight in host.flights for server, task in flight.serving if server is host]
        if serving:
            await asyncio.wait(serving, timeout=_GRACE_S)
        for task in serving:
            task.cancel()
        await asyncio.gather(*serving, return_exceptions=True)

    def _resume(self, life: Life) -> None:
        if not life.is_over:
            self._site.log.add("goes on", node=life.name)
            self._site.loop.resume(life)
            self._site.storage.resumed()

    def _now(self) -> datetime:
        return self._site.now() + self._clock_is_off_by

    def _later(self, delay_s: float, work: Callable[..., None], *arguments: Any) -> None:
        self._site.loop.call_later(delay_s, work, *arguments, context=Context())


class Fleet:
    """All nodes, and what can be done to them."""

    def __init__(self, nodes: Sequence[Node]) -> None:
        self.nodes = nodes

    def living(self) -> list[Life]:
        """The nodes that run."""
        return [node.host.life for node in self.nodes if node.is_up and node.host is not None and node.host.life.runs]

    def crash(self, life: Life, why: str) -> None:
        """See Node.crash."""
        self._of(life).crash(why)

    def pause(self, life: Life, for_s: float, why: str) -> None:
        """See Node.pause."""
        self._of(life).pause(for_s, why)

    def restart(self, life: Life) -> None:
        """See Node.restart."""
        self._of(life).restart()

    def move_clock(self, life: Life, by_s: float) -> None:
        """See Node.move_clock."""
        self._of(life).move_clock(by_s)

    def _of(self, life: Life) -> Node:
        return next(node for node in self.nodes if node.host is not None and node.host.life is life)
