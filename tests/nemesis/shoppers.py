"""The load as a process of its own, from the side of who starts it."""

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator
from pathlib import Path

from tests.nemesis.load import SHOPPED, SHOPPING, Plan, Seen

_ROOT = Path(__file__).parents[2]
_COMPARES_WITHIN_S = 300.0


class LoadError(Exception):
    """The load broke off; the text is what it wrote."""


class Shoppers:
    """A load that runs: see `shopping`."""

    def __init__(self, process: asyncio.subprocess.Process, folder: Path) -> None:
        self._process = process
        self._folder = folder

    async def until_shopped(self) -> None:
        """Return when every customer is through. Raises LoadError when the load has ended instead."""
        await self._until_said(SHOPPED)

    async def until_shopping(self) -> None:
        """Return when the first customers come. Raises LoadError."""
        await self._until_said(SHOPPING)

    async def compare(self) -> Seen:
        """Have every order asked for again; answers what the customers saw, in all. Raises LoadError."""
        try:
            async with asyncio.timeout(_COMPARES_WITHIN_S):
                await self._process.communicate(b"compare\n")
        except TimeoutError:
            raise LoadError(f"the load did not end within {_COMPARES_WITHIN_S:.0f} s") from None
        if self._process.returncode:
            raise self._broken()
        return Seen.read(self._folder)

    async def _until_said(self, line: str) -> None:
        assert self._process.stdout is not None
        if (await self._process.stdout.readline()).decode().strip() != line:
            raise self._broken()

    def _broken(self) -> LoadError:
        return LoadError((self._folder / "load.log").read_text()[-4000:])


@contextlib.asynccontextmanager
async def shopping(plan: Plan, folder: Path) -> AsyncIterator[Shoppers]:
    """Let customers in; nobody is left at the end."""
    plan.write(folder)
    with (folder / "load.log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tests.nemesis.load", str(folder)),
            cwd=_ROOT,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=log,
        )
    try:
        shoppers = Shoppers(process, folder)
        await shoppers.until_shopping()
        yield shoppers
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
