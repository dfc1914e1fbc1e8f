"""The figures, one function for each; some tell two ratios, because one side serves both."""

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from functools import partial
from statistics import median

import uvloop

from tests.bench import cart_replica, codec, context, plain, unbatched, wrk
from tests.bench.apart import apart
from tests.bench.carts import SPREAD
from tests.bench.coherence import count_missed
from tests.bench.figure import Figure, Run, compare, interleaved
from tests.bench.grpc_load import Target
from tests.bench.mesh import Mesh
from tests.bench.sample import Measured
from tests.bench.shim import shim
from tests.bench.stage import HOT_SKU, Stage
from tests.support.servers import free_port

_IN_FLIGHT = 128
_IN_FLIGHT_READS = 64
# So many batches of 64 at the same time; eight fill two batches of the service.
_IN_FLIGHT_BATCHES = 8
_CARTS_READ = 1_000
_KEPT_S = 60
_COHERENT = 50
# What is measured with a service of ours behind it, where others are, too.
_OURS = "ours"
# So many windows on either side bring the pages that an order needs back into the buffer pool.
_PAGES_BACK = 2


def checkout_vs_monolith(stage: Stage) -> Figure:
    """What it costs that the shop is split up."""
    sides = interleaved({"mesh": stage.orders, "monolith": stage.monolith}, rounds=stage.options.rounds)
    return compare({"checkout_vs_monolith": ("mesh", "monolith")}, sides, unit="orders/s")


def hot_vs_spread(stage: Stage) -> Figure:
    """What it costs that everybody wants the same."""
    sides = interleaved({"hot": partial(stage.orders, hot=True), "spread": stage.orders}, rounds=stage.options.rounds)
    return compare({"hot_vs_spread": ("hot", "spread")}, sides, unit="orders/s")


def reserve(stage: Stage) -> Figure:
    """Reserve as it is, with batches of one, and as it would be done without thinking."""
    port = free_port()
    with stage.mesh.replica("inventory-unbatched", port, unbatched.main):
        sides = interleaved(
            {
                "batched": partial(_reserve, stage, stage.mesh.address("inventory")),
                "unbatched": partial(_reserve, stage, f"127.0.0.1:{port}"),
                "naive": stage.naive,
            },
            rounds=stage.options.rounds,
        )
    ratios = {
        "reserve_hot_vs_naive": ("batched", "naive"),
        "reserve_batched_vs_unbatched": ("batched", "unbatched"),
        "reserve_unbatched_vs_naive": ("unbatched", "naive"),
    }
    return compare(ratios, sides, unit="reservations/s")


def batch_reserve(stage: Stage) -> Figure:
    """BatchReserve, as the saga calls it."""

    def batches() -> Measured:
        target = Target(method="BatchReserve", address=stage.mesh.address("inventory"), sku=HOT_SKU)
        return stage.calls(target, _IN_FLIGHT_BATCHES)

    sides = interleaved({"batches": batches, "naive": stage.naive}, rounds=stage.options.rounds)
    return compare({"batch_reserve_vs_naive": ("batches", "naive")}, sides, unit="reservations/s")


def shim_vs_direct(stage: Stage) -> Figure:
    """What REST costs, before a service as grpc.aio makes it, and before ours."""
    port, http_port = free_port(), free_port()
    address = f"127.0.0.1:{port}"
    with (
        stage.mesh.replica("inventory-plain", port, plain.inventory),
        stage.mesh.replica("gateway-plain", http_port, plain.gateway, str(http_port), address),
    ):
        sides = interleaved(
            {
                **_product_through_both(stage, f"http://127.0.0.1:{http_port}", address, _IN_FLIGHT_READS),
                **_ours(_product_through_ours(stage, _IN_FLIGHT_READS)),
            },
            rounds=stage.options.rounds,
        )
    return compare(_both("shim_vs_direct"), sides, unit="calls/s")


def shim_post_vs_direct(stage: Stage) -> Figure:
    """What REST costs where messages are deep and the service does next to nothing."""
    port, own_port = free_port(), free_port()
    theirs, ours = f"127.0.0.1:{port}", f"127.0.0.1:{own_port}"
    with (
        stage.mesh.replica("context-plain", port, plain.echo),
        stage.mesh.replica("context", own_port, context.main),
        shim(stage.mesh, "gateway-context-plain", theirs) as url,
        shim(stage.mesh, "gateway-context", ours) as own_url,
    ):
        sides = interleaved(
            {**_context_through_both(stage, url, theirs), **_ours(_context_through_both(stage, own_url, ours))},
            rounds=stage.options.rounds,
        )
    return compare(_both("shim_post_vs_direct"), sides, unit="calls/s")


def shim_idle_vs_direct(stage: Stage) -> Figure:
    """How much longer one alone waits for REST."""
    return compare(
        {"shim_idle_vs_direct": ("shim", "direct")},
        interleaved(_product_through_ours(stage, 1), rounds=stage.options.rounds),
        unit="ms",
        value=lambda one: one.sample.p50_s * 1000,
    )


def cached_get_vs_uncached(stage: Stage) -> Figure:
    """What it spares to give an answer to many."""
    load, inventory = stage.load(_IN_FLIGHT_READS), stage.mesh.address("inventory")
    kept = {"shop.inventory.v1.CatalogService.GetProduct": _KEPT_S}

    def get(url: str) -> Measured:
        return stage.watch(stage.mesh.pids, lambda: wrk.get(f"{url}/v1/products/{HOT_SKU}", load))

    with (
        shim(stage.mesh, "gateway-cached", inventory, cache_s=kept) as cached,
        shim(stage.mesh, "gateway-uncached", inventory) as uncached,
    ):
        sides = interleaved(
            {"cached": partial(get, cached), "uncached": partial(get, uncached)}, rounds=stage.options.rounds
        )
    return compare({"cached_get_vs_uncached": ("cached", "uncached")}, sides, unit="calls/s")


def codec_vs_json_format(stage: Stage) -> Figure:
    """How much faster the shim reads and writes JSON than the library that everybody has."""
    rounds = [apart(codec.measure) for _ in range(stage.options.rounds)]
    values = {name: [ratios[name] for ratios in rounds] for name in rounds[0]}
    return Figure(
        unit="times as fast",
        sides={},
        values=values,
        ratios={"codec_vs_json_format": min(median(ratios) for ratios in values.values())},
    )


def cart_get_vs_noop(stage: Stage) -> Figure:
    """What reading a cart costs beyond being called at all."""
    ports = free_port(), free_port()
    addresses = [f"127.0.0.1:{port}" for port in ports]
    both = f"ipv4:{','.join(addresses)}"
    cart_ids = stage.carts(stage.mesh.database("cart"), SPREAD, _CARTS_READ)
    with ExitStack() as stack:
        for number, port in enumerate(ports, start=1):
            stack.enter_context(stage.mesh.replica(f"cart-replica-{number}", port, cart_replica.main))
        wrong = apart(count_missed, addresses, HOT_SKU, _COHERENT)
        stage.check(f"reads of {_COHERENT} carts that missed what the other replica had acknowledged", wrong, 0)
        sides = interleaved(
            {
                "get cart": partial(
                    stage.calls, Target(method="GetCart", address=both, cart_ids=cart_ids), _IN_FLIGHT_READS
                ),
                "nothing": partial(stage.calls, Target(method="Nothing", address=both), _IN_FLIGHT_READS),
            },
            rounds=stage.options.rounds,
        )
    return compare({"cart_get_vs_noop": ("get cart", "nothing")}, sides, unit="calls/s")


def idle_latency_vs_monolith(stage: Stage) -> Figure:
    """How long one alone waits."""
    sides = interleaved(
        {"mesh": partial(stage.orders, connections=1), "monolith": partial(stage.monolith, connections=1)},
        rounds=stage.options.rounds,
    )
    return compare(
        {"idle_latency_vs_monolith": ("mesh", "monolith")},
        sides,
        unit="ms",
        value=lambda one: one.sample.p50_s * 1000,
    )


def commits_per_checkout(stage: Stage) -> Figure:
    """How many orders share a COMMIT, at saturation: in all windows with 128 connections that have been until now."""
    if len(stage.saturated) < stage.options.rounds:
        interleaved({"mesh": stage.orders}, rounds=stage.options.rounds)
    values = [one.commits / one.sample.answered for one in stage.saturated]
    return Figure(
        unit="COMMITs/order",
        sides={"mesh": stage.saturated},
        values={"mesh": values},
        ratios={"commits_per_checkout": median(values)},
    )


def cost_at_300k_vs_3k_orders(stage: Stage) -> Figure:
    """Whether an order costs more where there are many already."""
    many = Mesh(stage.servers, "many", redis=1)
    uvloop.run(many.migrate(orders=stage.options.many_orders))
    # What filling them left to do is not the orders' cost.
    stage.until_written()
    with many.running():
        # Filling one has taken the other's pages out of memory. What is measured is an order, not the way back.
        for _ in range(_PAGES_BACK):
            stage.orders(mesh=many)
            stage.orders()
        sides = interleaved(
            {"many": partial(stage.orders, mesh=many), "few": stage.orders}, rounds=stage.options.rounds
        )
    stage.audit(many)
    return compare(
        {"cost_at_300k_vs_3k_orders": ("many", "few")},
        sides,
        unit="ms of processor time/order",
        value=lambda one: one.served_cpu_ms_each,
    )


FIGURES: Mapping[str, Callable[[Stage], Figure]] = {
    "checkout_vs_monolith": checkout_vs_monolith,
    "hot_vs_spread": hot_vs_spread,
    "reserve": reserve,
    "batch_reserve_vs_naive": batch_reserve,
    "shim_vs_direct": shim_vs_direct,
    "shim_post_vs_direct": shim_post_vs_direct,
    "shim_idle_vs_direct": shim_idle_vs_direct,
    "cached_get_vs_uncached": cached_get_vs_uncached,
    "codec_vs_json_format": codec_vs_json_format,
    "cart_get_vs_noop": cart_get_vs_noop,
    "idle_latency_vs_monolith": idle_latency_vs_monolith,
    "commits_per_checkout": commits_per_checkout,
    "cost_at_300k_vs_3k_orders": cost_at_300k_vs_3k_orders,
}


def _reserve(stage: Stage, address: str) -> Measured:
    return stage.calls(Target(method="Reserve", address=address, sku=HOT_SKU), _IN_FLIGHT)


def _product_through_ours(stage: Stage, in_flight: int) -> dict[str, Run]:
    return _product_through_both(stage, stage.mesh.http_url, stage.mesh.address("inventory"), in_flight)


def _product_through_both(stage: Stage, url: str, address: str, in_flight: int) -> dict[str, Run]:
    """GetProduct through REST, and by a bare gRPC client."""
    load = stage.load(in_flight)
    target = Target(method="GetProduct", address=address, sku=HOT_SKU)
    return {
        "shim": lambda: stage.watch(stage.mesh.pids, lambda: wrk.get(f"{url}/v1/products/{HOT_SKU}", load)),
        "direct": partial(stage.calls, target, in_flight),
    }


def _context_through_both(stage: Stage, url: str, address: str) -> dict[str, Run]:
    """The echo through REST, and by a bare gRPC client."""
    load = stage.load(_IN_FLIGHT_READS)
    return {
        "shim": lambda: stage.watch(stage.mesh.pids, lambda: wrk.post(url + context.PATH, load, context.BODY)),
        "direct": partial(stage.calls, Target(method="Echo", address=address), _IN_FLIGHT_READS),
    }


def _ours(sides: Mapping[str, Run]) -> dict[str, Run]:
    """The sides where the service is one of ours."""
    return {f"{name} {_OURS}": run for name, run in sides.items()}


def _both(key: str) -> dict[str, tuple[str, str]]:
    """The ratio before a service as grpc.aio makes it, and before one of ours."""
    return {key: ("shim", "direct"), f"{key}_{_OURS}": (f"shim {_OURS}", f"direct {_OURS}")}
