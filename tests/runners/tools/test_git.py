"""Tools of git, on repositories whose files want to run something or lead elsewhere: the work is done all the same."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from tool_process import SECRET, World, git

from runners.tools import repository
from runners.tools.signature import ToolError
from runners.tools.worker import programs_of

EVERY_TOOL: list[tuple[str, dict[str, Any]]] = [
    ("git_status", {}),
    ("git_diff", {}),
    ("git_diff", {"target": "v1..HEAD"}),
    ("git_log", {}),
    ("git_show", {"revision": "HEAD"}),
    ("git_blame", {"path": "notes.txt"}),
    ("git_tag", {"name": "v3", "message": "Three"}),
    ("git_branch", {"name": "other"}),
    ("git_commit", {"message": "Plain", "paths": ["plain.txt"]}),
    ("git_stash", {"action": "push"}),
    ("git_checkout", {"name": "topic"}),
    ("git_checkout", {"name": "main"}),
    ("git_stash", {"action": "pop"}),
]

CONFIGS = {
    "fsmonitor": [("core.fsmonitor", "{trap}")],
    "hooks path": [("core.hooksPath", "hooks")],
    "external diff": [("diff.external", "{trap}")],
    "diff driver": [("diff.trap.command", "{trap}")],
    "textconv": [("diff.trap.textconv", "{trap}")],
    "clean filter": [("filter.trap.clean", "{trap}"), ("filter.trap.required", "true")],
    "smudge filter": [("filter.trap.smudge", "{trap}"), ("filter.trap.required", "true")],
    "process filter": [("filter.trap.process", "{trap}"), ("filter.trap.required", "true")],
    "merge driver": [("merge.trap.driver", "{trap}"), ("merge.default", "trap")],
    "signing": [("commit.gpgSign", "true"), ("tag.gpgSign", "true"), ("gpg.program", "{trap}")],
    "shown signatures": [("log.showSignature", "true"), ("gpg.program", "{trap}")],
    "pager": [("core.pager", "{trap}"), ("pager.log", "{trap}"), ("pager.diff", "{trap}")],
    "editor": [("core.editor", "{trap}"), ("sequence.editor", "{trap}")],
    "alias": [("alias.status", "!{trap}"), ("alias.commit", "!{trap}")],
    "ssh": [("core.sshCommand", "{trap}"), ("remote.origin.url", "ssh://x/y")],
    "lazy fetch": [
        ("remote.origin.url", "ext::{trap}"),
        ("remote.origin.promisor", "true"),
        ("extensions.partialClone", "origin"),
    ],
    "garbage collection": [("gc.auto", "1"), ("gc.recentObjectsHook", "{trap}")],
    "alternate references": [("core.alternateRefsCommand", "{trap}")],
    "included file": [("include.path", "../more.config")],
    "work tree": [("core.worktree", "../../outside-tree")],
}


def plant(world: World, config: list[tuple[str, str]]) -> Path:
    """Plant a trap that leaves a file behind when it runs, in every way that the configuration names."""
    root, sprung = world.root, world.root / "sprung"
    trap = root / "trap.sh"
    trap.write_text(f"#!/bin/sh\ntouch {sprung}\ncat\n")
    trap.chmod(0o755)
    for folder in (".git/hooks", "hooks"):
        (root / folder).mkdir(exist_ok=True)
        for hook in (
            "pre-commit",
            "post-checkout",
            "post-commit",
            "reference-transaction",
            "prepare-commit-msg",
            "commit-msg",
        ):
            (root / folder / hook).write_text(trap.read_text())
            (root / folder / hook).chmod(0o755)
    (root / "more.config").write_text(f'[core]\n\tfsmonitor = {trap}\n[filter "trap"]\n\tsmudge = {trap}\n')
    (root / ".git/info/attributes").write_text("notes.txt filter=trap diff=trap merge=trap\n")
    (root / "plain.txt").write_text("plain\n")
    for key, value in config:
        git(root, "config", key, value.format(trap=trap))
    return sprung


@pytest.mark.parametrize("name", CONFIGS)
def test_nothing_that_a_repository_says_is_run(world: World, name: str) -> None:
    """Each tool does its work, and the trap is not sprung."""
    sprung = plant(world, CONFIGS[name])
    refused = []
    for tool, arguments in EVERY_TOOL:
        answer = world.worker.answer(tool, arguments)
        if "error" in answer:
            refused.append((tool, answer["error"]))
        assert not sprung.exists(), tool
    # What goes through a filter cannot be stored as it should be, so that is refused: told, not done wrongly.
    allowed = {"git_stash"} if "filter" in name or name == "included file" else set()
    assert {tool for tool, _ in refused} <= allowed | ({"git_checkout"} if allowed else set()), refused


def test_the_trap_springs_for_whoever_runs_git_plainly(world: World) -> None:
    """The control: the planted settings do work."""
    sprung = plant(world, CONFIGS["fsmonitor"])
    git(world.root, "status")
    assert sprung.exists()


def test_a_commit_of_nothing_says_so(world: World) -> None:
    """Of paths that have not changed, and of no paths; git itself says nothing then."""
    for paths in (["old.txt"], []):
        said = world.worker.refusal("git_commit", message="m", paths=paths)
        assert said.startswith("there is nothing to commit")


def test_a_file_behind_a_filter_is_not_committed_raw(world: World) -> None:
    """With the filters off the wrong bytes would be stored: refused, and files beside it are committed."""
    plant(world, CONFIGS["clean filter"])
    said = world.worker.refusal("git_commit", message="x", paths=["notes.txt"])
    assert "goes through the filter 'trap'" in said
    assert world.worker("git_commit", message="x", paths=["plain.txt"])["files"] == ["plain.txt"]


def test_git_is_the_only_program_a_call_can_run(world: World) -> None:
    """The wall behind the settings: a setting that was overlooked finds no shell."""
    assert all(Path(program).name == "git" for program in programs_of("git"))


ARGUMENTS = [
    *(
        "--upload-pack=x",
        "-O/tmp/x",
        "--output=/tmp/x",
        "--no-index",
        "-c",
        "--exec=x",
        "HEAD\n--output=x",
        "HEAD x",
        "",
    ),
    *("--help", "@{-1} ", "\x00", "--git-dir=/tmp"),
]


@pytest.mark.parametrize("value", ARGUMENTS)
def test_no_argument_is_taken_for_an_option(world: World, value: str) -> None:
    """As a revision, a branch, a tag, a path."""
    for tool, arguments in (
        ("git_show", {"revision": value}),
        ("git_diff", {"target": value}),
        ("git_diff", {"target": f"HEAD..{value or '-x'}"}),
        ("git_checkout", {"name": value}),
        ("git_branch", {"name": value}),
        ("git_branch", {"name": "fine", "from": value}),
        ("git_tag", {"name": value}),
        ("git_tag", {"name": "fine", "revision": value}),
    ):
        world.worker.refusal(tool, **arguments)
    assert not Path("/tmp/x").exists()
    assert git(world.root, "branch", "--list", "fine") == git(world.root, "tag", "--list", "fine") == ""


def test_paths_are_literal_and_stay_in_the_repository(world: World) -> None:
    """No magic of pathspecs, no `..`; a file whose name looks like an option is a file."""
    (world.root / "--all").write_text("odd\n")
    (world.root / ":(top)x").write_text("odd\n")
    done = world.worker("git_commit", message="Odd names", paths=["--all", ":(top)x"])
    assert sorted(done["files"]) == ["--all", ":(top)x"]
    for path in ("../secret.txt", "/etc/passwd", "docs/../../x", "a\nb", ""):
        assert "not a path" in world.worker.refusal("git_commit", message="x", paths=[path])
        assert "not a path" in world.worker.refusal("git_diff", paths=[path])


def elsewhere(world: World, what: str) -> None:
    """Let a part of the repository lie outside, where another repository with a secret is."""
    other = world.folder / f"other-{what}"
    if not other.exists():
        other.mkdir()
        git(other, "init", "--quiet", "--initial-branch=main")
        (other / "secret.txt").write_text(SECRET)
        git(other, "add", "--all")
        git(other, "commit", "--quiet", "--message=secret")
    inside = world.root / ".git"
    match what:
        case "file":
            inside.rename(world.root / "was.git")
            inside.write_text(f"gitdir: {other}/.git\n")
        case "link":
            inside.rename(world.root / "was.git")
            inside.symlink_to(other / ".git")
        case "alternates":
            (inside / "objects/info").mkdir(exist_ok=True)
            (inside / "objects/info/alternates").write_text(f"{other}/.git/objects\n")
        case "commondir":
            (inside / "commondir").write_text(f"{other}/.git\n")
        case "objects":
            (inside / "objects").rename(inside / "was")
            (inside / "objects").symlink_to(other / ".git/objects")


@pytest.mark.parametrize("what", ["file", "link", "alternates", "commondir", "objects"])
def test_a_repository_that_lies_elsewhere_is_not_opened(world: World, what: str) -> None:
    """Another repository's history is not this workspace's; nor is a directory above it looked into."""
    elsewhere(world, what)
    for tool, arguments in EVERY_TOOL:
        said = world.worker.refusal(tool, **arguments)
        assert SECRET not in said
    for repo in ("..", f"../other-{what}", "docs"):
        world.worker.refusal("git_status", repo=repo)


@pytest.mark.parametrize("name", ["HEAD", "config", "index", "packed-refs", "info/exclude"])
def test_a_repository_whose_files_would_be_waited_for_is_not_opened(world: World, name: str) -> None:
    """At once, and with the reason; without the FIFO it is opened."""
    path = world.root / ".git" / name
    kept = path.read_bytes() if path.exists() else b""
    path.unlink(missing_ok=True)
    path.parent.mkdir(exist_ok=True)
    os.mkfifo(path)
    assert "is a fifo" in world.worker.refusal("git_status")
    path.unlink()
    path.write_bytes(kept)
    assert world.worker("git_status")["branch"] == "main"


def test_a_repository_below_the_workspace_is_opened(world: World) -> None:
    """The benign twin; a file's repository is the nearest one above it."""
    inner = world.root / "docs" / "inner"
    inner.mkdir()
    git(inner, "init", "--quiet", "--initial-branch=trunk")
    (inner / "a.txt").write_text("inner\n")
    done = world.worker.answer("git_commit", {"repo": "docs/inner", "message": "Inner", "paths": ["a.txt"]})
    assert done["effects"] == [["docs/inner/.git/refs/heads/trunk", None, done["result"]["sha"]]]
    assert world.worker("git_blame", path="docs/inner/a.txt")["lines"][0]["author"] == "epad"
    assert world.worker("git_status", repo="docs/inner")["branch"] == "trunk"


def test_a_huge_file_gives_a_bounded_answer(world: World) -> None:
    """25 MB of text in a commit: the diff is cut, and said to be."""
    (world.root / "big.txt").write_text("line of text\n" * 2_000_000)
    world.worker("git_commit", message="Big", paths=["big.txt"])
    shown = world.worker("git_show", revision="HEAD")
    assert shown["truncated"]
    assert len(shown["diff"]) < 64 << 10
    assert shown["message"] == "Big"


def test_protected_files_are_not_checked_out(world: World) -> None:
    """A branch that brings them would let a tool write them; a file beside them can be had."""
    git(world.root, "stash", "--include-untracked")
    git(world.root, "checkout", "--quiet", "-b", "evil")
    (world.root / ".vscode").mkdir()
    (world.root / ".vscode/tasks.json").write_text("{}")
    (world.root / "fine.txt").write_text("fine\n")
    git(world.root, "add", "--all")
    git(world.root, "commit", "--quiet", "--message=Evil")
    git(world.root, "checkout", "--quiet", "main")
    assert "tools do not write" in world.worker.refusal("git_checkout", name="evil")
    assert "tools do not write" in world.worker.refusal("git_checkout", name="evil", paths=[".vscode"])
    assert world.worker("git_checkout", name="evil", paths=["fine.txt"])["changed"] == ["fine.txt"]
    assert not (world.root / ".vscode").exists()


def test_what_tools_do_not_read_git_does_not_show(world: World) -> None:
    """Neither by storing it first, nor where a person has stored it; the other files are shown."""
    (world.root / ".npmrc").write_text("token=old\n")
    assert "not read" in world.worker.refusal("git_commit", message="m", paths=[".npmrc"])
    assert "not read" in world.worker.refusal("git_commit", message="m", paths=["."])
    assert world.worker("git_commit", message="m", paths=["fresh.txt"])["files"] == ["fresh.txt"]
    git(world.root, "add", ".npmrc", "notes.txt")
    git(world.root, "commit", "--quiet", "--message=Third")
    (world.root / ".npmrc").write_text("token=new\n")
    (world.root / "fresh.txt").write_text("changed\n")
    for tool, arguments in (("git_diff", {}), ("git_show", {"revision": "HEAD"})):
        told = world.worker(tool, **arguments)
        assert "token" not in told["diff"]
        assert "+five" in told["diff"] or "+changed" in told["diff"]
        assert told["truncated"]
    assert "not read" in world.worker.refusal("git_diff", paths=[".npmrc"])
    assert "not read" in world.worker.refusal("git_show", revision="HEAD", path=".npmrc")


def test_a_stash_brings_back_no_protected_file(world: World) -> None:
    """Also one that git did not know when a person put it aside; a plain one comes back."""
    (world.root / ".envrc").write_text("evil")
    git(world.root, "stash", "push", "--quiet", "--include-untracked")
    assert "tools do not write" in world.worker.refusal("git_stash", action="pop")
    assert not (world.root / ".envrc").exists()
    git(world.root, "stash", "drop", "--quiet")
    (world.root / "fresh.txt").write_text("fresh\n")
    git(world.root, "stash", "push", "--quiet", "--include-untracked")
    world.worker("git_stash", action="pop")
    assert (world.root / "fresh.txt").exists()


def test_a_repository_in_a_directory_of_settings_brings_no_protected_file(world: World) -> None:
    """The path counts from the workspace, not from the repository's top."""
    settings = world.root / ".config"
    (settings / "autostart").mkdir(parents=True)
    for text in ("1", "2"):
        (settings / "autostart/x").write_text(text)
        (settings / "plain").write_text(text)
        if text == "1":
            git(settings, "init", "--quiet")
        git(settings, "add", "--all")
        git(settings, "commit", "--quiet", "--message", text)
    assert "tools do not write" in world.worker.refusal("git_checkout", repo=".config", name="HEAD~1")
    brought = world.worker("git_checkout", repo=".config", name="HEAD~1", paths=["plain"])
    assert brought["changed"] == ["plain"]
    assert (settings / "autostart/x").read_text() == "2"


@pytest.mark.parametrize(
    ("tool", "arguments"),
    [
        ("git_log", {"path": "a" * 200_000}),
        ("git_log", {"since": "a\0b"}),
        ("git_show", {"revision": "HEAD", "path": "a" * 200_000}),
        ("git_commit", {"message": "m", "paths": ["a" * 200_000]}),
    ],
)
def test_arguments_that_no_program_takes_are_refused(
    world: World, tool: str, arguments: dict[str, object]
) -> None:
    assert world.worker.refusal(tool, **arguments)


def test_state_is_told_with_odd_names(world: World) -> None:
    """Staged, unstaged, untracked and in conflict."""
    (world.root / "ünï cödé\t.txt").write_text("x")
    (world.root / "old.txt").unlink()
    (world.root / "added.txt").write_text("x")
    git(world.root, "add", "added.txt")
    status = world.worker("git_status")
    assert status["branch"] == "main"
    assert status["staged"] == [{"path": "added.txt", "change": "A"}]
    assert {"path": "old.txt", "change": "D"} in status["unstaged"]
    assert "ünï cödé\t.txt" in status["untracked"]


def test_history_is_told_as_it_is(world: World) -> None:
    """By path and time; in an empty repository there is none."""
    log = world.worker("git_log")["commits"]
    assert [each["subject"] for each in log] == ["Second", "First"]
    assert world.worker("git_log", until="2001-01-01")["commits"] == []
    assert world.worker("git_show", revision="HEAD~1")["commit"] == log[1]
    blame = world.worker("git_blame", path="notes.txt", **{"from": 3, "to": 3})
    assert (blame["lines"][0]["sha"], blame["lines"][0]["text"]) == (log[0]["sha"], "four")
    assert "is before" in world.worker.refusal("git_blame", path="notes.txt", **{"from": 3, "to": 2})
    empty = world.root / "empty"
    empty.mkdir()
    git(empty, "init", "--quiet")
    assert world.worker("git_log", repo="empty") == {"commits": []}
    assert "no commit 'HEAD'" in world.worker.refusal("git_show", repo="empty", revision="HEAD")


def test_changes_are_put_aside_and_brought_back(world: World) -> None:
    """With the stashes that there are."""
    assert "nothing is put aside" in world.worker.refusal("git_stash", action="pop")
    assert len(world.worker("git_stash", action="push")["stashes"]) == 1
    assert (world.root / "notes.txt").read_text() == "one two\nthree\nfour\n"
    assert world.worker("git_stash", action="pop") == {"stashes": []}
    assert (world.root / "notes.txt").read_text().endswith("five\n")


def test_a_detached_head_and_a_branch_are_checked_out(world: World) -> None:
    """With the files that differ."""
    git(world.root, "checkout", "--quiet", "--", "notes.txt")
    detached = world.worker("git_checkout", name="v1")
    assert (len(detached["head"]), detached["changed"]) == (40, ["notes.txt"])
    assert world.worker("git_checkout", name="main")["head"] == "main"


@pytest.mark.parametrize(
    "name",
    ["", "-d", "a..b", "a b", "a.lock", "HEAD", "/a", "a/", "a//b", "a/.b", "@{u}", "x" * 201, "a~1", "a:b"],
)
def test_names_of_references_are_plain(name: str) -> None:
    """Letters, digits and a few signs."""
    with pytest.raises(ToolError):
        repository.reference(name, "branch")
    assert repository.reference("feature/one-2.0_x", "branch") == "feature/one-2.0_x"
