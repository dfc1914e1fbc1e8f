import asyncio
import logging
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from identity_service.app import IdentityApp, build, migrate
from identity_service.config import IdentitySettings
from mesh.errors import Failure
from mesh.program import open_kit


async def built(settings: IdentitySettings) -> IdentityApp:
    return await build(settings, open_kit(settings, "{}"))


async def eventually(holds: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(30):
        while not await holds():  # noqa: ASYNC110 - the app has no event for each thing a test may wait for
            await asyncio.sleep(0.01)


def signs_in(app: IdentityApp) -> Callable[[], Awaitable[bool]]:
    async def holds() -> bool:
        try:
            return bool(await app.service.issue_token("operator@shop.test", "operator-demo"))
        except Failure:
            return False

    return holds


@pytest.mark.parametrize("demo", [True, None], ids=["asked for", "embedded"])
async def test_the_demos_accounts_sign_in_soon_after_the_start(tmp_path: Path, *, demo: bool | None) -> None:
    settings = IdentitySettings(data_dir=tmp_path, demo=demo)
    await migrate(settings)
    app = await built(settings)

    await app.start()

    await eventually(signs_in(app))
    await app.stop()


async def test_without_the_demo_there_are_no_accounts(tmp_path: Path) -> None:
    settings = IdentitySettings(data_dir=tmp_path, demo=False)
    await migrate(settings)
    app = await built(settings)

    await app.start()

    assert not await signs_in(app)()
    await app.stop()


async def test_a_database_that_is_not_migrated_yet_is_waited_for_and_complained_of_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("identity_service.app._RETRY_S", 0.01)
    settings = IdentitySettings(data_dir=tmp_path / "made later", demo=True)
    app = await built(settings)

    with caplog.at_level(logging.WARNING):
        await app.start()
        assert not await app.ready()
        await eventually(lambda: said(caplog))
        await migrate(settings)
        await eventually(app.ready)

    await app.stop()
    assert len(caplog.records) == 1


async def said(caplog: pytest.LogCaptureFixture) -> bool:
    return bool(caplog.records)


async def test_a_server_that_is_away_fails_no_build_and_no_stop(tmp_path: Path) -> None:
    settings = IdentitySettings(data_dir=tmp_path, db_url="mysql://shop:shop@127.0.0.1:1")
    app = await built(settings)

    assert not await app.ready()
    await app.stop()
