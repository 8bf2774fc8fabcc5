"""The words of the sentences about incidents: one table a question."""

from __future__ import annotations

from epad.gateway.access import THROTTLE_INTERVAL_SECONDS
from statemachine.containment import Cause, Rung

# What is done to who is held.
VERBS = {
    Rung.OPEN: "is in trouble",
    Rung.THROTTLE: f"is throttled to one request in {THROTTLE_INTERVAL_SECONDS:.0f} s",
    Rung.BLOCK: "is blocked",
    Rung.FREEZE: "is frozen",
    Rung.RELEASE_VRAM: "has its VRAM taken back",
    Rung.STOP: "is stopped",
}

# Whom a finding about the host is about, where it is not the machine itself.
OF_THE_HOST = {
    "ledger_integrity": "the ledger",
    "checkpoint": "the checkpoint",
    "restore_drill": "the restore drill",
}

# What a person does about a finding that holds nobody; `{name}` is the subsystem.
ADVICE = {
    "ledger_integrity": "epactl recovery",
    "checkpoint": "epactl checkpoint create --reason TEXT",
    "restore_drill": "epactl checkpoint list",
    "liveness": "epactl restart {name} --reason TEXT",
    "cascade": "epactl restart {name} --reason TEXT",
}

# Who holds on, where several do.
HOLDERS = {
    Cause.FOUND: "another anomaly",
    Cause.PERSON: "a person's order",
    Cause.PARKED: "its parking",
    Cause.PAUSED: "a person's pause",
    Cause.VICTIM: "its provider's trouble",
    Cause.BACKGROUND: "PRESERVATION",
    Cause.SHORTAGE: "PRESERVATION",
    Cause.LIFEBOAT: "LIFEBOAT",
}

# By the state of an upstream (`epad.gateway.health.State`): what it does, what ends that, and what a person does.
UPSTREAM_WORDS = {
    "gone": ("is gone", "goes on by itself once it answers", "start the server at {url}"),
    "loading": ("is loading", "goes on by itself once it is ready", ""),
    "rejecting": (
        "rejects epad's key",
        "goes on by itself once it takes the key",
        "check api_key_file, api_key_credential or api_key_secret of [upstreams.{name}]",
    ),
    "failing": ("fails", "goes on by itself once it answers", "look at the log of the server at {url}"),
    "limiting": ("limits epad", "goes on by itself {at}", ""),
}
SILENT = ("does not answer", "goes on by itself once it answers", "look at the server at {url}")
