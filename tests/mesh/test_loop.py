import asyncio

import pytest
from google.protobuf.wrappers_pb2 import StringValue

from mesh.channel import open_channel
from mesh.loop import Loop, WakeUps
from tests.mesh.echo import Echo, method, served
from tests.mesh.test_channel import CALLS

MANY = 200


def test_wake_ups_that_come_together_are_heard_together(monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[int] = []
    recv = WakeUps.recv

    def noted(self: WakeUps, bufsize: int, flags: int = 0) -> bytes:
        data = recv(self, bufsize, flags)
        heard.append(len(data))
        return data

    async def behaviour(text: str) -> str:
        return text

    async def ask() -> list[str]:
        async with served(Echo(behaviour)) as address, open_channel(address, "{}") as channel:
            texts = [f"{number}" for number in range(MANY)]
            answers = await asyncio.gather(*(CALLS(method(channel), StringValue(value=text)) for text in texts))
            assert [answer.value for answer in answers] == texts
            # One by one as well: nobody waits for a wake-up that is over.
            return [(await CALLS(method(channel), StringValue(value=text))).value for text in texts]

    monkeypatch.setattr(WakeUps, "recv", noted)
    with asyncio.Runner(loop_factory=Loop) as runner:
        answers = runner.run(asyncio.wait_for(ask(), 20))

    assert len(answers) == MANY
    assert max(heard) > 1
