"""Who a process is, on a hostile /proc and on the real one."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from epad.runtime.clock import boot_id
from epad.supervisor.errors import ProcessGoneError
from epad.supervisor.identity import Kin, ProcessIdentity, ProcessTable, parse_stat

BOOT = "00000000-0000-0000-0000-000000000001"


def stat_line(
    pid: int, name: str, state: str, parent: int, session: int, ticks: int, threads: int = 1
) -> str:
    before = [state, str(parent), str(session), str(session)]
    between = ["0"] * 13
    return f"{pid} ({name}) " + " ".join([*before, *between, str(threads), "0", str(ticks), "0", "0"])


class FakeProc:
    """A /proc that holds what it is told to."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def add(self, pid: int, parent: int, session: int, ticks: int, **more: str) -> ProcessIdentity:
        folder = self.root / str(pid)
        folder.mkdir(exist_ok=True)
        line = stat_line(pid, more.get("name", "x"), more.get("state", "S"), parent, session, ticks)
        (folder / "stat").write_text(line)
        (folder / "environ").write_text(more.get("environ", ""))
        return ProcessIdentity(pid, ticks, BOOT)


@pytest.fixture
def proc(tmp_path: Path) -> FakeProc:
    return FakeProc(tmp_path)


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen([sys.executable, "-S", "-c", "import time; time.sleep(600)"])
    yield process
    process.kill()
    process.wait()


@pytest.mark.parametrize("name", ["foo) Z ", ") R 1 1 1", "a b", "", "(((", "x\ny) S 9 9", "\udcff"])
def test_a_hostile_name_hides_nothing(name: str) -> None:
    """The name may imitate the fields that follow it; the last parenthesis alone ends it."""
    stat = parse_stat(stat_line(42, name, "S", 7, 9, 123))
    assert stat is not None
    assert (stat.pid, stat.state, stat.parent, stat.session, stat.start_ticks) == (42, "S", 7, 9, 123)


@given(st.text(max_size=200))
def test_any_text_is_read_or_refused(text: str) -> None:
    """Nothing in /proc can raise, whatever a kernel or a container's fake of it says."""
    assert parse_stat(text) is None or parse_stat(text) == parse_stat(text)


def test_a_process_whose_first_thread_ended_is_alive() -> None:
    """Its leader shows as a zombie, and yet it runs."""
    stat = parse_stat(stat_line(1, "x", "Z", 1, 1, 1, threads=3))
    assert stat is not None
    assert stat.is_alive


def test_our_own_entry_is_read_right() -> None:
    """The fields stand where the kernel of this machine puts them."""
    table = ProcessTable(boot_id())
    stat = table.stat(os.getpid())
    assert stat is not None
    assert (stat.parent, stat.session) == (os.getppid(), os.getsid(0))
    assert stat.start_ticks > 0


def test_a_reused_pid_is_another_process(proc: FakeProc) -> None:
    """The same pid with another start time, or of another boot, is a stranger."""
    table = ProcessTable(BOOT, proc.root)
    identity = proc.add(500, parent=1, session=500, ticks=1000)
    assert table.is_alive(identity)
    assert not table.is_alive(replace(identity, start_ticks=999))
    assert not table.is_alive(replace(identity, boot_id="another"))
    proc.add(500, parent=1, session=500, ticks=1000, state="Z")
    assert not table.is_alive(identity)


@pytest.mark.parametrize("change", [{"start_ticks": 1}, {"boot_id": "another"}])
def test_a_stranger_is_never_signalled(sleeper: subprocess.Popen[bytes], change: dict[str, Any]) -> None:
    """A real, living process is left alone where only its pid is right."""
    table = ProcessTable(boot_id())
    identity = table.identity(sleeper.pid)
    assert identity is not None
    stranger = replace(identity, **change)
    with pytest.raises(ProcessGoneError):
        table.open(stranger)
    assert table.signal(stranger, signal.SIGKILL) is False
    assert sleeper.poll() is None
    assert table.signal(identity, signal.SIGKILL) is True
    assert sleeper.wait() == -signal.SIGKILL


def test_the_tree_is_session_descendants_and_marked(proc: FakeProc) -> None:
    """Whoever shares its session, descends from it or bears its marks is of the tree; nobody else is."""
    root = proc.add(10, parent=1, session=10, ticks=100)
    child = proc.add(11, parent=10, session=10, ticks=110)
    escaped = proc.add(12, parent=11, session=12, ticks=120)
    orphan = proc.add(13, parent=1, session=10, ticks=130)
    daemonised = proc.add(14, parent=1, session=99, ticks=140, environ="A=1\0MARK=it\0")
    of_daemonised = proc.add(15, parent=14, session=15, ticks=150)
    proc.add(16, parent=1, session=16, ticks=90, environ="MARK=other\0XMARK=it\0")
    proc.add(17, parent=11, session=17, ticks=50)  # older than its parent: the parent's pid was used again
    proc.add(18, parent=10, session=10, ticks=160, state="Z")
    tree = ProcessTable(BOOT, proc.root).tree(root, {"MARK": "it"})
    assert tree == {root, child, escaped, orphan, daemonised, of_daemonised}


def test_a_session_whose_number_was_used_again_is_not_ours(proc: FakeProc) -> None:
    """After the last of a session is gone its number may be a stranger's."""
    root = ProcessIdentity(10, 100, BOOT)
    table = ProcessTable(BOOT, proc.root)
    proc.add(21, parent=1, session=10, ticks=300)
    assert table.tree(root, {"MARK": "it"}) == frozenset()
    proc.add(10, parent=1, session=10, ticks=200)
    assert table.tree(root, {"MARK": "it"}) == frozenset()


def test_a_session_without_its_leader_is_told_by_a_known_member(proc: FakeProc) -> None:
    """While a member that is certainly ours has the number, so has nobody else."""
    root = ProcessIdentity(10, 100, BOOT)
    known = proc.add(21, parent=1, session=10, ticks=300)
    other = proc.add(22, parent=1, session=10, ticks=310)
    stranger = replace(known, start_ticks=5)
    found = ProcessTable(BOOT, proc.root).trees([Kin(root, {}, [known]), Kin(root, {}, [stranger])])
    assert found == [{known, other}, frozenset()]


def test_a_spawn_is_found_by_its_marks(proc: FakeProc) -> None:
    """Of all that bear a spawn's marks its root is the session's leader that none of the others has begotten."""
    root = proc.add(30, parent=1, session=30, ticks=100, environ="MARK=it\0")
    proc.add(31, parent=30, session=31, ticks=90, environ="MARK=it\0")
    proc.add(32, parent=1, session=30, ticks=80, environ="MARK=it\0")
    table = ProcessTable(BOOT, proc.root)
    assert table.find_root({"MARK": "it"}) == root
    assert table.find_root({"MARK": "nobody"}) is None


def test_a_proc_full_of_nonsense_is_survived(proc: FakeProc) -> None:
    """Entries that vanish, are empty or lie about their pid are no processes."""
    (proc.root / "77").mkdir()
    (proc.root / "78").mkdir()
    (proc.root / "78" / "stat").write_text("")
    (proc.root / "79").mkdir()
    (proc.root / "79" / "stat").write_text(stat_line(80, "x", "S", 1, 1, 1))
    assert ProcessTable(BOOT, proc.root).snapshot() == {}


@pytest.mark.parametrize(("inherited", "left"), [("-900\n", "0"), ("0\n", "0\n"), ("500\n", "500\n")])
def test_a_child_does_not_keep_the_daemons_oom_protection(proc: FakeProc, inherited: str, left: str) -> None:
    """The daemon must outlive a workload that eats the memory; one that is more exposed stays so."""
    proc.add(42, 1, 42, 9)
    score = proc.root / "42" / "oom_score_adj"
    score.write_text(inherited)
    table = ProcessTable(BOOT, proc.root)
    table.forgo_oom_protection(42)
    assert score.read_text() == left
    table.forgo_oom_protection(43)
