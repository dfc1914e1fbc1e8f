"""What the ratios of the bench have to reach: all bars stand here and nowhere else."""

from collections.abc import Mapping
from dataclasses import dataclass

# A short bench is noisy; it looks for what is broken, not for what is a little slower.
SHORT_SLACK = 0.7


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """A ratio has to be at least, or at most, so much; or is told for what it is, without either."""

    what: str
    least: float | None = None
    most: float | None = None
    aim: float | None = None

    @property
    def binds(self) -> bool:
        """Whether there is anything to reach."""
        return self.least is not None or self.most is not None

    def is_met(self, ratio: float, *, slack: float = 1.0) -> bool:
        """Whether the ratio reaches the bar; with a slack of 0.7 it may miss it by so much."""
        if self.least is not None:
            return ratio >= self.least * slack
        return self.most is None or ratio <= self.most / slack

    def told(self, *, slack: float = 1.0) -> str:
        """The bar in a few characters."""
        if not self.binds:
            return "none"
        bound = f">= {self.least:g}" if self.least is not None else f"<= {self.most:g}"
        aim = "" if self.aim is None else f", aim {self.aim:g}"
        return f"{bound}{aim}" if slack == 1 else f"{bound}{aim}, with a slack of {slack:g}"


BARS: Mapping[str, Bar] = {
    "checkout_vs_monolith": Bar(
        what="PlaceOrder through REST, 2 of 1,000 SKUs, 128 connections / checkouts of the monolith",
        least=0.7,
        aim=1.0,
    ),
    "hot_vs_spread": Bar(what="the same with the same 2 SKUs in every cart / spread", least=0.95, aim=1.1),
    "reserve_hot_vs_naive": Bar(
        what="Reserve over gRPC, one SKU, 128 in flight / one transaction for each", least=1.0, aim=1.5
    ),
    "reserve_batched_vs_unbatched": Bar(what="the same / with batches of one", least=3.0),
    "reserve_unbatched_vs_naive": Bar(what="Reserve with batches of one / one transaction for each", least=0.25),
    "batch_reserve_vs_naive": Bar(
        what="BatchReserve of 64 over gRPC, reservations / one transaction for each", least=3.0, aim=5.0
    ),
    "shim_vs_direct": Bar(
        what="GetProduct through REST, 64 connections / by a bare gRPC client, both of a server as grpc.aio makes it",
        least=0.85,
    ),
    "shim_vs_direct_ours": Bar(what="the same, both of inventory as it is, which takes in twice as many calls"),
    "shim_post_vs_direct": Bar(
        what="a POST of 300 bytes four levels deep through REST, 64 connections / by a bare gRPC client, both of a"
        " server as grpc.aio makes it",
        least=0.8,
    ),
    "shim_post_vs_direct_ours": Bar(what="the same, both of a server as ours are"),
    "shim_idle_vs_direct": Bar(
        what="median of GetProduct through REST, 1 connection / by a bare gRPC client", most=1.6
    ),
    "cached_get_vs_uncached": Bar(
        what="GetProduct through REST, kept by the gateway, 64 connections / asked for each time", least=3.0
    ),
    "codec_vs_json_format": Bar(
        what="the shim's JSON codec over google.protobuf.json_format, the worst of five messages both ways", least=4.0
    ),
    "cart_get_vs_noop": Bar(what="GetCart over gRPC, two replicas / an empty RPC of the same servers", least=0.45),
    "idle_latency_vs_monolith": Bar(what="median of PlaceOrder, 1 connection / of the monolith's", most=5.0),
    "commits_per_checkout": Bar(what="COMMITs in all databases for an order, 128 connections", most=0.25),
    "cost_at_300k_vs_3k_orders": Bar(what="processor time for an order with many orders in the tables / few", most=1.2),
}
