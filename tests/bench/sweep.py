"""Throughput and batch sizes over the number of connections: for the plots, and no ratio."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tests.bench.batches import Sizes, batch_sizes
from tests.bench.sample import Measured
from tests.bench.stage import Stage


@dataclass(frozen=True, slots=True)
class Sweep:
    """What was measured with so many connections, by side; and the sizes of the mesh's batches with the most."""

    by_connections: Mapping[str, Mapping[int, Measured]]
    batches: Mapping[str, Sizes]


def sweep(stage: Stage, connections: Sequence[int]) -> Sweep:
    """One window of each side for each number of connections."""
    found: dict[str, dict[int, Measured]] = {"mesh": {}, "monolith": {}}
    batches: Mapping[str, Sizes] = {}
    for number in sorted(connections):
        before = batch_sizes(stage.mesh)
        found["mesh"][number] = stage.orders(connections=number)
        batches = {name: sizes - before.get(name, Sizes({})) for name, sizes in batch_sizes(stage.mesh).items()}
        found["monolith"][number] = stage.monolith(connections=number)
    return Sweep(found, {name: sizes for name, sizes in batches.items() if sizes.batches})
