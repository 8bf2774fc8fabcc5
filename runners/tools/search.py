"""Tools of the category `search`: find lines, names and symbols in the workspace, and replace a pattern.

A search does not follow links, and leaves out `.git` and directories of caches; files that are binary, very large or
unreadable are counted as skipped. `symbol_search.py` has the tools that know Python.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Annotated, Any, Final

import msgspec
from msgspec import UNSET, Meta, UnsetType

from runners.tools import (
    beneath,
    differences,
    file_changes,
    files,
    output,
    patterns,
    protected,
    regexes,
    symbol_search,
    walk,
)
from runners.tools.searched import Skipped, base_of, chosen
from runners.tools.signature import Args, PathArg, Result, ToolError, meta


class Line(msgspec.Struct, frozen=True, omit_defaults=True):
    """Describes one line that matches, with the lines around it where they are wanted."""

    path: str
    line: int
    text: str
    before: list[str] = []
    after: list[str] = []


class GrepArgs(Args, frozen=True):
    """Holds a pattern, and the files to look into."""

    pattern: str
    path: PathArg = "."
    glob: str | None = None
    context: Annotated[int, Meta(ge=0, le=10)] = 0
    limit: Annotated[int, Meta(ge=1, le=1000)] = 200
    ignore_case: bool = False


class GrepResult(Result, frozen=True):
    """Holds lines, and the number of files that were searched."""

    matches: list[Line]
    files: int
    truncated: bool
    skipped: int


GREP_RECURSIVE: Final = meta(
    "grep_recursive",
    GrepArgs,
    GrepResult,
    risk="R1",
    timeout=20,
    description="Search for a regex pattern across files in a directory tree.",
    examples=({"pattern": "def .*help", "path": "src", "glob": "*.py"}, {"pattern": "two", "context": 1}),
)


@GREP_RECURSIVE.tool
async def grep_recursive(args: GrepArgs) -> GrepResult:
    """Search line by line, in the order of a walk."""
    expression = regexes.compiled(args.pattern, "i" if args.ignore_case else "")
    counted = Skipped()
    lines = _matching(expression, args, counted)
    matches, cut = output.cut_items(lines, args.limit)
    return GrepResult(matches=matches, files=counted.searched, truncated=cut, skipped=counted.skipped)


def _matching(expression: Any, args: GrepArgs, counted: Skipped) -> Iterator[Line]:
    for found in chosen(args.path, args.glob):
        if (data := counted.read(found)) is None:
            continue
        lines = data.decode("utf-8", errors="replace").splitlines()
        for at, line in enumerate(lines):
            if expression.search(line):
                before = [output.cut_line(each) for each in lines[max(0, at - args.context) : at]]
                after = [output.cut_line(each) for each in lines[at + 1 : at + 1 + args.context]]
                yield Line(files.shown(found.path), at + 1, output.cut_line(line), before, after)


class GlobArgs(Args, frozen=True):
    """Holds a glob pattern."""

    pattern: Annotated[str, Meta(min_length=1, max_length=1000)]
    path: PathArg = "."
    limit: Annotated[int, Meta(ge=1, le=5000)] = 500


class GlobResult(Result, frozen=True):
    """Holds paths."""

    paths: list[str]
    truncated: bool


GLOB: Final = meta(
    "glob",
    GlobArgs,
    GlobResult,
    risk="R1",
    timeout=20,
    description="Find files and directories by a glob pattern; ** stands for any directories.",
    examples=({"pattern": "**/*.py"}, {"pattern": "*.txt"}),
)


@GLOB.tool
async def glob(args: GlobArgs) -> GlobResult:
    """Match each entry of a walk."""
    wanted, base = patterns.matcher(args.pattern), base_of(args.path)
    entries = walk.entries(args.path, enter=_enters)
    paths = (files.shown(each.path) for each in entries if wanted(each.path.removeprefix(base)))
    kept, cut = output.cut_items(paths, args.limit)
    return GlobResult(paths=kept, truncated=cut)


def _enters(found: walk.Found) -> bool:
    return found.name not in walk.SKIPPED_NAMES


class FoundFile(msgspec.Struct, frozen=True):
    """Describes one file."""

    path: str
    bytes: int
    mtime: str


class FindArgs(Args, frozen=True):
    """Holds the conditions; `newer_than` is a date or a time in ISO form."""

    path: PathArg = "."
    name: str | None = None
    min_bytes: Annotated[int, Meta(ge=0)] | None = None
    max_bytes: Annotated[int, Meta(ge=0)] | None = None
    newer_than: str | None = None
    limit: Annotated[int, Meta(ge=1, le=5000)] = 500


class FindResult(Result, frozen=True):
    """Holds files."""

    files: list[FoundFile]
    truncated: bool


FIND_FILES: Final = meta(
    "find_files",
    FindArgs,
    FindResult,
    risk="R1",
    timeout=20,
    description="Find files by name pattern, size in bytes and time (ISO) of the last change.",
    examples=({"name": "*.txt", "max_bytes": 1000}, {"newer_than": "2020-01-01"}),
)


@FIND_FILES.tool
async def find_files(args: FindArgs) -> FindResult:
    """Test each file of a walk."""
    wanted = _condition(args)
    found = (each for each in walk.files(args.path) if wanted(each))
    described = (FoundFile(files.shown(e.path), e.status.st_size, files.time_of(e.status)) for e in found)
    kept, cut = output.cut_items(described, args.limit)
    return FindResult(files=kept, truncated=cut)


def _condition(args: FindArgs) -> Callable[[walk.Found], bool]:
    named = patterns.matcher(args.name) if args.name else _anything
    newer = _seconds(args.newer_than) if args.newer_than else float("-inf")
    low, high = args.min_bytes or 0, float("inf") if args.max_bytes is None else args.max_bytes
    return lambda each: (
        named(each.path) and low <= each.status.st_size <= high and each.status.st_mtime > newer
    )


def _anything(_: str) -> bool:
    return True


def _seconds(text: str) -> float:
    try:
        when = datetime.fromisoformat(text)
    except ValueError:
        raise ToolError(f"{text!r} is not a time", "as in 2026-11-30 or 2026-11-30T12:00:00Z") from None
    return (when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp()


class Replaced(msgspec.Struct, frozen=True):
    """Describes the change of one file."""

    path: str
    count: int
    diff: str


class ReplaceArgs(Args, frozen=True):
    """Holds a pattern and its replacement; a dry run only shows what would change."""

    pattern: Annotated[str, Meta(min_length=1)]
    replacement: str
    path: PathArg = "."
    glob: str | None = None
    dry_run: bool = True
    limit: Annotated[int, Meta(ge=1, le=1000)] = 100


class ReplaceResult(Result, frozen=True):
    """Holds the changes of files."""

    files: list[Replaced]
    truncated: bool
    skipped: int
    undo: str | UnsetType = UNSET


SEARCH_REPLACE: Final = meta(
    "search_replace",
    ReplaceArgs,
    ReplaceResult,
    risk="W1",
    timeout=60,
    description="Replace text by regex across files. A dry run (the default) only shows diffs.",
    examples=(
        {"pattern": "helper", "replacement": "assist", "glob": "**/*.py"},
        {"pattern": r"(\w+) two", "replacement": r"two \1", "dry_run": False},
    ),
)


@SEARCH_REPLACE.tool
async def search_replace(args: ReplaceArgs) -> ReplaceResult:
    """Read all files first, so that a wrong replacement changes none."""
    expression, counted = regexes.compiled(args.pattern, "m"), Skipped()
    plans: list[tuple[str, str, str, int]] = []
    cut = False
    for path, old in _texts(args, counted):
        new, count = regexes.replaced(expression, args.replacement, old)
        if count and new != old:
            if cut := len(plans) >= args.limit:
                break
            plans.append((path, old, new, count))
    undo = None if args.dry_run else _apply(plans)
    shares = max(200, output.room() // max(1, len(plans)) - 200)
    told = [
        Replaced(path, count, output.cut_text(differences.unified(old, new, (path, path))[0], shares)[0])
        for path, old, new, count in plans
    ]
    kept, more = output.cut_items(told, args.limit)
    return ReplaceResult(files=kept, truncated=cut or more, skipped=counted.skipped, undo=undo or UNSET)


def _texts(args: ReplaceArgs, counted: Skipped) -> Iterator[tuple[str, str]]:
    for found in chosen(args.path, args.glob):
        data = None if protected.never_written(found.path) else counted.read(found)
        if data is None:
            continue
        try:
            yield found.path, data.decode()
        except UnicodeDecodeError:
            counted.skipped += 1


def _apply(plans: list[tuple[str, str, str, int]]) -> str | None:
    undo: str | None = None
    for path, old, new, _ in plans:
        before = beneath.hash_at(path)
        if before != beneath.hash_bytes(old.encode()):
            raise ToolError(
                f"{path!r} has changed meanwhile", "the files before it are changed; search again"
            )
        changed = file_changes.put(path, new.encode(), may_exist=True, before=before)
        undo = changed.undo or undo
    return undo


find_references, find_symbol = symbol_search.find_references, symbol_search.find_symbol
TOOLS: Final[tuple[Any, ...]] = (FIND_FILES, GLOB, GREP_RECURSIVE, SEARCH_REPLACE, *symbol_search.TOOLS)
