"""The series of workload identity: SVIDs issued, and askers refused."""

from __future__ import annotations

from epad.metrics.family import counter
from runners.identity.messages import JWT, X509

ISSUED = counter(
    "epad_identity_svids_total",
    "SVIDs that the Workload API gave to subsystems.",
    "subsystem",
    "kind",
    begins=[(X509,), (JWT,)],
)
REFUSED = counter(
    "epad_identity_refusals_total", "Requests at the Workload API whose process got no identity."
)
STARTS = counter("epad_identity_starts_total", "Starts of the process that serves the Workload API.")
