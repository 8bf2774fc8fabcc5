"""Read the arguments of `epactl`'s command line: the values each kind may have, and the type it becomes."""

from __future__ import annotations

import argparse
import time

from epad.operations.registry import MAX_REASON_CHARACTERS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

PHASES = ("NORMAL", "QUARANTINE", "PRESERVATION", "RECOVERY", "LIFEBOAT")
OUTPUTS = ("table", "wide", "json", "jsonl")
_MOST_SECONDS = 1e6
HOUR = 3_600.0
_UNITS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}


def phase(text: str) -> str:
    """Return a phase's name in capitals, however it was typed."""
    if text.upper() not in PHASES:
        raise argparse.ArgumentTypeError(f"{text!r} is no phase: {', '.join(PHASES)}")
    return text.upper()


def name(text: str) -> str:
    """Return a name as it was typed; refuse a blank one, as an empty variable gives."""
    if not text.strip():
        raise argparse.ArgumentTypeError("the name is blank")
    return text


def seconds(text: str) -> float:
    """Return a time to wait."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < _MOST_SECONDS:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of seconds above 0")
    return value


def whole(low: int) -> Callable[[str], int]:
    """Return a whole number of at least `low`."""

    def number(text: str) -> int:
        if not text.isdecimal() or not low <= int(text) < 2**63:
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least {low}")
        return int(text)

    return number


def moment(text: str, now: Callable[[], float] = time.time) -> float:
    """Read a time as seconds of UTC: so long ago, or an ISO time (local, if it names no zone); before 1970 is 1970."""
    number, unit = text[:-1], text[-1:]
    if number.isdecimal() and unit in _UNITS:
        present = now()
        return present - min(int(number) * _UNITS[unit], present)
    import datetime as dt  # noqa: PLC0415 - it takes as long to load as everything else here

    try:
        return max(0.0, dt.datetime.fromisoformat(text).astimezone().timestamp())
    except (ValueError, OverflowError):
        fix = "give 90s, 10m, 2h, 1d, or an ISO time such as 2026-01-31T03:00"
        raise argparse.ArgumentTypeError(f"{text!r} is no time: {fix}") from None


def lasting(text: str) -> float | None:
    """Return for how many seconds something is to hold; None for `always`."""
    if text == "always":
        return None
    number, unit = text[:-1], text[-1:]
    if not number.isdecimal() or unit not in _UNITS or not 0 < int(number) * _UNITS[unit] < _MOST_SECONDS:
        raise argparse.ArgumentTypeError(f"{text!r} is no such time: give 10m, 1h, 2d, or always")
    return float(int(number) * _UNITS[unit])


def lasting_or_once(text: str) -> float | None:
    """Return for how many seconds something is to hold; 0 for `once`, None for `always`."""
    return 0.0 if text == "once" else lasting(text)


def event_or_moment(text: str) -> int | float:
    """Return an event's id as a whole number, a time as a float."""
    return whole(0)(text) if text.lstrip("-").isdecimal() else moment(text)


def reason(text: str) -> str:
    """Why: not blank, and no essay."""
    if not 1 <= len(text.strip()) <= MAX_REASON_CHARACTERS:
        raise argparse.ArgumentTypeError(f"give 1 to {MAX_REASON_CHARACTERS} characters")
    return text.strip()
