"""Control groups, read from what the kernel shows; what is done to real ones is in test_engine."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from epad.supervisor.cgroup import Cgroup, NoCgroupError, cgroup_of, delegated, mount_point

HYBRID = """31 24 0:27 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu
40 24 0:30 / {} rw,nosuid shared:4 - cgroup2 cgroup2 rw
"""


def proc(tmp_path: Path, *, mount: Path | None, member: str = "0::/user.slice/it.service") -> Path:
    directory = tmp_path / "proc"
    (directory / "self").mkdir(parents=True)
    (directory / "self/mountinfo").write_text(HYBRID.format(mount) if mount else "")
    (directory / "self/cgroup").write_text(f"4:memory:/elsewhere\n{member}\n")
    return directory


def test_the_hierarchy_is_found_wherever_it_is_mounted(tmp_path: Path) -> None:
    """Beside version 1 it is not at /sys/fs/cgroup."""
    unified = tmp_path / "unified"
    where = proc(tmp_path, mount=unified)
    assert mount_point(where) == unified
    assert cgroup_of("self", where) == Cgroup(unified / "user.slice/it.service")
    assert cgroup_of(4_000_000, where) is None


def test_what_is_not_ours_to_divide_says_why(tmp_path: Path) -> None:
    """No version 2 at all; a directory of systemd's that it has not delegated."""
    with pytest.raises(NoCgroupError, match="no cgroup v2"):
        delegated(managed=False, proc=proc(tmp_path / "none", mount=None))
    unified = tmp_path / "unified"
    own = unified / "user.slice/it.service"
    own.mkdir(parents=True)
    (own / "cgroup.procs").touch()
    where = proc(tmp_path / "some", mount=unified)
    with pytest.raises(NoCgroupError, match="not delegated"):
        delegated(managed=True, proc=where)
    assert delegated(managed=False, proc=where) == Cgroup(own)


def test_a_group_that_is_gone_reads_as_empty(tmp_path: Path) -> None:
    """It went with its last process; that is no error."""
    gone = Cgroup(tmp_path / "gone")
    assert (gone.pids(), gone.is_populated, gone.is_frozen, gone.is_to_freeze) == (
        frozenset(),
        False,
        False,
        False,
    )
    gone.remove()


def test_controllers_are_passed_on_one_by_one_and_what_is_not_to_be_had_is_no_error(tmp_path: Path) -> None:
    """The kernel refuses a whole list for one that it lacks."""
    written: list[str] = []

    class Group(Cgroup):
        def _write(self, name: str, value: str) -> None:
            written.append(f"{name} {value}")
            if value == "+memory":
                raise OSError(errno.ENOENT, "no such controller")

    Group(tmp_path).pass_on()
    assert written == ["cgroup.subtree_control +memory", "cgroup.subtree_control +pids"]


def test_what_lives_below_belongs_to_it(tmp_path: Path) -> None:
    """A container runtime among the children makes groups of its own."""
    below = tmp_path / "it/scope/deep"
    below.mkdir(parents=True)
    (tmp_path / "it/cgroup.procs").write_text("1\n2\n")
    (below / "cgroup.procs").write_text("3\n")
    assert Cgroup(tmp_path / "it").pids() == {1, 2, 3}
