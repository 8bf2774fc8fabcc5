"""Grade tools by the harm that a call may do: the one fact about a tool that the gate knows."""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Final

from epad import EpadError


class UnknownRiskError(EpadError):
    """A tool's definition names a risk that there is none of."""


class ToolRisk(StrEnum):
    """Names each risk, from the least harm to the most: of several the last counts."""

    PURE = "P"
    READS_WORKSPACE = "R1"
    READS_HOST = "R2"
    APPENDS = "W0"
    CALLS_MODEL = "M1"
    CHANGES_WORKSPACE = "W1"
    READS_NETWORK = "N1"
    USES_SECRET = "V1"  # noqa: S105 (the name of a risk)
    DELETES = "W2"
    SENDS = "N2"
    RUNS_CODE = "X1"
    RUNS_CONTAINER = "X2"

    @property
    def meaning(self) -> str:
        """Return the deed in words, as people read it."""
        return _MEANINGS[self]


READS: Final = frozenset({ToolRisk.PURE, ToolRisk.READS_WORKSPACE, ToolRisk.READS_HOST})
"""The risks of tools that change nothing: their calls may be made again, and have nothing to undo."""
_MEANINGS = {
    ToolRisk.PURE: "computes a result from its arguments",
    ToolRisk.READS_WORKSPACE: "reads the workspace",
    ToolRisk.READS_HOST: "reads the host (masked)",
    ToolRisk.APPENDS: "appends to epad's own stores",
    ToolRisk.CALLS_MODEL: "calls a model",
    ToolRisk.CHANGES_WORKSPACE: "changes the workspace, undoable",
    ToolRisk.READS_NETWORK: "reads the network (egress list)",
    ToolRisk.USES_SECRET: "uses a secret without seeing it",
    ToolRisk.DELETES: "deletes, or rewrites history",
    ToolRisk.SENDS: "sends to the network",
    ToolRisk.RUNS_CODE: "runs code of a page",
    ToolRisk.RUNS_CONTAINER: "runs code in a container",
}
_ORDER = {risk: number for number, risk in enumerate(ToolRisk)}


def gravest(text: str) -> ToolRisk:
    """Return the gravest of the risks that a definition names, as `R1+W1`. Raises UnknownRiskError."""
    names = [name for name in re.split(r"[+|,/ ]+", text.strip()) if name]
    try:
        risks = [ToolRisk(name) for name in names]
    except ValueError as error:
        known = ", ".join(ToolRisk)
        raise UnknownRiskError(f"{text!r} is no risk of a tool; there are: {known}") from error
    if not risks:
        raise UnknownRiskError(f"a tool's definition names no risk; there are: {', '.join(ToolRisk)}")
    return max(risks, key=_ORDER.__getitem__)
