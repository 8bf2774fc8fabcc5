"""Tools of the category `code` that ruff does: lint and format, without any configuration of the workspace.

The files are chosen here and named to it one by one, so that no setting or link of the workspace chooses others. A file
that makes ruff fall over is found by halves and told, and the others are linted all the same.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import Annotated, Final

import msgspec
from msgspec import UNSET, Meta, UnsetType

from runners.tools import beneath, differences, file_changes, files, output, program_paths, programs
from runners.tools.python_source import MOST_BYTES, Skipped, named
from runners.tools.signature import END, Args, PathArg, Result, ToolError, meta

_RUFF: Final = program_paths.find("ruff")
_ENVIRONMENT: Final = {"LC_ALL": "C.UTF-8", "HOME": "/nonexistent", "RAYON_NUM_THREADS": "2", "NO_COLOR": "1"}
_ALWAYS: Final = ("--isolated", "--no-cache")
_MOST_BYTES: Final = 4 << 20
_AT_ONCE: Final = 500
_NEWEST: Final = "py314"


class LintArgs(Args, frozen=True):
    """Names files, and the rules that are wanted, as in E,F,B."""

    path: PathArg = "."
    select: Annotated[str, Meta(pattern="^[A-Z0-9,]{1,200}" + END)] | None = None


class Finding(msgspec.Struct, frozen=True):
    """Describes one finding."""

    path: str
    line: int
    rule: str
    text: str


class LintResult(Result, frozen=True):
    """Holds findings, and the files that could not be linted."""

    findings: list[Finding]
    truncated: bool
    skipped: list[str]


CODE_LINT: Final = meta(
    "code_lint",
    LintArgs,
    LintResult,
    risk="R1",
    timeout=60,
    description="Lint Python files with ruff, by its default rules or selected ones (E,F,B).",
    examples=({"path": "src"}, {"path": "src/app.py", "select": "F"}),
)


@CODE_LINT.tool
async def code_lint(args: LintArgs) -> LintResult:
    """Lint the files in lots."""
    skipped = Skipped()
    paths = list(_small(args.path, skipped))
    options = ["--output-format=json-lines", f"--target-version={_NEWEST}"]
    options += [f"--select={args.select}"] if args.select else []
    lots = (paths[at : at + _AT_ONCE] for at in range(0, len(paths), _AT_ONCE))
    found = (each for lot in lots for each in _linted(lot, options, skipped))
    kept, cut = output.cut_items(found, 1000)
    return LintResult(findings=kept, truncated=cut, skipped=skipped.told)


def _small(path: str, skipped: Skipped) -> Iterator[str]:
    for found in named(path):
        if found.status.st_size > MOST_BYTES:
            skipped.add(found.path, f"it has over {MOST_BYTES} bytes")
        else:
            yield found.path


def _linted(paths: Sequence[str], options: Sequence[str], skipped: Skipped) -> Iterator[Finding]:
    """Yield the findings of some files; if ruff falls over, of each half of them."""
    status, out, err = _ruff("check", *options, "--", *(f"./{path}" for path in paths))
    if status < 0 and status != -9 and len(out) <= _MOST_BYTES:
        if len(paths) == 1:
            skipped.add(paths[0], "ruff cannot take it: it is nested too deeply")
            return
        middle = len(paths) // 2
        for half in (paths[:middle], paths[middle:]):
            yield from _linted(half, options, skipped)
        return
    if status not in {0, 1, -9}:
        raise _failed("check", status, err)
    base = os.readlink(f"/proc/self/fd/{beneath.root()}").rstrip("/") + "/"
    for line in out.split(b"\n"):
        if finding := _finding(line, base):
            yield finding


class _Place(msgspec.Struct):
    row: int = 0


class _Told(msgspec.Struct):
    """A finding as ruff prints it."""

    filename: str
    message: str
    code: str | None = None
    location: _Place | None = None


def _finding(line: bytes, base: str) -> Finding | None:
    try:
        told = msgspec.json.decode(line, type=_Told)
    except msgspec.MsgspecError:
        return None  # the last line, cut, or an empty one
    path = files.shown(told.filename.removeprefix(base))
    return Finding(
        path,
        told.location.row if told.location else 0,
        told.code or "syntax",
        output.cut_line(told.message),
    )


class FormatArgs(Args, frozen=True):
    """Names a Python file; with `check` it is not written."""

    path: PathArg
    check: bool = True


class FormatResult(Result, frozen=True):
    """Tells if the format differs, and how."""

    changed: bool
    diff: str
    truncated: bool
    undo: str | UnsetType = UNSET


CODE_FORMAT: Final = meta(
    "code_format",
    FormatArgs,
    FormatResult,
    risk="W1",
    timeout=30,
    description="Format a Python file with ruff; check=true only shows the diff.",
    examples=({"path": "src/app.py"}, {"path": "src/app.py", "check": False}),
)


@CODE_FORMAT.tool
async def code_format(args: FormatArgs) -> FormatResult:
    """Format by standard input and output, and write as every other tool does."""
    data = beneath.read_whole(args.path, MOST_BYTES)
    status, out, err = _ruff(
        "format", f"--target-version={_NEWEST}", f"--stdin-filename={_name(args.path)}", "-", text=data
    )
    if status:
        raise _failed("format", status, err)
    if len(out) > _MOST_BYTES:
        raise ToolError(f"{args.path!r} would have over {_MOST_BYTES} bytes", "format a smaller file")
    old, new = data.decode("utf-8", errors="replace"), out.decode("utf-8", errors="replace")
    diff, cut = output.cut_text(differences.unified(old, new)[0])
    undo: str | UnsetType = UNSET
    if not args.check and out != data:
        before = beneath.hash_bytes(data)
        if beneath.hash_at(args.path) != before:
            raise ToolError(
                f"{args.path!r} has changed meanwhile, or is a link", "try again, or name the file itself"
            )
        undo = file_changes.put(args.path, out, may_exist=True, before=before).undo
    return FormatResult(changed=out != data, diff=diff, truncated=cut, undo=undo)


def _name(path: str) -> str:
    """Return a name that tells ruff the kind of a file, and nothing of its place."""
    return "stub.pyi" if path.endswith(".pyi") else "file.py"


def _ruff(command: str, *arguments: str, text: bytes | None = None) -> tuple[int, bytes, bytes]:
    if not _RUFF:
        raise ToolError("ruff is not installed", "pip install 'epad[code]'")
    try:
        return programs.run(
            (_RUFF, command, *_ALWAYS, *arguments), beneath.root(), _ENVIRONMENT, text, _MOST_BYTES
        )
    except OSError as error:
        raise ToolError(f"ruff cannot be run: {error.strerror}", "pip install 'epad[code]'") from None


def _failed(command: str, status: int, errors: bytes) -> ToolError:
    said = errors.decode(errors="replace").strip()[-400:]
    why = "the file is nested too deeply" if status < 0 else said or f"status {status}"
    return ToolError(f"ruff {command} failed: {why}", "code_outline tells the line of a syntax error")


TOOLS: Final = (CODE_FORMAT, CODE_LINT)
