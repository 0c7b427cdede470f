from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from transforms.reading.records import nanoseconds
from transforms.reading.refused import Refused, shown

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
OFFSETS = st.integers(-23 * 60 - 59, 23 * 60 + 59).map(lambda minutes: timezone(timedelta(minutes=minutes)))


@given(st.datetimes(datetime(2, 1, 1), datetime(9998, 1, 1), timezones=OFFSETS))
def test_a_date_and_time_is_nanoseconds(moment: datetime) -> None:
    assert nanoseconds(moment.isoformat()) == (moment - EPOCH) // timedelta(microseconds=1) * 1000


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1970-01-01T00:00:00Z", 0),
        ("1970-01-01t00:00:00.000000001z", 1),
        ("1970-01-01 00:00:00.1234567899+00:00", 123456789),
        ("1969-12-31T23:59:59.9Z", -100_000_000),
        ("1970-01-01T00:00:00+00:30", -1_800_000_000_000),
        ("2016-12-31T23:59:60Z", 1_483_228_800_000_000_000),
    ],
)
def test_the_corners_of_rfc_3339(text: str, expected: int) -> None:
    assert nanoseconds(text) == expected


@pytest.mark.parametrize(
    "text",
    ["", "2024", "2024-01-01", "2024-01-01T00:00Z", "2024-13-01T00:00:00Z", "2023-02-29T00:00:00Z",
     "2024-01-01T24:00:00Z", "2024-01-01T00:00:61Z", "2024-01-01T00:00:00+24:00", "٢٠٢٤-01-01T00:00:00Z"],
)  # fmt: skip
def test_what_is_no_date_and_time_is_refused(text: str) -> None:
    with pytest.raises(Refused, match="invalid-sequence"):
        nanoseconds(text)


@given(st.one_of(st.text(st.characters(codec=None)), st.binary(), st.lists(st.integers())))
def test_what_a_message_shows_is_short_and_can_be_written(value: object) -> None:
    assert len(shown(value).encode()) < 2000
