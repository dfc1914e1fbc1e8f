"""Plays cases of the matrix in one shop after another."""

import asyncio
import contextlib
import itertools
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from mesh.errors import Failure
from shop.checkout.v1.checkout_pb2 import GetOrderRequest
from shop.checkout.v1.saga_pb2 import ListSagasRequest
from tests.chaos.matrix import Case, Phase, Reconnaissance, Result
from tests.chaos.scene import BrokenPromiseError, Scene, filled_cart, placed, until
from tests.chaos.shop import Shop, ShopError
from tests.chaos.stories import ORDERS, OTHERS, Story, bought

# The environment of a shop with databases of its own, which are gone afterwards.
Databases = Callable[[], AbstractContextManager[Mapping[str, str]]]

NO_STRIKE = "the failpoint was not hit"
_AUDIT_EVERY = 5
# What is done in the background comes about within a few seconds.
_STRIKES_WITHIN_S = 8.0
_CASE_S = 120.0
_POLL_S = 0.02
# Each recovery gives customers more time to pay than they had before, so that holds have to be extended.
_MORE_PATIENCE_S = 600
_FIRST_PATIENCE_S = 900


async def slow(scene: Scene) -> None:
    """The provider takes three seconds: an order that is surely under way when the shop goes down."""
    token = "tok_slow" if scene.provider is None else "tok_ok_slow"
    scene.slow_cart = await filled_cart(scene, {scene.sku: 1})
    await placed(scene, scene.slow_cart, token, ends=("PAID", ""))


@dataclass(frozen=True, slots=True)
class Seen:
    """What happened at failpoints: how often each was hit, and whether one struck."""

    hits: Counter[str]
    struck: bool


class Stage:
    """One shop for many cases; when a case has broken it, another. See Shop for `pays_over_http`."""

    def __init__(self, name: str, folder: Path, databases: Databases, *, pays_over_http: bool = False) -> None:
        self.name = name
        self._pays_over_http = pays_over_http
        self.orders = 0
        self.audits = 0
        self._folder = folder
        self._databases = databases
        self._numbers = itertools.count(1)
        self._patience_s = _FIRST_PATIENCE_S
        self._stack = ExitStack()
        self._shop: Shop | None = None
        self._unaudited: list[Case] = []

    async def explore(self) -> Reconnaissance:
        """Play everything with nothing armed. Raises BrokenPromiseError when that alone breaks one."""
        seen = Reconnaissance()
        shop = await self._open_shop()
        # The orders first: what they hit needs no story of its own.
        for story in (None, *OTHERS):
            stories = ORDERS if story is None else (story,)
            seen.traffic[story] = (await self._traffic(shop, stories, "")).hits
        for phase in (Phase.RECOVERY, Phase.STOP, Phase.FIRST_START):
            seen.phases[phase] = (await self._play(shop, phase, ORDERS, "")).hits
        problems = await self._audit(shop)
        if problems:
            raise BrokenPromiseError("\n".join(problems))
        return seen

    async def play(self, case: Case) -> Result:
        """Play a case, and audit now and then.

        What was hit in the reconnaissance by chance may not be hit again: then more goes on meanwhile, and more again.
        """
        started = time.monotonic()
        shop = await self._open_shop()
        deaths, repetitions = len(shop.deaths), shop.client.repetitions
        busier = replace(case, at=1, besides=OTHERS)
        for attempt in (case, busier, replace(busier, phase=Phase.RECOVERY)):
            problems = await self._problems(shop, attempt)
            if problems != [NO_STRIKE]:
                break
        self._unaudited.append(case)
        if problems or len(self._unaudited) >= _AUDIT_EVERY:
            problems += await self._audit(shop)
        if problems:
            await self._close_shop(shop)
        return Result(
            case=case,
            database=self.name,
            seconds=time.monotonic() - started,
            deaths=len(shop.deaths) - deaths,
            repetitions=shop.client.repetitions - repetitions,
            problems=tuple(problems),
        )

    async def last_audit(self) -> list[str]:
        """What an audit finds after the last case."""
        return await self._audit(self._shop) if self._shop is not None and self._unaudited else []

    async def close(self) -> None:
        """Close the shop; its databases are gone."""
        if self._shop is not None:
            await self._close_shop(self._shop)

    # --- the shop

    async def _open_shop(self) -> Shop:
        if self._shop is None:
            self._shop = self._new_shop(self._stack)
            await self._shop.open()
        return self._shop

    def _new_shop(self, stack: ExitStack) -> Shop:
        databases = stack.enter_context(self._databases())
        folder = self._folder / f"{self.name}-{next(self._numbers)}"
        return Shop(folder, databases, pays_over_http=self._pays_over_http)

    async def _close_shop(self, shop: Shop) -> None:
        self._shop = None
        self._unaudited.clear()
        await shop.close()
        self._stack.close()

    async def _audit(self, shop: Shop) -> list[str]:
        played = ", ".join(map(str, self._unaudited))
        self._unaudited.clear()
        self.audits += 1
        await shop.let_operator_in()
        findings = (await shop.audit()).findings
        return [f"audit: {one.invariant} {one.subject} {one.fault.message} (after {played})" for one in findings]

    # --- cases

    async def _problems(self, shop: Shop, case: Case) -> list[str]:
        deaths = len(shop.deaths)
        try:
            async with asyncio.timeout(_CASE_S):
                seen = await self._play(shop, case.phase, case.stories, case.armed)
        except (Failure, BrokenPromiseError, ShopError, TimeoutError, ExceptionGroup) as error:
            return [f"{type(one).__name__}: {one}" for one in _leaves(error)]
        if not seen.struck:
            return [NO_STRIKE]
        return [] if case.may_end_it else [f"it ended by itself: {code}" for code in shop.deaths[deaths:]]

    async def _play(self, shop: Shop, phase: Phase, stories: Sequence[Story], armed: str) -> Seen:
        match phase:
            case Phase.TRAFFIC:
                return await self._traffic(shop, stories, armed)
            case Phase.RECOVERY:
                return await self._recovery(shop, stories, armed)
            case Phase.STOP:
                return await self._stop(shop, stories, armed)
            case Phase.FIRST_START:
                return await self._first_start(armed)

    async def _traffic(self, shop: Shop, stories: Sequence[Story], armed: str) -> Seen:
        async with self._scene(shop) as scene:
            shop.arm(armed)
            async with asyncio.TaskGroup() as group:
                _begin(group, scene, stories)
            return await _seen(shop, armed)

    async def _recovery(self, shop: Shop, stories: Sequence[Story], armed: str) -> Seen:
        """Killed with orders under way, armed, started again."""
        async with self._scene(shop) as scene:
            async with asyncio.TaskGroup() as group:
                _begin(group, scene, (*stories, slow))
                await _until_paying_slowly(scene)
                await shop.kill()
                shop.arm(armed)
                self._patience_s += _MORE_PATIENCE_S
                shop.launch(patience_s=self._patience_s)
            return await _seen(shop, armed)

    async def _stop(self, shop: Shop, stories: Sequence[Story], armed: str) -> Seen:
        """Told to stop with orders under way, armed; started again."""
        async with self._scene(shop) as scene, asyncio.TaskGroup() as group:
            _begin(group, scene, (*stories, slow))
            await _until_paying_slowly(scene)
            shop.arm(armed)
            await shop.stop()
            seen = Seen(shop.hits(), shop.has_struck())
            shop.arm("")
            shop.launch(patience_s=self._patience_s)
        return seen

    async def _first_start(self, armed: str) -> Seen:
        """A shop of its own is armed and started for the first time; then somebody buys."""
        with ExitStack() as stack:
            shop = self._new_shop(stack)
            try:
                shop.arm(armed)
                await shop.open()
                seen = await _seen(shop, armed)
                async with self._scene(shop) as scene:
                    await bought(scene)
                problems = [str(finding) for finding in (await shop.audit()).findings]
            finally:
                await shop.close()
        if self._shop is not None:
            self._shop.deaths += shop.deaths
        if problems:
            raise BrokenPromiseError("\n".join(problems))
        return seen

    @contextlib.asynccontextmanager
    async def _scene(self, shop: Shop) -> AsyncIterator[Scene]:
        """A scene with products of its own; at its end, everything rests and no unit is missing."""
        name = f"{self.name}-{next(self._numbers)}"
        scene = Scene(
            client=shop.client,
            provider=shop.provider,
            operator=shop.operator,
            service=shop.service,
            sku=f"{name}-one",
            other=f"{name}-two",
            last=f"{name}-last",
        )
        await scene.open()
        yield scene
        await shop.ready()
        await shop.until_rested()
        await scene.close()
        self.orders += len(scene.orders)


def _begin(group: asyncio.TaskGroup, scene: Scene, stories: Sequence[Story]) -> None:
    for story in stories:
        group.create_task(story(scene), name=story.__name__)


async def _until_paying_slowly(scene: Scene) -> None:
    """Wait until the slow order's provider is being asked: by then the other orders are under way or over."""
    ask = partial(scene.client.ask, metadata=scene.operator)

    async def look() -> bool:
        page = await ask(ListSagasRequest(open=True, state="AUTHORIZING", page_size=100))
        orders = [await ask(GetOrderRequest(order_id=saga.order_id)) for saga in page.sagas]
        return scene.slow_cart in {order.cart_id for order in orders}

    await until(look, what="an order to be under way")


async def _seen(shop: Shop, armed: str) -> Seen:
    """What happened, once what is armed has struck, or surely does not. Disarms. Raises BrokenPromiseError."""
    deadline = time.monotonic() + _STRIKES_WITHIN_S
    while armed and not shop.has_struck() and time.monotonic() < deadline:  # noqa: ASYNC110 - another process tells
        await asyncio.sleep(_POLL_S)
    seen = Seen(shop.hits(), shop.has_struck())
    # A strike is told of before it strikes: the process may still answer, and say that it is well.
    if shop.is_to_die():
        await until(shop.has_died, what="the process that was struck to end")
    shop.arm("")
    return seen


def _leaves(error: Exception) -> Iterator[Exception]:
    if isinstance(error, ExceptionGroup):
        for one in error.exceptions:
            yield from _leaves(one)
    else:
        yield error
