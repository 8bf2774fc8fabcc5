"""Tools of search, in trees with links, caches, binary and hostile files; each has a twin that is found."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tool_process import SECRET, World

from runners.tools import patterns, symbols
from runners.tools.signature import ToolError


def test_a_search_does_not_follow_links(world: World) -> None:
    """Neither out nor round in a circle; the same file inside is found once."""
    (world.root / "out").symlink_to("..")
    (world.root / "docs" / "round").symlink_to("..")
    for tool, arguments in (
        ("grep_recursive", {"pattern": "secret|Index"}),
        ("find_files", {"name": "*.txt"}),
        ("glob", {"pattern": "**/*.txt"}),
    ):
        found = str(world.worker(tool, **arguments))
        assert "secret.txt" not in found
        assert SECRET not in found
    assert [each["path"] for each in world.worker("grep_recursive", pattern="Index")["matches"]] == [
        "docs/index.md"
    ]
    for tool in ("grep_recursive", "glob"):
        world.worker.refusal(tool, pattern="x", path="out")


def test_binary_large_and_special_files_are_skipped(world: World) -> None:
    """And counted; caches and `.git` are not looked into."""
    (world.root / "binary").write_bytes(b"needle\0")
    with (world.root / "large").open("wb") as file:
        file.truncate(17 << 20)
    os.mkfifo(world.root / "fifo")
    (world.root / "node_modules").mkdir()
    (world.root / "node_modules" / "x.js").write_text("needle\n")
    (world.root / "docs" / "needle.md").write_text("a needle\n")
    found = world.worker("grep_recursive", pattern="needle")
    assert [each["path"] for each in found["matches"]] == ["docs/needle.md"]
    assert found["skipped"] == 5  # with the archives and the database of the workspace


def test_a_long_line_and_many_matches_are_cut(world: World) -> None:
    """The answer stays within its bounds."""
    (world.root / "many.txt").write_text(f"needle {'x' * 10_000}\n" * 1000)
    found = world.worker("grep_recursive", pattern="needle", limit=1000)
    assert found["truncated"]
    assert all(len(each["text"]) <= 501 for each in found["matches"])
    assert world.worker("grep_recursive", pattern="needle", limit=2)["truncated"]


def test_a_pattern_that_hangs_is_killed(world: World) -> None:
    """The files beside it can be searched at once."""
    (world.root / "trap.txt").write_text("a" * 60 + "b\n")
    answer = world.worker.answer("grep_recursive", {"pattern": r"(?!y)(a+)+$"}, timeout=1)
    assert answer["ended"] == "timeout"
    assert world.worker("grep_recursive", pattern="(a+)+$", path="trap.txt")["matches"] == []


def test_lines_have_their_context(world: World) -> None:
    """By glob, case and lines around."""
    found = world.worker("grep_recursive", pattern="THREE", ignore_case=True, context=1, glob="*.txt")[
        "matches"
    ]
    assert found == [
        {"path": "notes.txt", "line": 2, "text": "three", "before": ["one two"], "after": ["four"]}
    ]


def test_files_are_found_by_size_and_time(world: World) -> None:
    """A wrong time is told."""
    os.utime(world.root / "old.txt", (1, 1))
    named = world.worker("find_files", name="*.txt", newer_than="2020-01-01T00:00:00Z")["files"]
    assert "old.txt" not in [each["path"] for each in named]
    assert [each["path"] for each in world.worker("find_files", min_bytes=0, max_bytes=4)["files"]] == [
        "build/x.o",
        "old.txt",
    ]
    assert "not a time" in world.worker.refusal("find_files", newer_than="yesterday")


def test_symbols_are_found_in_sources_that_can_be_read(world: World) -> None:
    """A file that is nested too deeply, has a NUL or is no Python is skipped."""
    (world.root / "deep.py").write_text("(" * 100_000)
    (world.root / "nul.py").write_bytes(b"x = 1\n# " + b"y" * 9000 + b"\0")
    (world.root / "wrong.py").write_text("def (:\n")
    (world.root / "escape.py").write_text("x = '\\d'\ndef helper(a, *, b: int = 1) -> str:\n    return a\n")
    found = world.worker("find_symbol", name="helper")
    assert [each["signature"] for each in found["symbols"]] == [
        "def helper(a, *, b: int=1) -> str",
        "def helper()",
    ]
    assert found["skipped"] == 3
    uses = world.worker("find_references", name="os")["references"]
    assert [each["line"] for each in uses] == [1, 10]


def test_kinds_of_symbols() -> None:
    """Classes, methods, functions and variables, below `if` and `try` too."""
    source = b"if True:\n  A, B = 1, 2\nclass C(X):\n  d: int = 1\n  async def e(self): \n    f = 1\ndef g(): pass\n"
    tree = symbols.parse(source)
    assert tree
    found = [(each.kind, each.name) for each in symbols.definitions(tree, "x.py")]
    assert found == [
        ("variable", "A"),
        ("variable", "B"),
        ("class", "C"),
        ("variable", "d"),
        ("method", "e"),
        ("function", "g"),
    ]


def test_a_replacement_changes_only_what_it_may(world: World) -> None:
    """A dry run changes nothing; protected and binary files are left alone; line ends stay."""
    (world.root / "dos.txt").write_bytes(b"one two\r\nthree\r\n")
    (world.root / ".env").write_text("one two\n")
    (world.root / "latin").write_bytes(b"one two \xe9")
    dry = world.worker("search_replace", pattern="one two", replacement="1 2", glob="*")
    assert [each["path"] for each in dry["files"]] == ["dos.txt", "notes.txt"]
    assert (world.root / "dos.txt").read_bytes() == b"one two\r\nthree\r\n"
    world.worker("search_replace", pattern="one two", replacement="1 2", dry_run=False)
    assert (world.root / "dos.txt").read_bytes() == b"1 2\r\nthree\r\n"
    assert (world.root / ".env").read_text() == "one two\n"
    assert (world.root / "latin").read_bytes() == b"one two \xe9"
    assert "replacement is wrong" in world.worker.refusal(
        "search_replace", pattern="1", replacement=r"\7", dry_run=False
    )


@pytest.mark.parametrize(
    ("pattern", "path", "matches"),
    [
        ("*.py", "a/b/c.py", True),
        ("**/*.py", "c.py", True),
        ("**/*.py", "a/b/c.py", True),
        ("a/**/c.py", "a/c.py", True),
        ("a/*/c.py", "a/b/d/c.py", False),
        ("a/**", "a/b/c", True),
        ("[ab].txt", "b.txt", True),
        ("a/?.txt", "a/xy.txt", False),
        ("**", "a/b", True),
    ],
)
def test_glob_patterns(pattern: str, path: str, matches: bool) -> None:
    """A star stays within a name, two stars go through directories."""
    assert patterns.matcher(pattern)(path) is matches


def test_a_glob_of_many_stars_ends() -> None:
    """A naive matcher would try every way."""
    assert not patterns.matcher("/".join(["**", "a"] * 30))("/".join(["a"] * 500) + "/b")
    assert not patterns.matcher("*a" * 500 + "b")("a" * 3000)
    for wrong in ("", "/", "a\0", "/".join("a" * 65)):
        with pytest.raises(ToolError):
            patterns.matcher(wrong)


@given(st.text(alphabet="ab*?/[]!", max_size=20), st.text(alphabet="ab/", max_size=20))
def test_any_pattern_is_answered_or_refused(pattern: str, path: str) -> None:
    """Never with another error."""
    try:
        assert patterns.matcher(pattern)(path) in {True, False}
    except ToolError:
        assert not pattern.strip("/")


def test_the_walk_ends_at_its_bounds(world: World) -> None:
    """In a directory that is deeper than it goes."""
    deep = world.root / "deep"
    for _ in range(80):
        deep /= "d"
    deep.mkdir(parents=True)
    (deep / "needle.txt").write_text("x")
    assert world.worker("glob", pattern="needle.txt")["paths"] == []
    assert Path("deep/d/d") in {Path(path) for path in world.worker("glob", pattern="deep/d/d")["paths"]}
