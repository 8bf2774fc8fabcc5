"""The gate of tools, whole: each tier, risk, phase, hold, taint and consent against the table of the design."""

from __future__ import annotations

import itertools

import pytest

from epad.gate.tiers import Tier
from epad.gate.tool_risk import ToolRisk
from epad.gate.tool_table import (
    BOTH,
    LOWEST,
    TABLE,
    Consent,
    Taint,
    as_lines,
    asks_at_door,
    column_of,
    decide,
)
from statemachine.phase import Phase
from statemachine.rung import Rung

# Written down a second time, from TOOLS.md: a change of the table must be made in both places, knowingly.
DESIGN = {
    "P": (0, "yes yes yes yes no"),
    "R1": (0, "yes yes yes yes no"),
    "R2": (1, "yes yes yes yes no"),
    "W0": (1, "yes yes yes no no"),
    "M1": (0, "yes yes no no no"),
    "W1": (2, "yes yes no no no"),
    "N1": (2, "yes yes no no no"),
    "W2": (3, "consent consent no no no"),
    "N2": (3, "consent no no no no"),
    "X1": (3, "consent no no no no"),
    "X2": (3, "consent no no no no"),
    "V1": (2, "yes no no no no"),
}
# In the words that people read in refusals, records and the printed table.
DEEDS = {
    "P": "computes a result from its arguments",
    "R1": "reads the workspace",
    "R2": "reads the host (masked)",
    "W0": "appends to epad's own stores",
    "M1": "calls a model",
    "W1": "changes the workspace, undoable",
    "N1": "reads the network (egress list)",
    "V1": "uses a secret without seeing it",
    "W2": "deletes, or rewrites history",
    "N2": "sends to the network",
    "X1": "runs code of a page",
    "X2": "runs code in a container",
}
PHASES = ["NORMAL", "QUARANTINE", "PRESERVATION", "RECOVERY", "LIFEBOAT"]
TAINTS = [Taint.NONE, Taint.UNTRUSTED, Taint.PRIVATE, BOTH]
EVERYTHING = list(itertools.product(Tier, ToolRisk, Phase, Rung, TAINTS, Consent))


def expected(tier, risk, phase, hold, taint, consent, leaves=False):
    """Return (allowed, needs consent, row) by the design's table, in words of this test's own."""
    lowest, cells = DESIGN[str(risk)]
    cell = cells.split()[PHASES.index(str(phase))]
    if hold.label not in {"open", "throttle"}:
        return False, False, f"hold/{hold.label}"
    if int(tier) < lowest:
        return False, False, f"{risk}/tier"
    row = f"{risk}/{phase}"
    if cell == "yes" and taint == 3 and (leaves or str(risk) == "N1"):
        return consent == 2, consent != 2, f"{row}/taint"
    if cell != "consent" or consent == 2 or (consent == 1 and taint != 3):
        return cell != "no", False, row
    return False, True, f"{row}/taint" if consent else row


def test_every_cell_is_as_the_design_says():
    """All 4 x 12 x 5 x 6 x 4 x 3 cases; the first that differs is shown."""
    assert len(EVERYTHING) == 17_280
    for case in EVERYTHING:
        decision = decide(*case)

        assert (decision.allowed, decision.needs_consent, decision.row) == expected(*case), case
        assert decision.sentence, case
        decision = decide(*case, leaves=True)

        assert (decision.allowed, decision.needs_consent, decision.row) == expected(*case, leaves=True), case


@pytest.mark.parametrize("consent", Consent)
def test_nothing_leaves_a_session_with_both_labels_unless_a_person_knows(consent):
    """Whatever the risk and the phase: a fetch sends too, by its address."""
    for tier, risk, phase in itertools.product(Tier, ToolRisk, Phase):
        leaves = decide(tier, risk, phase, Rung.OPEN, BOTH, consent, leaves=True)
        assert leaves.allowed <= (consent is Consent.KNOWINGLY)
        fetch = decide(tier, ToolRisk.READS_NETWORK, phase, Rung.OPEN, BOTH, consent)
        assert fetch.allowed <= (consent is Consent.KNOWINGLY)


def test_one_label_alone_asks_nobody():
    """An agent that only browses, or only looks at the host, is left in peace."""
    for taint in (Taint.NONE, Taint.UNTRUSTED, Taint.PRIVATE):
        for risk in (ToolRisk.READS_NETWORK, ToolRisk.CHANGES_WORKSPACE):
            decision = decide(Tier.AUTHOR, risk, Phase.NORMAL, Rung.OPEN, taint, Consent.NONE, leaves=True)
            assert decision.allowed, (taint, risk)


def test_an_agents_own_connections_are_asked_about_once_it_has_private_content():
    """A connection reads untrusted content and sends: the third part would be there at once."""
    assert [asks_at_door(taint) for taint in TAINTS] == [False, False, True, True]


def test_the_table_has_no_hole_and_no_more():
    """A risk or a phase added later must be decided about."""
    assert set(TABLE) == set(itertools.product(ToolRisk, Phase))
    assert set(LOWEST) == set(ToolRisk)


def test_nobody_can_write_into_the_table():
    """It is code: whoever wants it otherwise changes the source."""
    with pytest.raises(TypeError, match="does not support item assignment"):
        TABLE[ToolRisk.DELETES, Phase.NORMAL] = TABLE[ToolRisk.PURE, Phase.NORMAL]  # type: ignore[index]
    with pytest.raises(TypeError, match="does not support item assignment"):
        LOWEST[ToolRisk.DELETES] = Tier.READER  # type: ignore[index]


def test_a_higher_tier_never_may_less():
    """Tiers are an order."""
    for tier, risk, phase, hold, taint, consent in EVERYTHING:
        if tier is not Tier.OPERATOR and decide(tier, risk, phase, hold, taint, consent).allowed:
            assert decide(Tier(tier + 1), risk, phase, hold, taint, consent).allowed, (tier, risk, phase)


def test_taint_and_a_graver_phase_never_open_what_was_shut():
    """Each of them only takes away."""
    for tier, risk, phase, hold, taint, consent in EVERYTHING:
        if not decide(tier, risk, Phase.NORMAL, hold, Taint.NONE, consent).allowed:
            assert not decide(tier, risk, phase, hold, taint, consent).allowed


def test_both_refusals_say_what_is_missing():
    """An agent, and the person who reads over its shoulder, learn the tier that it takes."""
    decision = decide(
        Tier.READER, ToolRisk.CHANGES_WORKSPACE, Phase.NORMAL, Rung.OPEN, Taint.NONE, Consent.NONE
    )

    assert decision.sentence == (
        "a tool that changes the workspace, undoable takes the tier author or above; this session is reader"
    )


def test_each_risk_is_told_in_words():
    """No two alike, and none that an agent could take for an order."""
    assert {str(risk): risk.meaning for risk in ToolRisk} == DEEDS


def test_a_consent_from_before_the_taint_is_asked_for_again():
    """The person learns why."""
    decision = decide(Tier.OPERATOR, ToolRisk.DELETES, Phase.NORMAL, Rung.OPEN, BOTH, Consent.GIVEN)

    assert decision.sentence == (
        "this session has read untrusted and private content since the consent was given; it is asked again"
    )


def test_taints_are_numbers_on_the_record():
    """A later version must read what this one wrote."""
    assert [int(taint) for taint in TAINTS] == [0, 1, 2, 3]


@pytest.mark.parametrize("phase", Phase)
@pytest.mark.parametrize("is_cut", [True, False])
def test_only_what_is_cut_is_narrowed_while_others_are_saved(phase, is_cut):
    """In PRESERVATION and RECOVERY the others go on as in NORMAL; LIFEBOAT and QUARANTINE concern everybody."""
    spared = phase.value in {"PRESERVATION", "RECOVERY"} and not is_cut

    assert column_of(phase, is_cut=is_cut) is (Phase.NORMAL if spared else phase)


def test_the_printed_table_is_the_table():
    """The lines that `epad diagram --gate` prints have each cell, in the order of the phases."""
    head, rule, *lines = as_lines()

    assert head.split(" | ")[3:] == [*PHASES, "with both labels |"]
    assert rule == "|" + "---|" * 9
    printed = {}
    for line in lines:
        risk, _, tier, *cells, both = (part.strip() for part in line.strip("|").split("|"))
        printed[risk] = int(tier.split()[0]), " ".join(cells)
        asked = decide(
            Tier.OPERATOR, ToolRisk(risk), Phase.NORMAL, Rung.OPEN, BOTH, Consent.GIVEN
        ).needs_consent
        assert both.startswith("consent, if") is not asked, risk
    assert printed == DESIGN
