"""Bare repositories: git obeys what is in one, so no tool writes in one or makes one; plain directories stay plain."""

from __future__ import annotations

import subprocess

import pytest
from tool_process import World, git

NAMES = ("HEAD", "objects", "refs")


def bare(world: World) -> None:
    subprocess.run(["git", "init", "--quiet", "--bare", str(world.root / "mirror")], check=True)


@pytest.mark.parametrize("path", ["mirror/config", "mirror/hooks/post-update", "mirror/info/new", "mirror/x"])
def test_nothing_is_written_in_a_bare_repository(world: World, path: str) -> None:
    """Whatever its name is; a file beside it is written."""
    bare(world)
    (world.root / "mirror/hooks").mkdir(exist_ok=True)
    refused = world.worker.refusal("file_write", path=path, content="x", mode="replace")
    assert "bare git repository" in refused
    world.worker("file_write", path="beside.txt", content="x")
    moved = world.worker.refusal("file_move", source="notes.txt", destination=path, replace=True)
    assert "bare git repository" in moved
    assert (world.root / "notes.txt").exists()


@pytest.mark.parametrize("last", NAMES)
def test_no_tool_makes_a_bare_repository(world: World, last: str) -> None:
    """In any order: two of the three names are plain, the last one is refused."""
    for name in (*(each for each in NAMES if each != last), "config"):
        (world.root / "made").mkdir(exist_ok=True)
        world.worker("file_write", path=f"made/{name}", content="x")
    assert "bare git repository" in world.worker.refusal("file_write", path=f"made/{last}", content="x")
    source = {"source": "docs", "destination": f"made/{last}"}
    assert "bare git repository" in world.worker.refusal("file_move", **source)
    assert not (world.root / "made" / last).exists()


def test_a_branch_brings_no_bare_repository(world: World) -> None:
    """A commit may hold one as plain files; another file of it can be had."""
    git(world.root, "checkout", "--quiet", "-b", "evil")
    for name in ("HEAD", "objects/x", "refs/x", "config"):
        (world.root / "sub" / name).parent.mkdir(parents=True, exist_ok=True)
        (world.root / "sub" / name).write_text("x")
    (world.root / "fine.txt").write_text("fine\n")
    git(world.root, "add", "sub", "fine.txt")
    git(world.root, "commit", "--quiet", "--message=Evil")
    git(world.root, "checkout", "--quiet", "main")
    assert "bare git repository" in world.worker.refusal("git_checkout", name="evil")
    assert world.worker("git_checkout", name="evil", paths=["fine.txt"])["changed"] == ["fine.txt"]
    assert not (world.root / "sub").exists()
