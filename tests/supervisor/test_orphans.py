"""What a daemon that was killed has left: all of it is found, whatever it hides, and nothing else."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from patience import PATIENCE_SECONDS
from supervisor_world import World

from epad.runtime.clock import boot_id
from epad.supervisor import orphans
from epad.supervisor.cgroup import NoCgroupError, delegated
from epad.supervisor.engine_choice import CHILDREN, state_tag
from epad.supervisor.identity import ProcessIdentity, ProcessTable
from epad.supervisor.orphans import LeftBehind, read_journal
from epad.supervisor.process_tree import end
from epad.supervisor.records import ProcessRecord, ProcessRecords
from epad.supervisor.stage import Stage

BOOT = boot_id()
TABLE = ProcessTable(BOOT)
SLEEP = ("sleep", "600")
FAMILY = ("sh", "-c", "sleep 600 & setsid sleep 600 & wait")


@contextmanager
def running(*command: str, **marks: str) -> Iterator[ProcessIdentity]:
    """A process in a session of its own, with these variables and no others; ended with all that it forked."""
    process = subprocess.Popen(command, env={"PATH": os.environ["PATH"], **marks}, start_new_session=True)
    identity = TABLE.identity(process.pid)
    assert identity is not None
    try:
        yield identity
    finally:
        for member in TABLE.tree(identity, {}):
            TABLE.signal(member, signal.SIGKILL)
        process.wait(PATIENCE_SECONDS)


def look(left: LeftBehind, members: int) -> frozenset[ProcessIdentity]:
    """What is found, as soon as it is so many."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while len(found := left.look()) != members and time.monotonic() < deadline:
        time.sleep(0.01)
    assert len(found) == members
    return found


async def test_what_was_written_down_is_found_without_a_mark(tmp_path: Path) -> None:
    """With its session, and what it forked into another; all of it is ended."""
    with running(*FAMILY) as root:
        left = LeftBehind(TABLE, tmp_path, [root])
        found = look(left, 3)
        assert root in found
        assert await end(TABLE, left, PATIENCE_SECONDS) == frozenset()
        assert left.seen >= found
        assert not any(TABLE.is_alive(member) for member in found)


def test_whom_the_pid_has_gone_to_is_let_be(tmp_path: Path) -> None:
    """Told by when it started."""
    with running(*SLEEP) as stranger:
        earlier = replace(stranger, start_ticks=stranger.start_ticks - 1)
        assert LeftBehind(TABLE, tmp_path, [earlier]).look() == frozenset()


def test_a_mark_tells_whose_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By whichever path its daemon was given; another daemon's, and one that names none, are let be."""
    (tmp_path / "state").mkdir()
    (tmp_path / "link").symlink_to("state")
    monkeypatch.chdir(tmp_path / "state")
    with (
        running(*SLEEP, EPAD_STATE=f"{tmp_path}/link", EPAD_SUBSYSTEM="chat") as ours,
        running(*SLEEP, EPAD_STATE=f"{tmp_path}/other", EPAD_SUBSYSTEM="chat"),
        running(*SLEEP, EPAD_SUBSYSTEM="chat"),
    ):
        assert look(LeftBehind(TABLE, tmp_path / "state", []), 1) == {ours}


async def test_a_control_group_tells_what_nothing_else_does(tmp_path: Path) -> None:
    """Its members have no mark, no parent, no session of ours, and are frozen: they are ended all the same."""
    try:
        own = delegated(managed=Path("/run/systemd/system").is_dir())
    except NoCgroupError as error:
        pytest.skip(f"no cgroup to divide: {error}")
    group = own.leaf(f"{state_tag(tmp_path)}{CHILDREN}")
    with running(*SLEEP, EPAD_STATE=str(tmp_path), EPAD_SUBSYSTEM="chat") as marked, running(*SLEEP) as other:
        for name, member in (("chat", marked), ("clean", other)):
            group.leaf(name).create()
            (group.leaf(name).path / "cgroup.procs").write_text(str(member.pid))
        group.freeze()
        left = LeftBehind(TABLE, tmp_path, [])
        assert look(left, 2) == {marked, other}
        assert await end(TABLE, left, PATIENCE_SECONDS) == frozenset()
    group.remove()


async def test_the_journal_is_read_beside_its_log(world: World) -> None:
    """As a `kill -9` leaves it, unfinished: the processes of this boot."""
    records = ProcessRecords(world.database, BOOT)
    await records.write(ProcessRecord("chat", BOOT, Stage.RUNNING, pid=7, start_ticks=70))
    await records.write(ProcessRecord("waits", BOOT, Stage.WAITING))
    await records.write(ProcessRecord("old", "another", Stage.RUNNING, pid=8, start_ticks=80))
    assert read_journal(world.directories.state_database, BOOT) == ({ProcessIdentity(7, 70, BOOT)}, "")


def _put_a_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


@pytest.mark.parametrize(
    ("damage", "why"),
    [
        (Path.unlink, "unable to open"),
        (lambda path: path.write_bytes(b"x" * 8192), "not a database"),
        (lambda path: path.write_bytes(b""), "no such table"),
        (_put_a_pipe, "no answer within"),
    ],
    ids=["missing", "damaged", "empty", "silent"],
)
def test_a_journal_that_says_nothing_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: Callable[[Path], object], why: str
) -> None:
    """Whatever is wrong with it, it is named, and nobody waits for it."""
    monkeypatch.setattr(orphans, "JOURNAL_SECONDS", 0.5 if why.startswith("no answer") else 20.0)
    path = tmp_path / "state.db"
    path.touch()
    damage(path)
    found, said = read_journal(path, BOOT)
    assert found == frozenset()
    assert said.startswith(f"{path}: ")
    assert why in said
    if path.is_fifo():
        os.close(os.open(path, os.O_WRONLY | os.O_NONBLOCK))  # lets the reader go
