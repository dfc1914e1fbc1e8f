from datetime import UTC, datetime, timedelta, timezone

from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import given
from hypothesis import strategies as st

from mesh.timestamp import timestamp

ZONES = st.integers(-23, 23).map(lambda hours: timezone(timedelta(hours=hours)))


@given(st.datetimes(min_value=datetime(2, 1, 1), max_value=datetime(9998, 12, 31), timezones=ZONES))  # noqa: DTZ001
def test_a_time_becomes_the_message_that_the_library_makes(at: datetime) -> None:
    expected = Timestamp()
    expected.FromDatetime(at)

    assert timestamp(at) == expected


def test_the_epoch_is_zero() -> None:
    assert timestamp(datetime(1970, 1, 1, tzinfo=UTC)) == Timestamp()
