"""What operators see of sagas on a terminal; what they do with them is in tests/e2e/test_sagas.py."""

import pytest

from shop.checkout.v1.saga_pb2 import Saga
from shopmesh import sagas


def test_a_table_is_not_cut_to_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    saga = Saga(saga_id="019ca945-0e24-731e-9877-fb0e63989b00", state="REFUNDING", stuck_reason="REFUND_REFUSED")

    sagas._print_table([saga])

    assert capsys.readouterr().out.splitlines()[1].split()[:3] == [saga.saga_id, saga.state, saga.stuck_reason]


@pytest.mark.parametrize("options", [{"saga_id": "\udcff"}, {"saga_id": "a", "reason": "\udcff"}])
def test_words_that_are_no_text_are_refused(options: dict[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    command = "abort" if "reason" in options else "show"

    assert sagas.main(command, **options) == 2
    assert "is not UTF-8" in capsys.readouterr().err
