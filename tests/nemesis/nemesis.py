"""The nemesis: does what its schedule says, undoes it, and keeps a record of both."""

import asyncio
import contextlib
import logging
import os
import random
import signal
from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import pymysql  # type: ignore[import-untyped]
from redis.asyncio import Redis as RedisClient

from tests.nemesis.cluster import Cluster
from tests.nemesis.proxy import Cut
from tests.nemesis.schedule import MARIADB, REDIS, Fault, FaultKind
from tests.support.servers import Server

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class Deed:
    """A fault as it came about: seconds since the load began, and when its target was whole again."""

    fault: Fault
    began_s: float
    healed_s: float = 0.0
    # What a person should know of it, such as how many connections there were to kill.
    note: str = ""


class Nemesis:
    """Strikes a cluster. One fault at a time for each target; different targets may be struck at the same time."""

    def __init__(self, cluster: Cluster, seed: int) -> None:
        self.deeds: list[Deed] = []
        self._cluster = cluster
        self._rng = random.Random(f"{seed}/victims")  # noqa: S311 - an experiment, not a secret
        self._turns: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    async def run(self, faults: Sequence[Fault], *, since: float) -> None:
        """Do it all, counting from `since` in loop time. Returns when all is healed; raises when that fails."""
        loop = asyncio.get_running_loop()
        async with asyncio.TaskGroup() as group:
            for fault in faults:
                await asyncio.sleep(since + fault.at_s - loop.time())
                group.create_task(self._strike(fault, since))
        self._cluster.proxy.disarm()

    async def _strike(self, fault: Fault, since: float) -> None:
        loop = asyncio.get_running_loop()
        async with self._turns[fault.target]:
            deed = Deed(fault, loop.time() - since)
            self.deeds.append(deed)
            _log.info("%6.1f s  %s %s, %.1f s", deed.began_s, fault.kind, fault.target, fault.lasts_s)
            deed.note = await self._deeds()[fault.kind](fault) or ""
            deed.healed_s = loop.time() - since

    def _deeds(self) -> Mapping[FaultKind, Callable[[Fault], Awaitable[str | None]]]:
        return {
            FaultKind.KILL: self._kill,
            FaultKind.STOP: self._stop,
            FaultKind.RESTART: self._restart,
            FaultKind.FLUSH: self._flush,
            FaultKind.CUT_BEFORE_COMMIT: partial(self._cut_commits, Cut.BEFORE),
            FaultKind.CUT_BEFORE_ANSWER: partial(self._cut_commits, Cut.ANSWER),
            FaultKind.CUT_IN_COMMIT: partial(self._cut_commits, Cut.RACE),
            FaultKind.CUT_ALL: self._cut_all,
            FaultKind.KILL_CONNECTIONS: self._kill_connections,
        }

    async def _kill(self, fault: Fault) -> None:
        server = self._server(fault.target)
        if server is not None:
            await asyncio.to_thread(server.kill)
            await asyncio.sleep(fault.lasts_s)
            await asyncio.to_thread(server.start)
            return
        process = self._cluster.processes[fault.target]
        await asyncio.to_thread(process.kill)
        await asyncio.sleep(fault.lasts_s)
        process.launch()
        await self._cluster.until_listening(fault.target)

    async def _stop(self, fault: Fault) -> None:
        pid = (self._server(fault.target) or self._cluster.processes[fault.target]).pid
        os.kill(pid, signal.SIGSTOP)
        try:
            await asyncio.sleep(fault.lasts_s)
        finally:
            os.kill(pid, signal.SIGCONT)

    async def _restart(self, fault: Fault) -> None:
        server = self._server(fault.target)
        assert server is not None
        await asyncio.to_thread(server.stop)
        await asyncio.sleep(fault.lasts_s)
        await asyncio.to_thread(server.start)

    async def _flush(self, _: Fault) -> None:
        async with RedisClient.from_url(self._cluster.redis.url) as client:
            await client.flushall()

    async def _cut_commits(self, cut: Cut, fault: Fault) -> str:
        self._cluster.proxy.arm(cut, fault.times)
        return f"{fault.times} times"

    async def _cut_all(self, _: Fault) -> str:
        connections = self._cluster.proxy.connections
        self._cluster.proxy.cut_all()
        return f"{connections} connections"

    async def _kill_connections(self, fault: Fault) -> str:
        return f"{await asyncio.to_thread(self._kill_some, fault.times)} connections"

    def _kill_some(self, times: int) -> int:
        with self._cluster.administrator() as cursor:
            cursor.execute("SELECT id FROM information_schema.processlist WHERE db LIKE 'shop%'")
            ids = [row[0] for row in cursor.fetchall()]
            victims = self._rng.sample(ids, min(times, len(ids)))
            killed = 0
            for victim in victims:
                # It may have gone by itself meanwhile.
                with contextlib.suppress(pymysql.err.OperationalError):
                    cursor.execute(f"KILL CONNECTION {victim:d}")
                    killed += 1
            return killed

    def _server(self, target: str) -> Server | None:
        return {MARIADB: self._cluster.mariadb, REDIS: self._cluster.redis}.get(target)
