"""Rules of Landlock, from a plan: which rights below which path."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from runners.cell import landlock
from runners.cell.plan import CellPlan, Tree, Wall

WRITE_FILE, READ_FILE, READ_DIR, MAKE_BLOCK = 1 << 1, 1 << 2, 1 << 3, 1 << 11
EVERYTHING = landlock.ruleset(tuple(Wall)).files
TREE = Tree(read=("/usr",), write=("/w",), empty=("/home/me",), devices=("/dev/dri",))
PLAN = CellPlan("a", ("true",), "/", {}, tuple(Wall), tree=TREE)


def rights(plan: CellPlan, *, own_tree: bool = True) -> dict[str, int]:
    found: dict[str, int] = {}
    for path, given in landlock.rules(plan, EVERYTHING, own_tree=own_tree):
        found[path] = found.get(path, 0) | given
    return found


def test_each_wall_refuses_its_own() -> None:
    """A kernel without the newer ones gets a ruleset that it knows."""
    first = landlock.ruleset([Wall.LANDLOCK])
    assert (first.files, first.network, first.scopes) == ((1 << 13) - 1, 0, 0)
    assert landlock.ruleset([Wall.LANDLOCK, Wall.LANDLOCK_TCP]).network == 3
    assert landlock.ruleset([Wall.LANDLOCK, Wall.LANDLOCK_SCOPE]).scopes == 3
    assert EVERYTHING == (1 << 16) - 1


def test_roots_get_their_rights() -> None:
    """Read, write, and no device made anywhere."""
    found = rights(PLAN)
    assert found["/usr"] & WRITE_FILE == 0
    assert found["/usr"] & READ_FILE
    assert found["/w"] & WRITE_FILE
    assert found["/home/me"] & WRITE_FILE
    assert not any(given & MAKE_BLOCK for given in found.values())
    assert found["/"] == READ_DIR


def test_threads_are_named_with_a_gpu() -> None:
    """Through /proc, which else may only be read."""
    assert rights(PLAN)["/proc"] & WRITE_FILE == 0
    assert rights(replace(PLAN, gpu=True))["/proc"] & WRITE_FILE


def test_without_a_tree_nothing_shared_is_given() -> None:
    """The host's /tmp and /dev are not the cell's own."""
    found = rights(PLAN, own_tree=False)
    assert not {"/", "/dev", "/dev/shm", "/home/me"} & found.keys()
    assert {"/w", "/usr", "/dev/null"} <= found.keys()


def test_without_a_tree_hidden_paths_are_gone_round(tmp_path: Path) -> None:
    """Each neighbour of a hidden path is named instead of their root."""
    for path in ("keys/ssh", "keys/other", "code"):
        (tmp_path / path).mkdir(parents=True)
    found = set(landlock.around(str(tmp_path), [str(tmp_path / "keys/ssh")]))
    assert found == {str(tmp_path / "keys/other"), str(tmp_path / "code")}
    assert list(landlock.around("/usr", ["/usrlocal"])) == ["/usr"]
    assert list(landlock.around("/usr", ["/usr"])) == []
