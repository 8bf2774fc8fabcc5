"""Whose a process is, by a made-up /proc."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from epad.probing.process_owners import ProcessOwners
from epad.supervisor.identity import ProcessTable
from probes.subsystems import SubsystemSnapshot, SubsystemState

STATE = Path("/state")
UNITS = {"models.service": "ollama", "gone.service": "gone"}


class Proc:
    """Processes as files; `chat` is pid 100 and `ollama` runs elsewhere."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.owners = ProcessOwners(
            self.snapshots, ProcessTable("", root), STATE, root, "epad", lambda: UNITS
        )

    def snapshots(self) -> list[SubsystemSnapshot]:
        pids = {"chat": 100, "ollama": None, "game": None}
        running = SubsystemState.RUNNING
        return [
            SubsystemSnapshot(n, "process", running, essential=False, since=0.0, pid=p)
            for n, p in pids.items()
        ]

    def process(
        self,
        pid: int,
        parent: int,
        *,
        session: int | None = None,
        state: str = "S",
        cgroup: str = "0::/user.slice",
        environment: str = "HOME=/root",
    ) -> None:
        directory = self.root / str(pid)
        directory.mkdir()
        rest = " ".join(["0"] * 10)
        text = f"{pid} (a) b) {state} {parent} {pid} {session or pid} {rest} 0 0 1 0 1 0 50 0\n"
        (directory / "stat").write_text(text)
        (directory / "cgroup").write_text(cgroup + "\n")
        (directory / "environ").write_text(environment.replace(" ", "\0"))


@pytest.fixture
def proc(tmp_path: Path) -> Proc:
    one = Proc(tmp_path)
    one.process(1, 0)
    one.process(100, os.getpid())
    return one


def test_a_subsystem_and_its_descendants_are_its_own(proc: Proc) -> None:
    """A worker of a worker too."""
    proc.process(101, 100)
    proc.process(102, 101)
    assert [proc.owners.owner_of(pid) for pid in (100, 101, 102)] == ["chat"] * 3


def test_one_that_lost_its_parent_is_told_by_its_session(proc: Proc) -> None:
    """Reparented to init."""
    proc.process(103, 1, session=100)
    assert proc.owners.owner_of(103) == "chat"


@pytest.mark.parametrize(
    ("cgroup", "owner"),
    [
        ("0::/epad.slice/epad-ollama.service", "ollama"),
        ("0::/epad.slice/epad-ollama.service/runner", "ollama"),
        ("0::/system.slice/epad.service/epad.children/game/more", "game"),
        ("0::/system.slice/epad.service/epad-1f2e3d4c.children/game", None),
        ("0::/epad.slice/epad-1f2e3d4c-ollama.service", None),
        ("0::/system.slice/models.service/runner", "ollama"),
        ("0::/system.slice/gone.service", None),
        ("0::/system.slice/other-models.service", None),
        ("0::/epad.slice/epad-stranger.service", None),
        ("0::/system.slice/epad.service", None),
        ("garbage", None),
    ],
)
def test_one_in_a_unit_of_ours_is_told_by_its_cgroup(proc: Proc, cgroup: str, owner: str | None) -> None:
    """A transient unit is systemd's child, not epad's; so is one that was there before; another epad's is neither."""
    proc.process(200, 1, cgroup=cgroup)
    assert proc.owners.owner_of(200) == owner


@pytest.mark.parametrize(
    ("environment", "owner"),
    [
        ("EPAD_STATE=/state EPAD_SUBSYSTEM=game", "game"),
        ("EPAD_STATE=/other EPAD_SUBSYSTEM=game", None),
        ("EPAD_STATE=/state", None),
        ("EPAD_STATE=/state EPAD_SUBSYSTEM=stranger", None),
    ],
)
def test_one_that_daemonised_is_told_by_its_mark(proc: Proc, environment: str, owner: str | None) -> None:
    """A new session under init keeps its environment; another epad's mark is not ours."""
    proc.process(300, 1, environment=environment)
    assert proc.owners.owner_of(300) == owner


def test_the_environment_of_one_in_uninterruptible_sleep_is_not_read(proc: Proc) -> None:
    """It holds the lock that reading waits for, for ever maybe."""
    proc.process(300, 1, state="D", environment="EPAD_STATE=/state EPAD_SUBSYSTEM=game")
    assert proc.owners.owner_of(300) is None


def test_strangers_and_the_dead_are_nobodys(proc: Proc) -> None:
    """A pid that the driver made up, a circle of parents, a line that is no stat."""
    proc.process(400, 401)
    proc.process(401, 400)
    proc.process(402, 1)
    (proc.root / "402/stat").write_text("garbage")
    assert [proc.owners.owner_of(pid) for pid in (400, 402, 999_999)] == [None] * 3
