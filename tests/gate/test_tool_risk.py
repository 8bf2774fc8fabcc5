"""Risks of tools: the gravest of several counts, and an unknown one is named."""

from __future__ import annotations

import pytest

from epad.gate.tool_risk import ToolRisk, UnknownRiskError, gravest


@pytest.mark.parametrize("risk", ToolRisk)
def test_each_risk_reads_as_itself(risk):
    """Each has words, for its refusal."""
    assert gravest(risk.value) is risk
    assert risk.meaning


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        *(
            ("R1+W1", "W1"),
            ("W2 W1", "W2"),
            ("P|R1", "R1"),
            ("N1/V1", "V1"),
            ("M1,W1", "W1"),
            ("V1+X2", "X2"),
        ),
        # Their names sort the other way.
        *(("W1+N1", "N1"), ("N2 W1", "N2"), ("V1+N2", "N2"), ("M1/W0", "M1")),
    ],
)
def test_the_gravest_of_a_composite_counts(text, expected):
    """A tool that reads in one mode and writes in another is a tool that writes."""
    assert gravest(text) is ToolRisk(expected)


@pytest.mark.parametrize("text", ["", "W9", "w1", "R1+evil"])
def test_an_unknown_risk_is_refused(text):
    """A definition without a known risk never gets to the gate."""
    with pytest.raises(UnknownRiskError, match="there are: P, R1"):
        gravest(text)
