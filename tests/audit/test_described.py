"""Events as entries of the audit: each kind is one or is left out with a reason, and any text can be written."""

from __future__ import annotations

import json
from hashlib import sha256
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from epad.audit.described import MOST_EVIDENCE_BYTES, NOT_CHAINED, described, entry
from epad.ledger.entry import Stamp, record_of
from epad.ledger.record import decode, encode
from epad.storage.event_log import EventKind

STAMP = Stamp(1, "boot", 2, 3)


def test_every_reason_to_leave_an_event_out_is_given() -> None:
    """What is left out is on record otherwise, or is no deed; phases, consents and egress are never left out."""
    assert all(NOT_CHAINED.values())
    kept = set(EventKind) - NOT_CHAINED.keys()
    must = ("phase", "anomaly", "egress", "tool", "config", "policy", "daemon", "subsystem", "step")
    assert {kind for kind in EventKind if kind.startswith(must)} <= kept


@pytest.mark.parametrize(
    ("kind", "subsystem", "fields", "who", "what", "outcome"),
    [
        (
            EventKind.EGRESS_REFUSED, "chat", {"host": "evil.example", "port": 443, "why": "x", "words": "not allowed"},
            "chat", "evil.example:443: not allowed", "refused",
        ),
        (
            EventKind.TOOL_DECIDED, "chat",
            {"tool": "file_write", "covers": "notes", "answer": "denied", "reason": "no"},
            "epad", "file_write: notes: no", "denied",
        ),
        (EventKind.PHASE_CHANGED, "", {"sentence": "well", "source": "QUARANTINE"}, "epad", "well", "changed"),
        (EventKind.STEP_ENDED, "chat", {"step": "hold", "state": "failed", "result": "r"}, "epad", "hold: r", "failed"),
        (EventKind.SUBSYSTEM_EXITED, "chat", {"status": "exit 1", "reason": ""}, "chat", "status exit 1", "exited"),
        (EventKind.SECRET_USED, "chat", {"secret": "git", "host": "git.example"}, "chat", "git: git.example", "used"),
        (EventKind.SECRET_USED, "", {"secret": "key", "host": ""}, "epad", "key", "used"),
        (EventKind.CONFIG_RELOADED, "", {"changes": ["a", "b"]}, "epad", "a; b", "reloaded"),
        (EventKind.DAEMON_STARTED, "", {"version": "1", "pid": 7}, "epad", "version 1, pid 7", "started"),
    ],
)  # fmt: skip
def test_an_event_says_who_did_what(
    kind: EventKind, subsystem: str, fields: dict[str, Any], who: str, what: str, outcome: str
) -> None:
    """In words that a person filters by."""
    noted = described(kind, subsystem, fields, 5)
    assert (noted.event, noted.subsystem, noted.who, noted.what, noted.outcome) == (
        kind,
        subsystem,
        who,
        what,
        outcome,
    )
    assert (noted.happened_ns, json.loads(noted.evidence)) == (5, fields)


def test_long_evidence_is_kept_as_its_digest() -> None:
    """What could be kept is the evidence itself, a byte less; what is longer is bound by its hash."""
    short = entry(
        "x.y", subsystem="", who="a", what="b", outcome="c", happened_ns=0, evidence={"t": "x" * 4_088}
    )
    long = entry(
        "x.y", subsystem="", who="a", what="b", outcome="c", happened_ns=0, evidence={"t": "x" * 4_089}
    )
    assert len(short.evidence) == MOST_EVIDENCE_BYTES
    assert long.evidence == ""
    assert long.evidence_sha256 == sha256(b'{"t":"' + b"x" * 4_089 + b'"}').digest()


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(codec=None)),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(st.characters(codec=None)), inner, max_size=3)
    ),
    max_leaves=10,
)


@given(
    kind=st.sampled_from(sorted(set(EventKind) - NOT_CHAINED.keys())),
    texts=st.lists(st.text(st.characters(codec=None), max_size=600), min_size=2, max_size=2),
    fields=st.dictionaries(st.text(st.characters(codec=None)), JSON, max_size=4),
)
def test_any_event_can_be_written(kind: EventKind, texts: list[str], fields: dict[str, Any]) -> None:
    """Lone surrogates, numbers that JSON lacks, texts of any length: the record is written and read back."""
    noted = described(kind, texts[0], {**fields, "reason": texts[1]}, 5)
    record = record_of(noted, STAMP)
    assert decode(1, encode(record)) == record
    if noted.evidence:
        json.loads(noted.evidence, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
