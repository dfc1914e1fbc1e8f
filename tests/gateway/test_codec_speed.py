"""The codec is several times as fast as google.protobuf.json_format."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from statistics import median

import pytest
from google.protobuf.message import Message

from tests.bench.bars import BARS
from tests.gateway.codec_speed import MAKERS, Race, reading, writing

_BLOCKS = 5


@pytest.fixture
def undisturbed() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.alone
@pytest.mark.parametrize("race", [writing, reading])
@pytest.mark.parametrize("make", MAKERS)
def test_the_codec_is_several_times_as_fast_as_json_format(
    make: Callable[[], Message], race: Callable[[Message], Race], undisturbed: None
) -> None:
    run = race(make())
    ratio = median(run.ratio() for _ in range(_BLOCKS))
    print(f"{race.__name__} {make.__name__}: {ratio:.1f} times as fast")  # noqa: T201 - who measures looks
    assert BARS["codec_vs_json_format"].is_met(ratio)
