"""What checkout may be told."""

import pytest
from pydantic import ValidationError

from checkout_service.commands import HOLD_MARGIN
from checkout_service.config import CheckoutSettings
from inventory_service.domain.reservation import Line, Reserve

LONGEST_S = 86_100


def test_the_longest_time_to_pay_is_one_for_which_stock_can_be_held() -> None:
    settings = CheckoutSettings(payment_timeout_s=LONGEST_S)

    # Raises for a hold that inventory would refuse.
    ttl_s = settings.payment_timeout_s + int(HOLD_MARGIN.total_seconds())
    Reserve(reservation_id="r", lines=(Line("mug", 1),), ttl_s=ttl_s)


@pytest.mark.parametrize("told", [{"payment_timeout_s": LONGEST_S + 1}, {"payment_timeout_s": 0}, {"currency": "eur"}])
def test_what_cannot_work_is_refused(told: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        CheckoutSettings.model_validate(told)
