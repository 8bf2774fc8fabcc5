"""Quiet hours are read off the wall, also in the nights in which its clock is moved."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from epad.notifying.quiet import QuietHours

BERLIN = ZoneInfo("Europe/Berlin")


@pytest.mark.parametrize(
    ("span", "at", "expected"),
    [
        ("23:00-07:00", "22:59", False),
        ("23:00-07:00", "23:00", True),
        ("23:00-07:00", "00:00", True),
        ("23:00-07:00", "06:59", True),
        ("23:00-07:00", "07:00", False),
        ("12:30-13:30", "12:29", False),
        ("12:30-13:30", "13:00", True),
        ("12:30-13:30", "13:30", False),
        ("", "03:00", False),
    ],
)
def test_the_end_is_no_part_of_it(span: str, at: str, expected: bool) -> None:
    """Over midnight too."""
    moment = datetime.fromisoformat(f"2026-06-10T{at}").replace(tzinfo=BERLIN)
    quiet = QuietHours.parse(span, BERLIN)
    assert quiet.contains(moment) is expected
    assert quiet.contains(moment.astimezone(UTC)) is expected
    assert quiet.contains(moment.astimezone(ZoneInfo("Asia/Tokyo"))) is expected


@pytest.mark.parametrize(("day", "hours"), [("2026-03-28", 7), ("2026-10-24", 9), ("2026-06-10", 8)])
def test_a_night_in_which_the_clock_is_moved_ends_at_the_same_hour(day: str, hours: int) -> None:
    """It is an hour shorter in March, and longer in October."""
    quiet = QuietHours.parse("23:00-07:00", BERLIN)
    noon = datetime.fromisoformat(f"{day}T12:00").replace(tzinfo=BERLIN).astimezone(UTC)
    minutes = [noon + timedelta(minutes=m) for m in range(24 * 60)]
    quiet_minutes = [at for at in minutes if quiet.contains(at)]
    assert len(quiet_minutes) == hours * 60
    assert quiet_minutes[0].astimezone(BERLIN).strftime("%H:%M") == "23:00"
    assert (quiet_minutes[-1] + timedelta(minutes=1)).astimezone(BERLIN).strftime("%H:%M") == "07:00"


@pytest.mark.parametrize("text", ["23:00", "late", "25:00-07:00", "23:00-7"])
def test_what_is_no_span_is_refused(text: str) -> None:
    """The configuration's own check is stricter still."""
    with pytest.raises(ValueError, match=r".+"):
        QuietHours.parse(text)
