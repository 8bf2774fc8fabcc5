"""The phase ladder: five rungs, the present one lit."""

from __future__ import annotations

from epad.answers.status import Status
from epad.formatting.text import duration
from epad.web.html import Html, tag
from statemachine.phase import Phase

MEANINGS = {
    Phase.NORMAL: "everything runs",
    Phase.QUARANTINE: "one subsystem is isolated",
    Phase.PRESERVATION: "critical state is saved, background work waits",
    Phase.RECOVERY: "restart, rebuild, replay",
    Phase.LIFEBOAT: "saved and stopped",
}


def phase_ladder(status: Status) -> Html:
    """Render all phases in their order; the present one with its time and its reason."""
    present = status["phase"]
    return tag(
        "section",
        tag("h2", "Phase", id="phase", class_="quiet"),
        tag("ol", (_rung(phase, present) for phase in Phase), class_="ladder"),
        tag(
            "p",
            tag("strong", present, class_=f"phase-{str(present).lower()}"),
            f" for {duration(status['phase_seconds'])}: ",
            status["sentence"],
            class_="sentence",
            role="status",
        ),
        aria_labelledby="phase",
    )


def _rung(phase: Phase, present: str) -> Html:
    here = phase.value == present
    return tag(
        "li",
        tag("span", phase.value, class_="name"),
        tag("span", MEANINGS[phase], class_="meaning"),
        class_=f"rung phase-{phase.lower()}{' here' if here else ''}",
        aria_current="step" if here else None,
    )
