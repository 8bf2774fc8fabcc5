"""Make the screen of intents."""

from __future__ import annotations

import structlog

from epad.daemon.joints import Joints
from epad.daemon.parts import Given
from epad.intent.child import IntentChild
from epad.intent.screen import IntentScreen
from epad.metrics.registry import Metrics
from runners.intent.needs import missing


def make_intent(given: Given, joints: Joints, metrics: Metrics) -> IntentScreen | None:
    """Make the screen; without its packages there is none, and the log says what is missing."""
    log = structlog.get_logger("epad.intent")
    if why := missing():
        log.error("intent.not_available", error=why)
        return None
    child = IntentChild(given.directories.intent, log)
    return IntentScreen(child, given.stores.ledger, metrics, joints.screened, given.clock, log)
