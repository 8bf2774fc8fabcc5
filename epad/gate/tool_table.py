"""Decide if a tool may be called: a table in code, which configuration narrows and nothing widens. Pure.

The columns are phases. PRESERVATION and RECOVERY concern the subsystem that is being cut; for every other subsystem
NORMAL's column goes on (`column_of`). A cell says yes, no, or that a person's consent is needed.

| question, in this order | no means |
|---|---|
| is the subsystem, the tool or its category held at block or above? | held |
| is the session's tier high enough for the risk? | the tier's row |
| what does the cell of risk and column say? | the phase's row |
| where it says consent: was it given, and knowingly where the session has both taints? | consent is asked for |
| where it says yes, the session has both taints, and something leaves the machine by the call: the same | the same |

The last question is the rule of two: untrusted content, private content and a way out are never together in a session
unless a person knows of it. What only fetches is a way out too, since its address carries data.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum, IntEnum, IntFlag
from types import MappingProxyType
from typing import Final

from epad.gate.tiers import Tier
from epad.gate.tool_risk import ToolRisk
from statemachine.phase import Phase
from statemachine.rung import Rung


class Cell(Enum):
    """Names the answer of one cell of the table."""

    YES = "yes"
    CONSENT = "consent"
    NO = "no"


class Taint(IntFlag):
    """Labels the content that a session has read. Labels only grow in a session."""

    NONE = 0
    UNTRUSTED = 1
    """Content that others wrote: of the network, of foreign tools, of a session of a lower tier."""
    PRIVATE = 2
    """Content of the host, of a database, of the operator's knowledge, or a secret."""


BOTH: Final = Taint.UNTRUSTED | Taint.PRIVATE


class Consent(IntEnum):
    """Says whether a person has consented to a tool and target for this session.

    KNOWINGLY: asked while the session had both taints, and the person was told so.
    """

    NONE = 0
    GIVEN = 1
    KNOWINGLY = 2


@dataclass(frozen=True, slots=True)
class Decision:
    """Holds the gate's answer, the row of the table that gave it, and the sentence with its reason.

    `needs_consent` is set where nothing but a person's consent is missing; `allowed` is then False.
    """

    allowed: bool
    needs_consent: bool
    row: str
    sentence: str


Y, C, N = Cell.YES, Cell.CONSENT, Cell.NO
PHASES: Final = (Phase.NORMAL, Phase.QUARANTINE, Phase.PRESERVATION, Phase.RECOVERY, Phase.LIFEBOAT)

# In the order of PHASES. A model's cells say yes where its own budget and phase decide, in the gateway.
_ROWS: Mapping[ToolRisk, tuple[Tier, tuple[Cell, ...]]] = MappingProxyType(
    {
        ToolRisk.PURE: (Tier.READER, (Y, Y, Y, Y, N)),
        ToolRisk.READS_WORKSPACE: (Tier.READER, (Y, Y, Y, Y, N)),
        ToolRisk.READS_HOST: (Tier.ANALYST, (Y, Y, Y, Y, N)),
        ToolRisk.APPENDS: (Tier.ANALYST, (Y, Y, Y, N, N)),
        ToolRisk.CALLS_MODEL: (Tier.READER, (Y, Y, N, N, N)),
        ToolRisk.CHANGES_WORKSPACE: (Tier.AUTHOR, (Y, Y, N, N, N)),
        ToolRisk.READS_NETWORK: (Tier.AUTHOR, (Y, Y, N, N, N)),
        ToolRisk.DELETES: (Tier.OPERATOR, (C, C, N, N, N)),
        ToolRisk.SENDS: (Tier.OPERATOR, (C, N, N, N, N)),
        ToolRisk.RUNS_CODE: (Tier.OPERATOR, (C, N, N, N, N)),
        ToolRisk.RUNS_CONTAINER: (Tier.OPERATOR, (C, N, N, N, N)),
        ToolRisk.USES_SECRET: (Tier.AUTHOR, (Y, N, N, N, N)),
    }
)
LOWEST: Final[Mapping[ToolRisk, Tier]] = MappingProxyType({risk: tier for risk, (tier, _) in _ROWS.items()})
"""The lowest tier that may take each risk."""

TABLE: Final[Mapping[tuple[ToolRisk, Phase], Cell]] = MappingProxyType(
    {
        (risk, phase): cell
        for risk, (_, cells) in _ROWS.items()
        for phase, cell in zip(PHASES, cells, strict=True)
    }
)


LEAVES: Final = frozenset({ToolRisk.READS_NETWORK})
"""The risks whose cells say yes though each call sends something: the address that it asks for, and the name."""


def asks_at_door(taint: Taint) -> bool:
    """Tell if a person is asked before a connection of an agent's own, through the door of its cell.

    A connection reads untrusted content and sends: with private content on the session all three would be there.
    """
    return Taint.PRIVATE in taint


def column_of(phase: Phase, *, is_cut: bool) -> Phase:
    """Return the column for a subsystem: while another one is being saved, its own tools go on as in NORMAL."""
    if phase in {Phase.PRESERVATION, Phase.RECOVERY} and not is_cut:
        return Phase.NORMAL
    return phase


def decide(
    tier: Tier,
    risk: ToolRisk,
    phase: Phase,
    hold: Rung,
    taint: Taint,
    consent: Consent,
    *,
    leaves: bool = False,
) -> Decision:
    """Decide about one call. `hold` is the firmest of those on the subsystem, the tool and its category.

    `phase` is the column, from `column_of`. `leaves`: what the call is given leaves the machine, though its risk does
    not say so: a foreign server elsewhere is called, or a file is written where another program carries it away.
    """
    if hold >= Rung.BLOCK:
        return _no(f"hold/{hold.label}", f"it is held ({hold.label}); nothing is called until it is released")
    if tier < LOWEST[risk]:
        needed = LOWEST[risk]
        return _no(
            f"{risk}/tier",
            f"a tool that {risk.meaning} takes the tier {needed.label} or above; this session is {tier.label}",
        )
    return _by_cell(tier, risk, phase, taint, consent, leaves=leaves or risk in LEAVES)


def _by_cell(
    tier: Tier, risk: ToolRisk, phase: Phase, taint: Taint, consent: Consent, *, leaves: bool
) -> Decision:
    row, cell = f"{risk}/{phase}", TABLE[risk, phase]
    if cell is Cell.NO:
        return _no(row, f"a tool that {risk.meaning} is not called in {phase}")
    if cell is Cell.YES and leaves and taint & BOTH == BOTH:
        return _rule_of_two(f"{row}/taint", risk, consent)
    if cell is Cell.YES:
        return Decision(True, False, row, f"a tool that {risk.meaning} is open to {tier.label} in {phase}")
    if consent is Consent.NONE:
        return Decision(False, True, row, f"a tool that {risk.meaning} takes a person's consent")
    if taint & BOTH == BOTH and consent is not Consent.KNOWINGLY:
        why = "this session has read untrusted and private content since the consent was given; it is asked again"
        return Decision(False, True, f"{row}/taint", why)
    return Decision(True, False, row, f"a person has consented to a tool that {risk.meaning}")


def _rule_of_two(row: str, risk: ToolRisk, consent: Consent) -> Decision:
    if consent is Consent.KNOWINGLY:
        return Decision(
            True, False, row, f"a person has consented to a tool that {risk.meaning}, knowing of both"
        )
    why = (
        f"this session has read untrusted and private content, and a tool that {risk.meaning} lets some of it leave "
        "the machine; it takes a person's consent"
    )
    return Decision(False, True, row, why)


def as_lines() -> Iterator[str]:
    """Yield the table as Markdown, for `epad diagram --gate`."""
    yield f"| risk | a tool that | lowest tier | {' | '.join(PHASES)} | with both labels |"
    yield f"|---|---|---|{'---|' * len(PHASES)}---|"
    for risk, (tier, cells) in _ROWS.items():
        answers = " | ".join(cell.value for cell in cells)
        yield f"| {risk} | {risk.meaning} | {tier} {tier.label} | {answers} | {_with_both(risk)} |"


def _with_both(risk: ToolRisk) -> str:
    """Return what the cell of NORMAL says to a session that has read untrusted and private content."""
    if TABLE[risk, Phase.NORMAL] is Cell.CONSENT:
        return "consent, asked anew"
    if risk in LEAVES:
        return "consent"
    return "consent, if it leaves the machine"


def _no(row: str, sentence: str) -> Decision:
    return Decision(False, False, row, sentence)
