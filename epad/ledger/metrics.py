"""The series of the ledger's soundness."""

from __future__ import annotations

from epad.metrics.family import gauge

ENTRIES = gauge("epad_ledger_entries", "Records in the ledger.")
INTACT = gauge("epad_ledger_intact", "1 while every record checked is intact.")
VERIFIED = gauge("epad_ledger_last_verified_timestamp_seconds", "When the tail was last verified.")
