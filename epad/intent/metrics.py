"""The series of intents: labels, turns without one, and how long a verdict takes."""

from __future__ import annotations

from typing import Final

from epad.metrics.family import counter, durations

BUCKETS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0)

SCREENED = counter(
    "epad_intent_turns_total",
    "Turns by what they seemed to be for: attack, benign or unsure. A signal: nothing is decided by it.",
    "subsystem",
    "label",
)
UNSCREENED = counter(
    "epad_intent_unscreened_total",
    "Turns without a label: too long, more than could wait, or the child failed.",
    "reason",
    begins=[("too_long",), ("busy",), ("failed",)],
)
SECONDS = durations("epad_intent_seconds", "How long the child had a turn's batch.", buckets=BUCKETS)
