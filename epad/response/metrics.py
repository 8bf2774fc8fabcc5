"""The series of the checkpoints that the preservation makes."""

from __future__ import annotations

from epad.metrics.family import gauge

CHECKPOINT_VERIFIED = gauge(
    "epad_checkpoint_last_verified_timestamp_seconds", "When the newest verified checkpoint was made."
)
CHECKPOINT_OK = gauge(
    "epad_checkpoint_ok",
    "0 if the newest checkpoint lacks something or does not read back as it was made.",
    begins_at=1,
)
