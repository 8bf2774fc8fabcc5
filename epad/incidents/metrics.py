"""The series of who is held."""

from __future__ import annotations

from epad.metrics.family import gauge

HOLD = gauge(
    "epad_subsystem_hold",
    "1 for the rung a subsystem is held at, and why.",
    "subsystem",
    "state",
    "kind",
)
HOLD_ENDS = gauge(
    "epad_subsystem_hold_ends_timestamp_seconds",
    "When the hold ends by itself if it stays quiet; absent where only a person ends it.",
    "subsystem",
)
