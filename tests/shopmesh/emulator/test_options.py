"""Options that make no sense are refused, all at once."""

from pathlib import Path
from typing import Any

import pytest

from mesh.config import Settings
from mesh.errors import ConfigError
from shopmesh.emulator import EmulateOptions

_SETTINGS = Settings(data_dir=Path("/data"), http_port=8081, grpc_port=50052, per_service={})


@pytest.mark.parametrize(
    ("options", "option"),
    [
        ({"customers": 0}, "--customers"),
        ({"grpc_share": 1.5}, "--grpc-share"),
        ({"grpc_share": -0.1}, "--grpc-share"),
        ({"pace": -1}, "--pace"),
        ({"http": "127.0.0.1:8080"}, "--http"),
    ],
)
def test_nonsense_is_refused_by_name(options: dict[str, Any], option: str) -> None:
    with pytest.raises(ConfigError, match=option):
        EmulateOptions(settings=_SETTINGS, **options)


def test_every_problem_is_named_at_once() -> None:
    with pytest.raises(ConfigError) as error:
        EmulateOptions(settings=_SETTINGS, customers=0, pace=-1)
    assert len(error.value.problems) == 2


def test_the_mesh_is_where_the_settings_say_unless_told_otherwise() -> None:
    here = EmulateOptions(settings=_SETTINGS)
    assert (here.http_url, here.grpc_address) == ("http://127.0.0.1:8081", "127.0.0.1:50052")
    there = EmulateOptions(settings=_SETTINGS, http="https://shop.example", grpc="shop.example:443")
    assert (there.http_url, there.grpc_address) == ("https://shop.example", "shop.example:443")


def test_the_journal_goes_to_the_data_folder_unless_told_otherwise() -> None:
    assert EmulateOptions(settings=_SETTINGS).journal_path("run-1") == Path("/data/journals/run-1.jsonl")
    assert EmulateOptions(settings=_SETTINGS, journal=Path("here")).journal_path("run-1") == Path("here")
