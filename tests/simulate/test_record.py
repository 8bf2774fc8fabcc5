"""What is recorded of a finding is what it decided by, whichever version recorded it."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from epad.simulate.record import Cycle, Found, Record
from statemachine.finding import Finding, Severity
from statemachine.rung import Rung

FINDINGS = st.builds(
    Finding,
    st.sampled_from(["vram", "token_rate"]),
    st.sampled_from(["host", "chat"]),
    st.sampled_from(list(Severity)),
    st.floats(0, 1e6),
    reason=st.text(max_size=200),
    unit=st.sampled_from(["", "bytes"]),
    evidence=st.dictionaries(st.just("detector"), st.text()),
    hard=st.booleans(),
    rung=st.one_of(st.none(), st.sampled_from(list(Rung))),
)


def read(body: bytes) -> Finding:
    record: Any = msgspec.json.decode(body, type=Record)
    return record.input.stimulus()


@given(FINDINGS)
def test_what_is_written_is_read_back(finding: Finding) -> None:
    assert read(msgspec.json.encode(Cycle(Found.of(finding)))) == finding


@given(FINDINGS)
def test_a_recording_of_before_is_the_same_finding(finding: Finding) -> None:
    """It has the rung's label in the evidence."""
    written = json.loads(msgspec.json.encode(Cycle(Found.of(finding))))
    named = written["input"].pop("rung", None)
    if named is not None:
        written["input"].setdefault("evidence", {})["rung"] = named
    assert read(json.dumps(written).encode()) == finding


@pytest.mark.parametrize("where", ["evidence", "field"])
@pytest.mark.parametrize("named", ["frezee", "FREEZE", "", "3"])
def test_a_rung_that_there_is_not_is_refused(where: str, named: str) -> None:
    """By its name, where it was read; nothing is decided by the probe's rung instead."""
    fields = {"rung": named} if where == "field" else {"evidence": {"rung": named}}
    found = {"type": "found", "probe": "token_rate", "subsystem": "chat", "severity": 2, "at": 1.0, **fields}
    body = json.dumps({"type": "cycle", "input": found}).encode()
    with pytest.raises(
        msgspec.ValidationError, match=rf"'{named}' is no rung; there are: open, .* `\$\.input`"
    ):
        read(body)
