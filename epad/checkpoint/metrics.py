"""The series of the restore drill."""

from __future__ import annotations

from epad.metrics.family import gauge

DRILL_OK = gauge("epad_restore_drill_ok", "1 if the last restore drill succeeded.")
DRILL_AT = gauge("epad_restore_drill_timestamp_seconds", "When the last restore drill ran.")
