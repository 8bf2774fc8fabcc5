"""Who a connection is of: real processes, which die, hand their connections on, and get each other's numbers."""

from __future__ import annotations

import os
import socket
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest
from peers import can_choose_pids, peer, process_numbered

from epad.identity.attestation import Attested, Attestor, peer_pidfd
from epad.runtime.clock import boot_id
from epad.supervisor.cgroup import Cgroup, cgroup_of
from epad.supervisor.footprints import Workload
from epad.supervisor.identity import ProcessTable

TABLE = ProcessTable(boot_id())
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
needs_pids = pytest.mark.skipif(
    not can_choose_pids(), reason="only root can choose the next process's number"
)


def without_peer_pidfd(_: socket.socket) -> int:
    """A kernel before 6.5."""
    raise OSError(92, "Protocol not available")


BOTH_KERNELS = pytest.mark.parametrize("pidfd", [peer_pidfd, without_peer_pidfd])


def attestor(*workloads: Workload, uid: int | None = None, held: str = "", pidfd=peer_pidfd) -> Attestor:
    expected = os.geteuid() if uid is None else uid
    return Attestor(TABLE, lambda: workloads, lambda _: expected, lambda _: held, pidfd)


def by_root(pid: int, name: str = "agent") -> Workload:
    return Workload(name, TABLE.identity(pid))


def by_group(pid: int, name: str = "agent") -> Workload:
    return Workload(name, TABLE.identity(pid), cgroup_of(pid))


def this_process(name: str = "agent") -> Workload:
    """One whose first process is this one: all that a test starts descends from it."""
    return by_root(os.getpid(), name)


@BOTH_KERNELS
@pytest.mark.parametrize("workload", [by_root, by_group])
def test_a_process_of_a_subsystem_is_that_subsystem(
    tmp_path: Path, workload: Callable[[int], Workload], pidfd
) -> None:
    with peer(tmp_path) as one:
        found = attestor(workload(one.pid), pidfd=pidfd).attest(one.connection, one.accepted_at)
        assert found == Attested("agent", "", one.pid, os.geteuid())


def test_a_descendant_is_too(tmp_path: Path) -> None:
    with peer(tmp_path) as one:
        assert attestor(this_process()).attest(one.connection, one.accepted_at).name == "agent"


def test_a_stranger_is_nobody(tmp_path: Path) -> None:
    """Not by a process that has the number of another's parent, nor by a group of the same name elsewhere."""
    with peer(tmp_path) as one, peer(tmp_path) as other:
        group = cgroup_of(one.pid)
        elsewhere = Cgroup(Path("/sys/fs/cgroup/nowhere/epad.children/agent"))
        for workload in (
            by_root(other.pid),
            Workload("agent", TABLE.identity(one.pid), elsewhere),
            Workload("agent", None, Cgroup(group.path / "agent") if group else elsewhere),
        ):
            found = attestor(workload).attest(one.connection, one.accepted_at)
            assert (found.name, found.why) == ("", f"process {one.pid} belongs to no subsystem of epad")


def test_a_root_whose_number_is_anothers_now_owns_nobody(tmp_path: Path) -> None:
    """The record of a process that began at another time is not of this one."""
    with peer(tmp_path) as one:
        identity = TABLE.identity(one.pid)
        assert identity is not None
        former = type(identity)(identity.pid, identity.start_ticks - 1, identity.boot_id)
        assert attestor(Workload("agent", former)).attest(one.connection, one.accepted_at).name == ""


def test_a_mark_in_its_environment_is_no_proof(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Anyone can write one; the supervisor goes by it only to find what it has lost."""
    monkeypatch.setenv("EPAD_SUBSYSTEM", "agent")
    monkeypatch.setenv("EPAD_STATE", str(tmp_path))
    with peer(tmp_path) as one, peer(tmp_path) as agent:
        assert attestor(by_root(agent.pid)).attest(one.connection, one.accepted_at).name == ""


@needs_root
@BOTH_KERNELS
def test_another_uid_is_refused(pidfd) -> None:
    """Though the process is of the subsystem: a program that is set to another uid has made it so."""
    with tempfile.TemporaryDirectory(dir="/var/tmp") as place, ExitStack() as stack:
        Path(place).chmod(0o711)
        one = stack.enter_context(peer(Path(place), uid=65534))
        found = attestor(by_root(one.pid), pidfd=pidfd).attest(one.connection, one.accepted_at)
        assert found == Attested(
            "", f"process {one.pid} is of uid 65534, and agent is of uid 0", one.pid, 65534
        )
        assert attestor(by_root(one.pid), uid=65534).attest(one.connection, one.accepted_at).name == "agent"


def test_a_held_subsystem_gets_nothing(tmp_path: Path) -> None:
    with peer(tmp_path) as one:
        found = attestor(by_root(one.pid), held="agent is held: a person").attest(
            one.connection, one.accepted_at
        )
        assert (found.name, found.why) == ("", "agent is held: a person")


@BOTH_KERNELS
@pytest.mark.parametrize("reaped", [False, True])
def test_a_dead_process_gets_nothing_whoever_has_its_connection(tmp_path: Path, reaped: bool, pidfd) -> None:
    """It has connected, and its child, which has the connection, asks."""
    with peer(tmp_path, handed_on=True) as one:
        if reaped:
            one.process.wait()
        found = attestor(this_process(), pidfd=pidfd).attest(one.connection, one.accepted_at)
        assert (found.name, found.why) == ("", f"process {one.pid} has ended")


@needs_pids
@BOTH_KERNELS
def test_a_process_that_has_its_number_now_is_not_it(tmp_path: Path, pidfd) -> None:
    """A stranger connects and ends, its child keeps the connection, and a process of the subsystem gets its number."""
    with peer(tmp_path, handed_on=True) as one, ExitStack() as stack:
        one.process.wait()
        _let_a_tick_pass(one.accepted_at)
        stack.enter_context(process_numbered(one.pid))
        found = attestor(by_root(one.pid), pidfd=pidfd).attest(one.connection, one.accepted_at)
        assert found.name == ""
        assert "has ended" in found.why or "its number was reused" in found.why
        # Who went by the number alone, as one reads it off the connection, would be taken in:
        assert attestor(by_root(one.pid), pidfd=lambda _: os.pidfd_open(one.pid)).attest(
            one.connection, time.clock_gettime(time.CLOCK_BOOTTIME)
        ) == Attested("agent", "", one.pid, os.geteuid())


def _let_a_tick_pass(since: float) -> None:
    """The kernel counts a process's start in ticks of a hundredth of a second."""
    while time.clock_gettime(time.CLOCK_BOOTTIME) < since + 0.02:
        pass


def test_what_is_no_unix_socket_is_refused() -> None:
    with socket.socket(socket.AF_INET) as one:
        assert attestor(this_process()).attest(one, 0.0).name == ""
