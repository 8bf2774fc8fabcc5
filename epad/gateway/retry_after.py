"""Read how long a server tells a client to wait."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from epad.gateway.headers import Headers


def retry_after_seconds(fields: Headers, now: datetime) -> float:
    """Read Retry-After, as seconds or as a date, or OpenAI's finer one in milliseconds; 0 if none can be read."""
    fine = _number(fields.get("retry-after-ms"))
    if fine:
        return fine / 1_000
    text = fields.get("retry-after") or ""
    seconds = _number(text)
    if seconds or not text:
        return seconds
    try:
        at = parsedate_to_datetime(text)
    except (ValueError, TypeError, OverflowError):
        return 0.0
    return max(0.0, ((at if at.tzinfo else at.replace(tzinfo=UTC)) - now).total_seconds())


def _number(text: str | None) -> float:
    try:
        number = float(text or "")
    except ValueError:
        return 0.0
    return number if math.isfinite(number) and number > 0 else 0.0
