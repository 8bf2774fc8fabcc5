"""The limit by which a process is known: made, read and told from all others."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from epad.runtime.environment_marks import INSTANCE_MARK, STATE_MARK, SUBSYSTEM_MARK
from epad.supervisor.identity import ProcessTable
from epad.supervisor.plain_engine import PlainEngine
from epad.supervisor.stamp import bears, can_stamp, read_stamp, stamp, stamp_bytes, stamp_for

LIMITS = "Limit                     Soft Limit           Hard Limit           Units     \n"


@given(state=st.text(max_size=30), subsystem=st.text(min_size=1, max_size=30))
def test_a_stamp_is_read_as_it_was_made(state: str, subsystem: str) -> None:
    """Out of the kernel's own table; and it stays below what a limit can be."""
    marks = {STATE_MARK: state, SUBSYSTEM_MARK: subsystem}
    size = stamp_bytes(marks)
    assert size < 2**63
    assert size > 1 << 50, "larger than any memory: to whom it may be a limit, it is none"
    for line in (f"{size} {size}", f"1024 {size}", f"{size} unlimited"):
        found = read_stamp(LIMITS + "Max resident set          " + line + " bytes\n")
        assert bears(found, marks)
        assert bears(found, {STATE_MARK: state})
        assert not bears(found, {STATE_MARK: state, SUBSYSTEM_MARK: subsystem + "x"})
        assert not bears(found, {STATE_MARK: state + "x"})
        assert not bears(found, {**marks, INSTANCE_MARK: "one start"})
        assert not bears(found, {})


@pytest.mark.parametrize("limit", ["unlimited", "0", "1048576", "18446744073709550592", "x"])
def test_what_others_set_is_no_stamp(limit: str) -> None:
    """No limit, and those that people use."""
    assert read_stamp(f"Max resident set          {limit}  {limit}  bytes") == 0


def test_what_has_no_name_gets_no_stamp() -> None:
    """It is left without a limit."""
    assert stamp_for({STATE_MARK: "/state"}) == 0
    assert stamp_bytes({}) == 2**64 - 1
    assert not bears(0, {STATE_MARK: "/state"})


def test_a_limit_of_ours_that_is_lower_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """An ordinary user's epad below such a limit cannot stamp, and its engine says so."""
    monkeypatch.setattr("resource.getrlimit", lambda _: (1 << 30, 1 << 30))
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    assert not can_stamp()
    said = PlainEngine(ProcessTable("boot"), why_no_cgroup="none here").describe()
    assert "stamp (RLIMIT_RSS) (but that cannot be set here)" in said


def test_few_subsystems_share_a_stamp() -> None:
    """Of a thousand names none two are the same."""
    assert len({stamp("/state", f"worker-{number}") for number in range(1000)}) == 1000
