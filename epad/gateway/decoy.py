"""State a finding when a prompt has a decoy in it: a key that opens nothing, and that only who collects keys sends."""

from __future__ import annotations

from statemachine.finding import Finding, Severity

DECOY_PROBE = "decoy"


def sent(subsystem: str, owner: str, path: str, now: float) -> Finding:
    """The key stands in the variables and in the home of `owner` alone."""
    whose = "its decoy" if owner == subsystem else f"the decoy of {owner}"
    reason = f"{subsystem} sent {whose} by {path}: it reads keys, and passes them on"
    evidence = {"decoy_of": owner, "path": path}
    return Finding(DECOY_PROBE, subsystem, Severity.ANOMALY, now, reason, evidence=evidence, hard=True)
