"""Sessions: one for each start of a process, whose tier never changes."""

from __future__ import annotations

from epad.gate.tiers import Tier
from epad.gate.tool_labels import labels_of
from epad.gate.tool_risk import ToolRisk
from epad.gate.tool_table import BOTH, Taint
from epad.tools.sessions import Origin, Sessions


class Machine:
    """The process and the configured tier of each subsystem."""

    def __init__(self) -> None:
        self.processes = {"agent": "boot/10/500"}
        self.tier = Tier.AUTHOR

    def sessions(self, run: str = "run 1") -> Sessions:
        return Sessions(lambda name: self.processes.get(name, ""), lambda _: self.tier, run)


def test_a_tier_stays_until_the_process_ends() -> None:
    """A changed configuration concerns the next start."""
    machine = Machine()
    sessions = machine.sessions()
    before = sessions.of("agent")
    machine.tier = Tier.OPERATOR

    assert sessions.of("agent") is before
    assert before.tier is Tier.AUTHOR
    machine.processes["agent"] = "boot/11/900"
    assert sessions.of("agent").tier is Tier.OPERATOR
    assert sessions.of("agent").name != before.name


def test_a_later_daemon_knows_the_session_of_a_process_that_lives_on() -> None:
    """By the same name; that of a client is this run's."""
    machine = Machine()
    first, second = machine.sessions("run 1"), machine.sessions("run 2")

    assert first.of("agent").name == second.of("agent").name
    assert first.of("client").name != second.of("client").name
    assert len({first.of(name).name for name in ("agent", "client", "other")}) == 3


def test_taint_only_grows_and_a_new_process_begins_without() -> None:
    """Whatever is read after."""
    machine = Machine()
    sessions = machine.sessions()
    session = sessions.of("agent")
    session.label(labels_of(ToolRisk.READS_WORKSPACE), Origin("file_read", "1"))
    assert session.taint is Taint.NONE
    session.label(labels_of(ToolRisk.READS_NETWORK), Origin("http_fetch", "2"))
    session.label(labels_of(ToolRisk.PURE), Origin("uuid", "3"))
    assert session.taint == Taint.UNTRUSTED
    session.label(BOTH, Origin("process_list", "4"))
    assert session.origins == {
        Taint.UNTRUSTED: Origin("http_fetch", "2"),
        Taint.PRIVATE: Origin("process_list", "4"),
    }
    assert session.taint == BOTH
    machine.processes["agent"] = "boot/12/1"
    assert sessions.of("agent").taint is Taint.NONE
