"""One simulation: a shop of several nodes, people who buy, faults, then quiet, then the proof."""

import asyncio
import logging
import shutil
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from random import Random
from types import ModuleType
from typing import Any

import cart_service.app
import checkout_service.app
import inventory_service.app
from cart_service.config import CartSettings
from checkout_service.config import CheckoutSettings
from inventory_service.config import InventorySettings
from mesh.auth import ServiceCredential
from mesh.clock import Clock
from mesh.config import Settings
from shopmesh.parts import service_config
from tests.sim import check
from tests.sim.channel import Channels
from tests.sim.database import NAMES, Storage, copy_templates, driven_by
from tests.sim.desk import Desk, fetch_keys
from tests.sim.faults import Faults
from tests.sim.log import Event, Log
from tests.sim.loop import LIFE, Loop, StuckError
from tests.sim.node import Fleet, Node, Site
from tests.sim.partner import Partner
from tests.sim.people import WEBHOOK_SECRET, Customer, Operator, ask_for_the_end
from tests.sim.profiles import MIX, PROFILES, Profile
from tests.sim.seal import BEGINNING, Seal, sealed
from tests.sim.stream import Stream
from tests.sim.transport import Network

_SECRET = "s" * 32
_SERVICES: Mapping[str, tuple[type[Settings], ModuleType]] = {
    "inventory": (InventorySettings, inventory_service.app),
    "cart": (CartSettings, cart_service.app),
    "checkout": (CheckoutSettings, checkout_service.app),
}
_ADDRESSES = {f"SHOP_{name.upper()}_ADDR": name for name in _SERVICES}
_OWN: Mapping[str, dict[str, Any]] = {
    "inventory": {},
    "cart": {},
    # Short, so that a customer who never pays does not cost an hour of background work.
    "checkout": {"webhook_secrets": WEBHOOK_SECRET, "payment_timeout_s": 4},
}
_REST_WITHIN_S = 900.0
# How long things go on going wrong after the last customer came.
_NOISE_S = (0.5, 5.0)
_WAITING_FOR_CHECKS = 0.03
_STOPS_WITHIN_S = 60.0
_LOOK_EVERY_S = 0.2


@dataclass(slots=True, kw_only=True)
class Result:
    """What came of one seed."""

    seed: int
    profile: str
    digest: str
    violations: list[str]
    virtual_s: float
    steps: int
    counts: Mapping[str, int]
    ends: Mapping[str, int]
    events: list[Event] = field(default_factory=list, repr=False)


async def make_templates(folder: Path) -> None:
    """Databases with their schema and nothing in them, made in the folder by the services' own migrations."""
    for name, (kind, app) in _SERVICES.items():
        await app.migrate(_settings(kind, name, folder))
    for name in NAMES:
        with check.opened(folder, name) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def simulate(seed: int, *, templates: Path, folder: Path, profile: str = "", keep: int | None = None) -> Result:
    """Run one seed from beginning to end. Its last `keep` events stay to be told; by default all."""
    chosen = PROFILES[profile or MIX[seed % len(MIX)]]
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    copy_templates(templates, folder)
    loop = Loop(draw(seed, "order"))
    log = Log(loop.time, keep=keep)
    asyncio.set_event_loop(loop)
    try:
        with sealed(loop.time) as seal:
            world = World(seed, chosen, folder, loop=loop, log=log)
            with driven_by(world.storage), _heard(world, seal):
                violations = world.run(seal)
        return Result(
            seed=seed,
            profile=chosen.name,
            digest=log.digest(),
            violations=violations,
            virtual_s=loop.time(),
            steps=loop.steps,
            counts=log.counts,
            ends=check.ends(folder),
            events=list(log),
        )
    finally:
        asyncio.set_event_loop(None)
        shutil.rmtree(folder, ignore_errors=True)


def draw(seed: int, purpose: str) -> Random:
    """A source of randomness for each purpose, so that one more draw here changes nothing there."""
    return Random(f"{seed}/{purpose}")  # noqa: S311 - nothing of a simulation is secret


class World:
    """All that there is in one simulation."""

    def __init__(self, seed: int, profile: Profile, folder: Path, *, loop: Loop, log: Log) -> None:
        self.log = log
        self.loop = loop
        self._seed = seed
        self._folder = folder
        self._profile = profile
        world = draw(seed, "world")
        self.faults = Faults(profile, draw(seed, "faults"), log=log, addresses=list(_SERVICES))
        self.storage = Storage(folder, rng=draw(seed, "storage"), log=log, now=self.now)
        self.network = Network(loop, self.faults, log=log)
        self.stream = Stream(self.faults, log=log)
        self.channels = Channels(self.network, service_config())
        self.desk = Desk(loop, self.channels, draw(seed, "desk"), is_stored=partial(check.has_answer, folder))
        self.desk.notes.is_calm = profile.is_calm
        self.storage.faults = self.faults
        self._site = Site(
            loop=loop,
            network=self.network,
            channels=self.channels,
            events=self.stream,
            storage=self.storage,
            log=log,
            service_secret=_SECRET,
            fetch_keys=fetch_keys,
            now=self.now,
        )
        replicas = {"inventory": world.choice((1, 1, 1, 2)), "cart": 1, "checkout": 2}
        self.fleet = Fleet([self._node(name, n) for name, count in replicas.items() for n in range(1, count + 1)])
        stock = {f"sku-{n}": world.randint(*profile.stock) for n in range(1, world.randint(*profile.products) + 1)}
        lasts_s = world.uniform(*profile.lasts_s)
        # A minute of background work is dear, so only some wait until every payment has been checked once more.
        self._waits_for_checks = world.random() < _WAITING_FOR_CHECKS
        self._noise_s = lasts_s + world.uniform(*_NOISE_S)
        self._operator = Operator(draw(seed, "operator"), self.desk, stock, lasts_s=lasts_s)
        credential = ServiceCredential("partner", _SECRET, clock=Clock(now=self.now))
        metadata = credential.metadata()
        self._partner = Partner(draw(seed, "partner"), self.desk, list(stock), metadata, lasts_s=lasts_s)
        names = [f"customer-{n}" for n in range(1, world.randint(*profile.customers) + 1)]
        self._customers = [Customer(one, draw(seed, one), self.desk, list(stock), lasts_s=lasts_s) for one in names]

    def now(self) -> datetime:
        """The true time."""
        return BEGINNING + timedelta(seconds=self.loop.time())

    def run(self, seal: Seal) -> list[str]:
        """From opening the shop to the proof. Answers what was violated."""
        try:
            found = self.loop.run_until_complete(self._live())
        except StuckError as error:
            found = [f"stuck: {error}"]
        except Exception:  # noqa: BLE001 - whatever broke, the story of this seed is to be told
            found = [f"broke: {traceback.format_exc()}"]
        return [f"sealed: {place}" for place in dict.fromkeys(seal.broken)] + found

    async def _live(self) -> list[str]:
        for node in self.fleet.nodes:
            node.start()
        await self._until(lambda: all(node.is_up for node in self.fleet.nodes))
        await self._operator.open_shop()
        self.log.add("the shop is open")
        self.faults.begin(self.fleet)
        async with asyncio.TaskGroup() as people:
            people.create_task(self._operator.run())
            people.create_task(self._partner.run())
            for customer in self._customers:
                people.create_task(customer.run())
            await asyncio.sleep(self._noise_s)
            self.log.add("quiet")
            self.faults.heal()
            for node in self.fleet.nodes:
                node.set_clock()
        return await self._quiet()

    async def _quiet(self) -> list[str]:
        if not await self._until(lambda: len(self.fleet.living()) == len(self.fleet.nodes)):
            return [f"stuck: {node.name} does not come back, {node.under_way()}" for node in self.fleet.nodes]
        async with asyncio.TaskGroup() as asking:
            asking.create_task(self._partner.end())
            asking.create_task(self._partner.settle_again())
            for wish in self.desk.notes.wishes:
                asking.create_task(ask_for_the_end(self.desk, wish))
        await self._until(lambda: check.work_left(self._folder, checks=self._waits_for_checks) == 0)
        for node in self.fleet.nodes:
            try:
                async with asyncio.timeout(_STOPS_WITHIN_S):
                    await node.stop()
            except TimeoutError:
                return [f"stuck: {node.name} does not stop, {node.under_way()}"]
        left = [f"leak: {node.name} leaves {left}" for node in self.fleet.nodes for left in node.leaves()]
        return left + await check.violations(
            self._folder, self.desk.notes, self.stream.published, self.storage.witness.wrong
        )

    async def _until(self, condition: Any) -> bool:
        give_up_at = self.loop.time() + _REST_WITHIN_S
        while not condition():
            if self.loop.time() > give_up_at:
                return False
            await asyncio.sleep(_LOOK_EVERY_S)
        return True

    def _node(self, service: str, number: int) -> Node:
        kind, app = _SERVICES[service]
        name = f"{service}-{number}"
        settings = _settings(kind, service, self._folder)
        return Node(name, service, app.build, settings, site=self._site, rng=draw(self._seed, name))


class _Ear(logging.Handler):
    """Hears what the code under test logs: warnings are a part of the story, errors should not be."""

    def __init__(self, world: World) -> None:
        super().__init__(logging.WARNING)
        self._world = world

    def emit(self, record: logging.LogRecord) -> None:
        facts = {
            name: getattr(record, name) for name in ("reason", "cause", "saga_id", "work") if hasattr(record, name)
        }
        said = f"{record.name}: {record.getMessage()} {facts or ''}"
        self._world.log.add(f"logs {record.levelname} {said}")
        if record.levelno >= logging.ERROR:
            text = logging.Formatter().formatException(record.exc_info) if record.exc_info else ""
            life = LIFE.get(None)
            self._world.desk.notes.scandals.append(f"{life.name if life else ''} logged {said}\n{text}")


@contextmanager
def _heard(world: World, seal: Seal) -> Iterator[None]:
    root, ear = logging.getLogger(), _Ear(world)
    root.addHandler(ear)
    try:
        yield
    finally:
        root.removeHandler(ear)


def _settings(kind: type[Settings], name: str, folder: Path) -> Settings:
    return kind(data_dir=folder, service_secret=_SECRET, per_service=_ADDRESSES, **_OWN[name])
