"""Show what subsystems were at their last starts."""

from __future__ import annotations

from epad.answers.changes import Measurement, Measurements
from epad.measurement.starts import Seen, Starts


def shown(starts: Starts) -> Measurements:
    """Return the newest measurement of each subsystem."""
    return {"measurements": [_shown(seen) for seen in starts.seen()]}


def _shown(seen: Seen) -> Measurement:
    measured = seen.measured
    return {
        "subsystem": seen.subsystem,
        "at": seen.at,
        "sentence": seen.sentence,
        "held": seen.is_held,
        "digest": measured.digest,
        "parts": measured.parts,
        "changed": measured.changed,
        "changes": [{"path": one.path, "how": one.how, "role": one.role} for one in measured.changes],
        "left_out": list(measured.left_out),
    }
