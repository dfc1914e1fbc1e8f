"""The hostile provider as a process of its own, to be killed and started again, and the door to it."""

import argparse
import asyncio
import enum
import os
import socket
import sys
from dataclasses import fields
from pathlib import Path
from typing import Any

import httpx

from tests.support.psp import HostilePsp, hostile_psp, signing_sender
from tests.support.psp_book import Book
from tests.support.psp_calls import Runs, Trick
from tests.support.psp_wire import Reply, Request, Silence
from tests.support.servers import Server

_ROOT = Path(__file__).parents[2]


class PspProcess(Server):
    """The provider as a process; its webhooks go to `webhook_url`, if given, signed with `webhook_secret`."""

    package = "the hostile PSP"

    def __init__(self, folder: Path, *, webhook_url: str = "", webhook_secret: str = "") -> None:
        super().__init__(folder)
        self._webhooks = ("--webhook-url", webhook_url, "--webhook-secret", webhook_secret) if webhook_url else ()

    @property
    def url(self) -> str:
        """What the provider's client is told."""
        return f"http://127.0.0.1:{self.port}"

    def book(self) -> Book:
        """The book as it is in the file now."""
        return Book(self.folder / "psp.jsonl")

    def play(self, trick: Trick) -> None:
        """As HostilePsp.play."""
        values = {item.name: getattr(trick, item.name) for item in fields(trick)}
        self.door("play", **{name: _plain(value) for name, value in values.items()})

    def door(self, method: str, **values: Any) -> Any:
        """Say something at the door, see Door, and answer what is answered."""
        response = httpx.post(f"{self.url}/door/{method}", json=values, timeout=10)
        return response.raise_for_status().json()

    def _initialise(self) -> None:
        """It makes its own book."""

    def _command(self) -> list[str]:
        return [
            sys.executable,
            "-m",
            "tests.support.psp_process",
            "--port",
            str(self.port),
            "--folder",
            str(self.folder),
            *self._webhooks,
        ]

    def _environment(self) -> dict[str, str]:
        return os.environ | {"PYTHONPATH": str(_ROOT)}

    def _answers(self, connection: socket.socket) -> bool:
        connection.sendall(b"GET / HTTP/1.1\r\n\r\n")
        return connection.recv(1) != b""


class Door:
    """Lets a test in another process say what one in the same could: POST /door/<method>, arguments as JSON."""

    def __init__(self, psp: HostilePsp) -> None:
        self._psp = psp

    async def __call__(self, request: Request) -> Reply:
        """Do what was said."""
        method = getattr(self, request.path.removeprefix("/door/"))
        return Reply(200, await method(**request.fields))

    async def play(self, **trick: Any) -> None:
        """As HostilePsp.play, one trick."""
        self._psp.play(_trick_from(trick))

    async def be_good(self) -> None:
        """As HostilePsp.be_good."""
        self._psp.be_good()

    async def release(self) -> None:
        """As HostilePsp.release."""
        self._psp.release()

    async def forget(self) -> None:
        """Forget idempotency keys."""
        self._psp.book.forget_answers()

    async def pay(self, order_id: str) -> None:
        """The customer pays what is pending."""
        for intent in self._psp.book.of_order(order_id):
            self._psp.book.pay(intent.intent_id)

    async def tell(self, order_id: str, word: str) -> None:
        """Deliver a webhook about each of the order's payments."""
        for intent in self._psp.book.of_order(order_id):
            await self._psp.tell(intent, word)

    async def requests(self) -> list[tuple[str, str]]:
        """Every request that was made since the process began."""
        return self._psp.requests


def _plain(value: Any) -> Any:
    return value.value if isinstance(value, enum.Enum) else value


def _trick_from(values: dict[str, Any]) -> Trick:
    answer = values["answer"]
    values["answer"] = Silence(answer) if isinstance(answer, str) else answer
    values["runs"] = Runs(values["runs"])
    return Trick(**values)


async def _main() -> None:
    parser = argparse.ArgumentParser(description="A hostile payment provider.")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--webhook-url", default="")
    parser.add_argument("--webhook-secret", default="")
    told = parser.parse_args()
    sender = signing_sender(told.webhook_url, told.webhook_secret) if told.webhook_url else None
    async with hostile_psp(told.folder, sender, port=told.port) as psp:
        psp.door = Door(psp)
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(_main())
