"""The series of the stores' soundness."""

from __future__ import annotations

from epad.metrics.family import gauge

SOUND = gauge("epad_datastore_sound", "1 while the last look at the store found it sound.", "datastore")
LAST_SOUND = gauge(
    "epad_datastore_last_sound_timestamp_seconds", "When a look last found it sound.", "datastore"
)
