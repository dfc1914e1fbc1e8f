"""The operator at the command line of a running mesh."""

import subprocess

from tests.e2e.running_shop import RunningShop, run_to_end
from tests.e2e.shopping import Shopper, new_product, order_in_state


def saga(shop: RunningShop, *arguments: str) -> subprocess.CompletedProcess[str]:
    return run_to_end({**shop.environment, "COLUMNS": "200"}, "saga", *arguments)


async def test_an_operator_finds_a_saga_and_turns_it_back(shop: RunningShop, keeper: Shopper, guest: Shopper) -> None:
    order = await guest.ordered(await guest.filled_cart(await new_product(keeper, stock=1)), "tok_pending")
    saga_id = order["orderId"]

    listed = saga(shop, "list", "--state", "AWAITING_PAYMENT")
    aborted = saga(shop, "abort", saga_id, "--reason", "stolen card")
    await order_in_state(guest, saga_id, "ORDER_STATE_CANCELLED")
    shown = saga(shop, "show", saga_id)

    assert saga_id in listed.stdout
    assert aborted.returncode == 0, aborted.stderr
    assert "ABORTED_BY_OPERATOR" in aborted.stdout
    for told in ("RECEIVED", "PAYMENT_PENDING", "ABORT", "stolen card", "cli.", "CANCELLED"):
        assert told in shown.stdout, told


async def test_what_would_break_an_invariant_is_refused_with_its_reason(
    shop: RunningShop, keeper: Shopper, guest: Shopper
) -> None:
    order = await guest.ordered(await guest.filled_cart(await new_product(keeper, stock=1)))

    aborted = saga(shop, "abort", order["orderId"], "--reason", "too late")
    resolved = saga(shop, "resolve", order["orderId"], "charged", "--reason", "why not")
    nobody = saga(shop, "retry", "no-such-saga", "--reason", "a try")

    assert (aborted.returncode, resolved.returncode, nobody.returncode) == (1, 1, 1)
    assert aborted.stderr.startswith("shopmesh: SAGA_PAST_COMMIT: ")
    assert resolved.stderr.startswith("shopmesh: SAGA_NOT_STUCK: ")
    assert nobody.stderr.startswith("shopmesh: SAGA_NOT_FOUND: ")


def test_a_mesh_that_cannot_be_reached_is_said_so(shop: RunningShop) -> None:
    away = run_to_end({**shop.environment, "SHOP_CHECKOUT_ADDR": "127.0.0.1:1"}, "saga", "list")

    assert away.returncode == 1
    assert "Traceback" not in away.stderr
    assert away.stderr.startswith("shopmesh: ")
