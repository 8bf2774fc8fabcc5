"""How confinement is told to people."""

from __future__ import annotations

from fake_operations import subsystem

from epad.formatting.confinement import all_troubles, in_a_word, in_full, summary, troubles

CONFINED = subsystem("agent", confine={"profile": "workspace", "missing": {}, "trouble": ""})
OPEN = subsystem("model", confine={"profile": "open", "missing": {}, "trouble": ""})
CLIENT = subsystem("guest", confine=None)
GAPS = subsystem(
    "tool",
    confine={
        "profile": "sealed",
        "missing": {"network": "no user namespace", "files": "no user namespace", "ipc": "unshare"},
        "trouble": "its doors could not be made anew: setns",
    },
)


def test_a_word_names_the_profile() -> None:
    """`open` is no confinement, and is said so; of a client there is nothing to say."""
    assert in_a_word(CONFINED) == "confined: workspace"
    assert in_a_word(OPEN) == "not confined"
    assert in_a_word(CLIENT) == ""
    assert in_full(CLIENT) == "-"
    assert in_full(CONFINED) == "confined: workspace"


def test_what_is_missing_is_named_with_the_reason() -> None:
    """Each wall, and why the doors are closed."""
    assert troubles(CONFINED) == troubles(CLIENT) == []
    assert troubles(GAPS) == [
        "without walls: network, files (no user namespace); ipc (unshare): `epactl doctor` names the way to have them",
        "its doors could not be made anew: setns",
    ]
    assert in_full(GAPS).startswith("confined: sealed; without walls: network, files (")
    other = subsystem("writer", confine=GAPS["confine"])
    assert [line.partition(":")[0] for line in all_troubles([CONFINED, GAPS, other])] == ["tool, writer"] * 2


def test_the_summary_has_the_unconfined_last() -> None:
    """An older daemon, which says nothing of it, has none."""
    told = summary([OPEN, CONFINED, CLIENT, GAPS])
    assert told == "workspace: agent; sealed: tool; not confined: model"
    assert summary([subsystem("chat")]) == ""
