"""A whole run: the shop, the load, the nemesis, quiet, the verdict."""

import asyncio
import logging
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from shopmesh.edge import gateway_config
from tests.nemesis.cluster import Cluster
from tests.nemesis.load import Plan, Seen, journal_path
from tests.nemesis.nemesis import Deed, Nemesis
from tests.nemesis.schedule import draw
from tests.nemesis.shoppers import Shoppers, shopping
from tests.nemesis.verdict import Verdict, examine, judge, until_rest

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Options:
    """What a run is told."""

    # How long the load lasts; starting, calming down and judging come on top.
    seconds: float
    seed: int
    # Who shops at the same time, and how many purchases in a second they begin together.
    customers: int
    rate: float
    # Where everything that the run leaves goes; what was there before is deleted.
    folder: Path
    # How long after the last fault everything has to be at rest.
    quiet_s: float = 30.0


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a run. `quiet_s` is when, after the load's begin, the last fault had been healed."""

    deeds: list[Deed]
    # How many COMMITs were really cut, by where.
    cuts: Mapping[str, int]
    quiet_s: float
    seen: Seen
    verdict: Verdict


async def run(options: Options) -> Outcome:
    """Do it all. Raises when the experiment itself fails; what it finds stands in the verdict."""
    shutil.rmtree(options.folder, ignore_errors=True)
    options.folder.mkdir(parents=True)
    with tempfile.TemporaryDirectory(prefix="nemesis-") as data:
        async with Cluster(Path(data), options.folder / "logs") as cluster:
            return await _torment(options, cluster)


async def _torment(options: Options, cluster: Cluster) -> Outcome:
    loop = asyncio.get_running_loop()
    nemesis, verdict = Nemesis(cluster, options.seed), Verdict()
    faults = draw(options.seed, options.seconds)
    _log.info("%d faults in %.0f s, drawn from seed %d", len(faults), options.seconds, options.seed)
    async with shopping(_plan(options, cluster), options.folder) as shoppers:
        began = loop.time()
        await nemesis.run(faults, since=began)
        await asyncio.sleep(began + options.seconds - loop.time())
        quiet = loop.time()
        _log.info("%6.1f s  quiet", quiet - began)
        await _until_shopped(shoppers, verdict, within_s=options.quiet_s)
        await until_rest(cluster, verdict, since=quiet, within_s=options.quiet_s)
        seen = await shoppers.compare()
    _log.info("%6.1f s  asked again for %d orders", loop.time() - began, seen.asked_again)
    await examine(cluster, verdict, journal_path(options.folder))
    judge(cluster, verdict, seen)
    _log.info("%6.1f s  judged", loop.time() - began)
    return Outcome(
        nemesis.deeds, {str(cut): number for cut, number in cluster.proxy.cuts.items()}, quiet - began, seen, verdict
    )


async def _until_shopped(shoppers: Shoppers, verdict: Verdict, *, within_s: float) -> None:
    waiting = asyncio.create_task(shoppers.until_shopped())
    if not (await asyncio.wait({waiting}, timeout=within_s))[0]:
        verdict.violations.append(f"customers still wait {within_s:.0f} s after the last fault")
    await waiting


def _plan(options: Options, cluster: Cluster) -> Plan:
    return Plan(
        seconds=options.seconds,
        seed=options.seed,
        customers=options.customers,
        rate=options.rate,
        http_url=cluster.http_url,
        addresses=gateway_config(cluster.settings).upstreams,
    )
