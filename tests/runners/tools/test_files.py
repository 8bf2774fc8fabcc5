"""Tools of files, with hostile paths and files; each has a twin that works."""

from __future__ import annotations

import contextlib
import hashlib
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from tool_process import SECRET, World

from runners.tools import files
from runners.tools.file_changes import PairArgs


def plant_links(world: World) -> None:
    root = world.root
    (root / "out").symlink_to("../secret.txt")
    (root / "out-absolute").symlink_to(world.secret)
    (root / "out-chain").symlink_to("out-absolute")
    (root / "up").symlink_to("..")
    (root / "dangling").symlink_to("../made.txt")
    (root / "round").symlink_to("round")
    (root / "magic").symlink_to("/proc/self/root/etc/passwd")
    (root / "in").symlink_to("notes.txt")
    (root / "in-absolute").symlink_to(root / "notes.txt")
    (root / "in-chain").symlink_to("docs/chain")
    (root / "docs" / "chain").symlink_to("../in-absolute")
    (root / "folder").symlink_to(root / "docs")
    (root.parent / "workspace-sibling").mkdir(exist_ok=True)
    (root.parent / "workspace-sibling" / "x").write_text(SECRET)


OUTSIDE = [
    *(
        "../secret.txt",
        "docs/../../secret.txt",
        "out",
        "out-absolute",
        "out-chain",
        "up/secret.txt",
        "magic",
        "round",
    ),
    *(
        "/etc/passwd",
        "~/.bashrc",
        "/proc/self/environ",
        "{root}/../secret.txt",
        "{root}-sibling/x",
        "up/workspace/../secret.txt",
    ),
    *(
        "../workspace-sibling/x",
        "notes.txt\0.png",
        "notes.txt\n",
        "",
        ".",
        "docs",
        "\ud800",
        "x" * 300,
        "a/" * 3000,
    ),
]


@pytest.mark.parametrize("path", OUTSIDE)
def test_what_is_outside_is_not_read(world: World, path: str) -> None:
    """By any name, and no error shows a part of it or where a link leads."""
    plant_links(world)
    for tool in ("file_read", "file_head", "file_stat", "file_wc"):
        if tool == "file_stat" and path in {".", "docs"}:
            continue  # directories, which it tells about
        said = world.worker.refusal(tool, path=path.format(root=world.root))
        assert SECRET not in said
        assert str(world.secret) not in said or "{root}" in path


@pytest.mark.parametrize(
    "path", ["in", "in-absolute", "in-chain", "folder/../notes.txt", "docs/../notes.txt", "{root}/notes.txt"]
)
def test_links_may_lead_inside(world: World, path: str) -> None:
    """The benign twin: relative, absolute and through a chain."""
    plant_links(world)
    assert world.worker("file_read", path=path.format(root=world.root))["text"].startswith("one two")


WRITES = [
    "../made.txt",
    "dangling",
    "up/made.txt",
    "{root}/../made.txt",
    "/tmp/made.txt",
    "docs/../../made.txt",
    "a\x1b[31m",
    ".",
]


@pytest.mark.parametrize("path", WRITES)
def test_what_is_outside_is_not_written(world: World, path: str) -> None:
    """A link at the name itself is replaced by a file inside, never followed."""
    plant_links(world)
    before = world.outside()
    path = path.format(root=world.root)
    for tool, arguments in (
        ("file_write", {"path": path, "content": "x", "mode": "replace"}),
        ("file_append", {"path": path, "content": "x"}),
        ("file_copy", {"source": "notes.txt", "destination": path, "replace": True}),
        ("file_move", {"source": "old.txt", "destination": path, "replace": True}),
        ("file_delete", {"path": path}),
    ):
        world.worker.answer(tool, arguments)
        assert world.outside() == before
        assert world.secret.read_text() == SECRET


def test_a_link_is_replaced_and_its_target_keeps_its_content(world: World) -> None:
    """As the name of a write, a copy and a delete."""
    plant_links(world)
    world.worker("file_write", path="out", content="mine", mode="replace")
    world.worker("file_copy", source="notes.txt", destination="out-absolute", replace=True)
    world.worker("file_delete", path="up")
    assert (world.root / "out").read_text() == "mine"
    assert not (world.root / "out").is_symlink()
    assert world.secret.read_text() == SECRET


def test_a_hard_link_elsewhere_keeps_its_content(world: World) -> None:
    """The name inside gets a new file."""
    os.link(world.secret, world.root / "hard")
    world.worker("file_write", path="hard", content="mine", mode="replace")
    (world.root / "hard").unlink()
    os.link(world.secret, world.root / "hard")
    world.worker("file_append", path="hard", content="mine")
    assert world.secret.read_text() == SECRET
    assert (world.root / "hard").read_text() == SECRET + "mine"


PROTECTED = [
    *(
        ".git/hooks/pre-commit",
        ".git/config",
        ".GIT/config",
        "docs/.git/config",
        ".bashrc",
        ".env",
        ".env.local",
        ".ssh/config",
    ),
    *(
        ".config/systemd/user/x.service",
        ".vscode/tasks.json",
        ".envrc",
        ".gitmodules",
        "alias/config",
        ".husky/pre-commit",
    ),
]


@pytest.mark.parametrize("path", PROTECTED)
def test_protected_names_are_not_written(world: World, path: str) -> None:
    """Whoever writes them makes others run something; by a link's other name neither."""
    (world.root / "alias").symlink_to(".git")
    for folder in (".config/systemd/user", ".vscode", ".ssh", ".husky", "docs/.git", ".GIT"):
        (world.root / folder).mkdir(parents=True)
    for tool, arguments in (
        ("file_write", {"path": path, "content": "x", "mode": "replace"}),
        ("file_append", {"path": path, "content": "x"}),
        ("file_copy", {"source": "notes.txt", "destination": path, "replace": True}),
        ("file_move", {"source": "notes.txt", "destination": path, "replace": True}),
        ("file_delete", {"path": path}),
    ):
        assert "not written by tools" in world.worker.refusal(tool, **arguments)
    assert "not written by tools" in world.worker.refusal("file_move", source=".git", destination="git")
    assert "not written by tools" in world.worker.refusal("file_delete", path="docs", recursive=True)


def test_names_that_only_look_protected_are_written(world: World) -> None:
    """The benign twin."""
    for path in (".gitignore", "environment.txt", "docs/bashrc", ".github/workflow.yml", "git/config"):
        (world.root / path).parent.mkdir(exist_ok=True)
        world.worker("file_write", path=path, content="x")


def test_keys_are_not_read(world: World) -> None:
    """Where the workspace is a home, by name and through a link; a listing does not show them."""
    (world.root / ".ssh").mkdir()
    (world.root / ".ssh" / "id").write_text(SECRET)
    (world.root / "key").symlink_to(".ssh/id")
    for path in (".ssh/id", "key", ".SSH/../.ssh/id"):
        assert "not read by tools" in world.worker.refusal("file_read", path=path)
    assert SECRET not in str(world.worker("grep_recursive", pattern="secret"))
    assert ".ssh" not in [each["path"] for each in world.worker("file_list")["entries"]]


def test_a_fifo_a_socket_and_a_device_hold_nothing(world: World) -> None:
    """They are refused at once, whoever is at their other end."""
    os.mkfifo(world.root / "fifo")
    with socket.socket(socket.AF_UNIX) as listening:
        folder = Path.cwd()
        os.chdir(world.root)
        listening.bind("socket")
        os.chdir(folder)
        for path, kind in (("fifo", "fifo"), ("socket", "socket")):
            assert kind in world.worker.refusal("file_read", path=path)
            assert kind in world.worker.refusal("file_copy", source=path, destination="copy")
        assert world.worker("grep_recursive", pattern="two")["matches"]
        listed = {each["path"]: each["type"] for each in world.worker("file_list")["entries"]}
        assert (listed["fifo"], listed["socket"], listed["docs"], listed["notes.txt"]) == (
            "fifo",
            "socket",
            "directory",
            "file",
        )


def test_a_huge_file_is_read_in_parts(world: World) -> None:
    """The answer is bounded, and so is the memory: the file has more bytes than a call may have."""
    with (world.root / "huge").open("wb") as file:
        file.truncate(2 << 30)
        file.seek(0)
        file.write(b"begin\n")
        file.seek(0, os.SEEK_END)
        file.write(b"\nend\n")
    read = world.worker("file_read", path="huge", limit=1 << 20)
    assert read["truncated"]
    assert read["total_bytes"] == (2 << 30) + 5
    assert len(read["text"]) <= 64 << 10
    assert "sha256" not in read
    assert world.worker("file_read", path="huge", offset=2 << 30)["text"] == "\nend\n"
    assert "at most" in world.worker.refusal("file_copy", source="huge", destination="copy")
    assert "NUL" in world.worker.refusal("file_tail", path="huge")


def test_lines_are_counted_and_cut(world: World) -> None:
    """From both ends; a binary file is told, and one long line does not fill the answer."""
    text = "".join(f"line {number} ü\n" for number in range(100_000))
    (world.root / "long.txt").write_text(text)
    (world.root / "one.txt").write_text("x" * 100_000)
    (world.root / "binary").write_bytes(b"a\0b")
    assert world.worker("file_head", path="long.txt", lines=2) == {
        "lines": ["line 0 ü", "line 1 ü"],
        "truncated": True,
    }
    assert world.worker("file_tail", path="long.txt", lines=1) == {
        "lines": ["line 99999 ü"],
        "truncated": True,
    }
    assert world.worker("file_head", path="notes.txt") == {
        "lines": ["one two", "three", "four", "five"],
        "truncated": False,
    }
    assert world.worker("file_tail", path="notes.txt", lines=4)["truncated"] is False
    assert len(world.worker("file_head", path="one.txt")["lines"][0]) < 1000
    assert world.worker("file_wc", path="long.txt") == {
        "lines": 100_000,
        "words": 300_000,
        "bytes": len(text.encode()),
        "characters": len(text),
    }
    assert "NUL" in world.worker.refusal("file_head", path="binary")


def test_words_are_counted_across_blocks(world: World) -> None:
    """A word that a block's border cuts is one word."""
    (world.root / "word").write_text("a" * (1 << 20) + "b c" + " " * (1 << 20) + "ü")
    assert world.worker("file_wc", path="word")["words"] == 3


def test_control_characters_stay_within_the_answer(world: World) -> None:
    """Each takes six bytes as JSON."""
    (world.root / "controls").write_bytes(b"\x01" * 100_000)
    read = world.worker("file_read", path="controls")
    assert 0 < read["bytes"] < 12_000
    assert read["truncated"]


def test_a_name_that_is_not_unicode_can_be_listed(world: World) -> None:
    """Its bytes are shown as such."""
    (world.root / os.fsdecode(b"\xff")).touch()
    assert "\\xff" in [each["path"] for each in world.worker("file_list")["entries"]]


def test_a_listing_has_pages(world: World) -> None:
    """Each entry once, in the order of the walk."""
    for number in range(25):
        (world.root / "docs" / f"{number:02}.txt").write_text("x")
    (world.root / "docs" / "01").mkdir()
    (world.root / "docs" / "01" / "deep.txt").write_text("x")
    seen, cursor = list[str](), None
    while True:
        page = world.worker("file_list", path="docs", depth=2, limit=7, cursor=cursor)
        seen += [each["path"] for each in page["entries"]]
        if not (cursor := page["next"]):
            break
    assert len(seen) == len(set(seen)) == 28
    assert "docs/01/deep.txt" in seen
    assert len(world.worker("file_list", path="docs", depth=2, glob="*.txt")["entries"]) == 26


def test_an_existing_file_is_not_replaced_unless_asked(world: World) -> None:
    """Nor one that has changed since it was read."""
    old = hashlib.sha256((world.root / "notes.txt").read_bytes()).hexdigest()
    assert "already" in world.worker.refusal("file_write", path="notes.txt", content="x")
    assert "already" in world.worker.refusal("file_copy", source="old.txt", destination="notes.txt")
    assert "already" in world.worker.refusal("file_move", source="old.txt", destination="notes.txt")
    wrong = {"path": "notes.txt", "content": "x", "mode": "replace", "if_sha256": "0" * 64}
    assert "has changed" in world.worker.refusal("file_write", **wrong)
    written = world.worker("file_write", **{**wrong, "if_sha256": old})
    assert written["before_sha256"] == old
    assert "not empty" in world.worker.refusal("file_delete", path="docs")
    assert "surrogate" in world.worker.refusal("file_write", path="half", content="\ud800")


def test_a_mode_is_kept_and_no_temporary_is_left(world: World) -> None:
    """A write keeps what may execute the file, without set-user-ID."""
    (world.root / "run.sh").write_text("x")
    (world.root / "run.sh").chmod(0o4755)
    world.worker("file_write", path="run.sh", content="y", mode="replace")
    assert (world.root / "run.sh").stat().st_mode & 0o7777 == 0o755
    assert not list(world.root.glob(".epad-*"))


def test_effects_are_told_with_hashes(world: World) -> None:
    """Before and after, by the real path."""
    (world.root / "folder").symlink_to("docs")
    answer = world.worker.answer("file_write", {"path": "folder/new.txt", "content": "x"})
    assert answer["effects"] == [["docs/new.txt", None, hashlib.sha256(b"x").hexdigest()]]
    moved = world.worker.answer(
        "file_move", {"source": "docs/new.txt", "destination": "old.txt", "replace": True}
    )
    hashes = [hashlib.sha256(text).hexdigest() for text in (b"x", b"old\n")]
    assert moved["effects"] == [["docs/new.txt", hashes[0], None], ["old.txt", hashes[1], hashes[0]]]


def snapshot(root: Path) -> dict[str, str]:
    return {
        str(path.relative_to(root)): str(path.readlink())
        if path.is_symlink()
        else path.read_bytes().decode("latin-1")
        if path.is_file()
        else ""
        for path in root.rglob("*")
        if ".git" not in path.parts
    }


@pytest.mark.parametrize(
    ("tool", "arguments"),
    [
        ("file_write", {"path": "notes.txt", "content": "new", "mode": "replace"}),
        ("file_write", {"path": "made.txt", "content": "new"}),
        ("file_append", {"path": "notes.txt", "content": "new"}),
        ("file_copy", {"source": "notes.txt", "destination": "old.txt", "replace": True}),
        ("file_move", {"source": "docs", "destination": "papers"}),
        ("file_move", {"source": "notes.txt", "destination": "old.txt", "replace": True}),
        ("file_delete", {"path": "docs", "recursive": True}),
        ("search_replace", {"pattern": "e", "replacement": "E", "dry_run": False}),
    ],
)
def test_a_change_is_undone_byte_for_byte(world: World, tool: str, arguments: dict[str, object]) -> None:
    """By the name of the call; a second time there is nothing left to undo, and nothing changes."""
    (world.root / "docs" / "link").symlink_to("../notes.txt")
    before = snapshot(world.root)
    turn = f"undo-{tool}-{len(str(arguments))}"
    assert "error" not in world.worker.answer(tool, arguments, turn=turn)
    assert snapshot(world.root) != before
    world.worker.send({"id": 10_000, "undo": turn})
    assert world.worker.receive()["result"]["restored"]
    assert snapshot(world.root) == before


def test_undo_of_an_unknown_call_is_refused(world: World) -> None:
    """Also by a name that would lead out of the store."""
    for turn in ("never", "../workspace", "/etc"):
        world.worker.send({"id": 10_001, "undo": turn})
        assert "no before-images" in world.worker.receive()["error"]


@pytest.mark.parametrize("reads", [150, pytest.param(10_000, marks=pytest.mark.slow, id="a minute")])
def test_a_directory_that_is_swapped_for_a_link_never_leads_outside(world: World, reads: int) -> None:
    """A program swaps them all the time; reads and writes go on. Who opens by name is led outside meanwhile."""
    outside = world.folder / "outside"
    outside.mkdir(exist_ok=True)
    (outside / "notes.txt").write_text(SECRET)
    (world.root / "race").mkdir()
    (world.root / "race" / "notes.txt").write_text("inside")
    swap = (
        "import os, sys\nos.chdir(sys.argv[1])\nos.symlink('../outside', 'link')\n"
        "while True:\n os.rename('race', 'kept'); os.rename('link', 'race')\n"
        " os.rename('race', 'link'); os.rename('kept', 'race')\n"
    )
    with subprocess.Popen([sys.executable, "-c", swap, str(world.root)]) as swapping:
        try:
            answers, naive = [], set[str]()
            for _ in range(reads):
                answers.append(world.worker.answer("file_read", {"path": "race/notes.txt"}))
                with contextlib.suppress(OSError):
                    naive.add((world.root / "race/notes.txt").read_text())
            for number in range(reads // 3):
                world.worker.answer("file_write", {"path": f"race/{number}.txt", "content": "x"})
        finally:
            swapping.kill()
    texts = [answer["result"]["text"] for answer in answers if "result" in answer]
    assert naive == {"inside", SECRET}
    assert set(texts) == {"inside"}
    assert [path.name for path in outside.iterdir()] == ["notes.txt"]


async def test_a_tool_can_be_called_without_a_worker() -> None:
    """The seed's signature: errors are a dict with a hint."""
    answer = await files.file_read({"path": 5})
    assert set(answer) == {"error", "hint"}
    assert PairArgs(source="a", destination="b").replace is False


@pytest.mark.parametrize("character", ["\x1b", "\x7f", "\x9b", "\n"])
def test_names_with_control_characters_are_not_written(world: World, character: str) -> None:
    """Those of eight bits steer a terminal too; other letters beyond ASCII are plain."""
    assert "control characters" in world.worker.refusal("file_write", path=f"a{character}b", content="x")
    world.worker("file_write", path="a\u00fcb", content="x")
