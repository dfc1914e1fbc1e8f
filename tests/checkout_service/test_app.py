"""The service put together: when it is ready, and that its background work outlives what it runs into."""

from importlib import resources
from pathlib import Path

from checkout_service.app import build, migrate
from checkout_service.config import CheckoutSettings
from mesh.program import open_kit


async def test_a_schema_that_comes_late_is_waited_for(tmp_path: Path) -> None:
    settings = CheckoutSettings(grpc_port=1, data_dir=tmp_path)
    kit = open_kit(settings, resources.files("shop").joinpath("service_config.json").read_text())
    app = await build(settings, kit)
    await app.start()
    for _ in range(5):
        assert not await app.ready()

    await migrate(settings)

    assert await app.ready()
    await app.service._engine.until_ready()
    await app.stop()
    await kit.channels.close()
