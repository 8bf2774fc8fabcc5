"""The process of a subsystem: named once for each start, and never by an earlier one's name."""

from __future__ import annotations

import pytest
from msgspec import structs

from epad.supervisor.identity import ProcessIdentity
from epad.tools.processes import Processes
from probes.subsystems import SubsystemSnapshot, SubsystemState

RUNNING = SubsystemSnapshot("agent", "process", SubsystemState.RUNNING, essential=False, since=0.0, pid=7)


class Machine:
    """A subsystem, and what /proc has of its process."""

    def __init__(self) -> None:
        self.now: SubsystemSnapshot | None = RUNNING
        self.started = 1
        self.looks = 0

    def identity(self, pid: int) -> ProcessIdentity | None:
        self.looks += 1
        return ProcessIdentity(pid, self.started, "boot") if self.started else None


@pytest.fixture
def machine() -> Machine:
    return Machine()


@pytest.fixture
def processes(machine: Machine) -> Processes:
    return Processes(lambda _: machine.now, machine.identity)


def test_a_process_is_looked_at_once(machine: Machine, processes: Processes) -> None:
    """However often it is asked for."""
    assert len({processes.name("agent") for _ in range(5)}) == 1
    assert machine.looks == 1


@pytest.mark.parametrize("change", [{"pid": 8}, {"restarts": 1}])
def test_another_start_has_another_name(
    machine: Machine, processes: Processes, change: dict[str, int]
) -> None:
    """By another pid, or by the same one that the kernel gave again."""
    before = processes.name("agent")
    machine.now, machine.started = structs.replace(RUNNING, **change), 2
    assert processes.name("agent") != before


def test_a_process_that_has_ended_has_no_name(machine: Machine, processes: Processes) -> None:
    """Nor has one that ends as it is looked at, nor a subsystem that is configured no more; a later start has one."""
    machine.started = 0
    assert processes.name("agent") == ""
    machine.started = 1
    assert processes.name("agent")
    for gone in (structs.replace(RUNNING, pid=None), None):
        machine.now = gone
        assert processes.name("agent") == ""
    machine.now, machine.started = RUNNING, 3
    assert processes.name("agent")
    assert machine.looks == 3
