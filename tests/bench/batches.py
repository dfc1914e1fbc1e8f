"""How large the mesh's batches are, as its processes tell it under /metrics: a histogram `batch_items` by batch."""

import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass

from prometheus_client.parser import text_string_to_metric_families

from tests.bench.mesh import Mesh

_METRIC = "batch_items"


@dataclass(frozen=True, slots=True)
class Sizes:
    """How many batches were at most so large, each counted in the first bound that it fits."""

    counts: Mapping[float, float]

    @property
    def batches(self) -> float:
        """How many there were."""
        return sum(self.counts.values())

    def __sub__(self, before: "Sizes") -> "Sizes":
        return Sizes({bound: number - before.counts.get(bound, 0) for bound, number in self.counts.items()})


def batch_sizes(mesh: Mesh) -> dict[str, Sizes]:
    """The sizes of all batches so far, by process and batch. Empty where processes do not tell."""
    found: dict[str, Sizes] = {}
    for process, port in mesh.metrics_ports.items():
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
            text = answer.read().decode()
        found |= {f"{process}: {name}": sizes for name, sizes in sizes_in(text).items()}
    return found


def sizes_in(text: str) -> dict[str, Sizes]:
    """The sizes of all batches that a process tells of, by batch."""
    cumulative: dict[str, dict[float, float]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.name == f"{_METRIC}_bucket":
                bounds = cumulative.setdefault(sample.labels["batch"], {})
                bounds[float(sample.labels["le"])] = sample.value
    return {name: Sizes(_apart(bounds)) for name, bounds in cumulative.items()}


def _apart(bounds: Mapping[float, float]) -> dict[float, float]:
    """Prometheus counts a value in every bound that it fits; here only in the first."""
    counts, below = {}, 0.0
    for bound, number in sorted(bounds.items()):
        counts[bound], below = number - below, number
    return counts
