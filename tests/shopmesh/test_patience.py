"""Waiting for what starts beside us."""

import pytest

from mesh.errors import Failure, Kind, unavailable
from shopmesh.patience import patiently


class Server:
    """Away for the first calls, then there; or failing for good."""

    def __init__(self, *, away: int, failure: Failure | None = None) -> None:
        self.calls = 0
        self._away = away
        self._failure = failure or unavailable("AWAY", "It is away.")

    async def answer(self) -> str:
        self.calls += 1
        if self.calls <= self._away:
            raise self._failure
        return "here"


async def test_what_is_away_is_asked_again_and_named_once(capsys: pytest.CaptureFixture[str]) -> None:
    server = Server(away=2)

    assert await patiently(server.answer, waiting_for="the server", every_s=0.001) == "here"

    assert server.calls == 3
    assert capsys.readouterr().err.count("waiting for the server") == 1


async def test_patience_ends() -> None:
    with pytest.raises(Failure, match="AWAY"):
        await patiently(Server(away=10**9).answer, waiting_for="the server", patience_s=0.01, every_s=0.001)


async def test_another_failure_is_not_waited_out() -> None:
    server = Server(away=1, failure=Failure(Kind.PERMISSION_DENIED, "NO", "No."))

    with pytest.raises(Failure, match="NO"):
        await patiently(server.answer, waiting_for="the server")

    assert server.calls == 1
