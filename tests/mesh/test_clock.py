import uuid
from datetime import UTC, datetime, timedelta

from mesh.clock import SYSTEM_CLOCK, Clock


def test_a_uuid7_says_what_it_is() -> None:
    drawn = uuid.UUID(SYSTEM_CLOCK.uuid7())

    assert drawn.version == 7
    assert drawn.variant == uuid.RFC_4122


def test_ids_of_one_millisecond_differ() -> None:
    clock = Clock(now=lambda: datetime(2026, 1, 1, tzinfo=UTC))

    assert len({clock.uuid7() for _ in range(10_000)}) == 10_000


def test_ids_sort_by_the_millisecond_they_were_drawn_in() -> None:
    moments = [datetime(2026, 1, 1, tzinfo=UTC) + n * timedelta(milliseconds=1) for n in range(100)]

    ids = [Clock(now=lambda moment=moment: moment).uuid7() for moment in moments]  # type: ignore[misc]

    assert ids == sorted(ids)


def test_a_uuid7_is_made_of_the_time_and_the_random_bytes_alone() -> None:
    # The example of RFC 9562 appendix A.6.
    moment = datetime.fromtimestamp(0x017F22E279B0 / 1000, UTC)
    random = (0x0CC3 << 64 | 0x18C4DC0C0C07398F).to_bytes(10)

    drawn = Clock(now=lambda: moment, random_bytes=lambda _: random).uuid7()

    assert drawn == "017f22e2-79b0-7cc3-98c4-dc0c0c07398f"


def test_the_systems_clock_is_aware_and_in_utc() -> None:
    assert SYSTEM_CLOCK.now().utcoffset() == timedelta(0)
