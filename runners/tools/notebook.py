"""Tools of the category `notebook`: read and write notebooks of Jupyter's version 4, without running any."""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from runners.tools import beneath, file_changes, notebook_text, output
from runners.tools.notebook_text import Cell, joined
from runners.tools.signature import Args, PathArg, Result, ToolError, meta

CellType = Literal["code", "markdown", "raw"]
_MOST_BYTES: Final = 32 << 20
_MOST_CELLS: Final = 5000
_OUTPUT_CHARACTERS: Final = 2000
_SHOWN: Final = ("text/markdown", "text/latex", "text/plain")
_ESCAPES: Final = re.compile(
    r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-_])|[\x00-\x08\x0b-\x1f\x7f]"
)


class ReadArgs(Args, frozen=True):
    """Names a notebook and the cells that are wanted."""

    path: PathArg
    outputs: bool = False
    first: Annotated[int, Meta(ge=0)] = 0
    limit: Annotated[int, Meta(ge=1, le=1000)] = 200


class ShownCell(msgspec.Struct, frozen=True):
    """Describes one cell. `cut` tells that its source or its outputs are longer."""

    number: int
    type: str
    source: str
    id: str | UnsetType = UNSET
    outputs: list[str] | UnsetType = UNSET
    cut: bool | UnsetType = UNSET


class ReadResult(Result, frozen=True):
    """Holds cells; `next` is the number of the first one that is left out."""

    cells: list[ShownCell]
    total: int
    next: int | None


NOTEBOOK_READ: Final = meta(
    "notebook_read",
    ReadArgs,
    ReadResult,
    risk="R1",
    timeout=20,
    description="Read the cells of a Jupyter notebook, with their outputs as text. Images are only named.",
    examples=({"path": "study.ipynb"}, {"path": "study.ipynb", "outputs": True, "first": 1, "limit": 1}),
)


@NOTEBOOK_READ.tool
async def notebook_read(args: ReadArgs) -> ReadResult:
    """Read cells as far as there is room; each is cut so that one always fits."""
    notebook = notebook_text.read(beneath.read_whole(args.path, _MOST_BYTES), args.path)
    wanted = range(args.first, min(len(notebook.cells), args.first + args.limit))
    shown = (_shown(number, notebook.cells[number], outputs=args.outputs) for number in wanted)
    kept, cut = output.cut_items(shown, args.limit)
    following = args.first + len(kept)
    more = cut or following < len(notebook.cells)
    return ReadResult(cells=kept, total=len(notebook.cells), next=following if more else None)


def _shown(number: int, cell: Cell, *, outputs: bool) -> ShownCell:
    source, cut = output.cut_text(cell.source(), output.room() // 2)
    said: list[str] = []
    if outputs and isinstance(given := cell.value.get("outputs"), list):
        whole = [line for each in given if isinstance(each, dict) for line in _said(each)]
        said = [
            each if len(each) <= _OUTPUT_CHARACTERS else each[:_OUTPUT_CHARACTERS] + "…" for each in whole
        ]
        kept, left_out = output.cut_items(said, 100, output.room() // 3)
        cut = cut or left_out or said != whole
        said = kept
    return ShownCell(
        number=number,
        type=joined(cell.value["cell_type"])[:50],
        source=source,
        id=joined(cell.value.get("id"))[:64] or UNSET,
        outputs=said or UNSET,
        cut=cut or UNSET,
    )


def _said(given: Mapping[str, Any]) -> Iterator[str]:
    """Yield the texts of one output: of several forms of the same thing the plainest, the others by their size."""
    if given.get("output_type") == "error":
        name, value = joined(given.get("ename")), joined(given.get("evalue"))
        yield _plain(f"{name}: {value}\n" + joined(given.get("traceback")))
        return
    if text := joined(given.get("text")):
        yield _plain(text)
    data = given.get("data")
    forms: Mapping[str, Any] = data if isinstance(data, dict) else {}
    best = next((form for form in _SHOWN if forms.get(form)), None)
    if best is not None:
        yield _plain(joined(forms[best]))
    for form, value in forms.items():
        if form not in _SHOWN:
            yield f"[{joined(form)[:80]}: {output.json_bytes(_sized(value))} bytes, left out]"


def _sized(value: object) -> object:
    return joined(value) if isinstance(value, str | list) else str(value)


def _plain(text: str) -> str:
    """Return a text without the escapes that colour a terminal, or move in it."""
    return _ESCAPES.sub("", text)


class NewCell(msgspec.Struct, frozen=True):
    """Holds a cell to be made."""

    source: str
    type: CellType = "code"


class CreateArgs(Args, frozen=True):
    """Names a notebook to be made, and its cells."""

    path: PathArg
    cells: Annotated[list[NewCell], Meta(max_length=1000)]


class CreateResult(Result, frozen=True):
    """Tells where the notebook is."""

    path: str
    undo: str | UnsetType = UNSET


NOTEBOOK_CREATE: Final = meta(
    "notebook_create",
    CreateArgs,
    CreateResult,
    risk="W1",
    timeout=20,
    description="Create a Jupyter notebook from cells. An existing file is refused.",
    examples=(
        {"path": "new.ipynb", "cells": [{"type": "markdown", "source": "# Study"}, {"source": "print(1)\n"}]},
    ),
)


@NOTEBOOK_CREATE.tool
async def notebook_create(args: CreateArgs) -> CreateResult:
    """Write a notebook of version 4.5 for Python 3, as Jupyter would."""
    if not args.path.endswith(".ipynb"):
        raise ToolError(f"{args.path!r} is no name of a notebook", "it ends in .ipynb")
    names = _new_ids(len(args.cells), set())
    made = {
        "cells": [_made(cell.type, cell.source, name) for name, cell in zip(names, args.cells, strict=True)],
        "metadata": {
            "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
            "language_info": {"name": "python"},
        },
        "nbformat": 4,
        "nbformat_minor": 5,
    }
    text = msgspec.json.format(msgspec.json.encode(made), indent=1) + b"\n"
    changed = file_changes.put(args.path, text, may_exist=False, before=None)
    return CreateResult(path=args.path, undo=changed.undo)


class AddArgs(Args, frozen=True):
    """Names a notebook, and the cell to be put in before the cell of the number `at`; by default behind the last."""

    path: PathArg
    source: str
    type: CellType = "code"
    at: Annotated[int, Meta(ge=0)] | None = None


class AddResult(Result, frozen=True):
    """Tells the number of cells, and the id of the new one."""

    cells: int
    id: str | UnsetType = UNSET
    undo: str | UnsetType = UNSET


NOTEBOOK_ADD_CELL: Final = meta(
    "notebook_add_cell",
    AddArgs,
    AddResult,
    risk="W1",
    timeout=20,
    description="Add a cell to a Jupyter notebook, before the cell number `at` or at the end.",
    examples=(
        {"path": "study.ipynb", "source": "print(2)"},
        {"path": "study.ipynb", "source": "# A", "at": 0},
    ),
)


@NOTEBOOK_ADD_CELL.tool
async def notebook_add_cell(args: AddArgs) -> AddResult:
    """Put a cell's text between two others, so that every other byte stays."""
    data = beneath.read_whole(args.path, _MOST_BYTES)
    notebook = notebook_text.read(data, args.path)
    at = len(notebook.cells) if args.at is None else args.at
    if at > len(notebook.cells) or len(notebook.cells) >= _MOST_CELLS:
        raise ToolError(
            f"{args.path!r} has {len(notebook.cells)} cells, so none is put in at {at}",
            f"`at` goes from 0 to their number, and there are at most {_MOST_CELLS}",
        )
    taken = {joined(cell.value.get("id")) for cell in notebook.cells}
    name = _new_ids(1, taken)[0] if notebook.has_ids else None
    text = notebook_text.with_cell(notebook, at, _made(args.type, args.source, name))
    before = beneath.hash_bytes(data)
    if beneath.hash_at(args.path) != before:
        raise ToolError(
            f"{args.path!r} has changed meanwhile, or is a link", "try again, or name the file itself"
        )
    changed = file_changes.put(args.path, notebook.encoded(text), may_exist=True, before=before)
    return AddResult(cells=len(notebook.cells) + 1, id=name or UNSET, undo=changed.undo)


def _new_ids(count: int, taken: set[str]) -> list[str]:
    made = dict[str, None]()
    while len(made) < count:
        if (name := secrets.token_hex(4)) not in taken:
            made[name] = None
    return list(made)


def _made(kind: CellType, source: str, name: str | None) -> dict[str, Any]:
    """Return a cell as Jupyter writes it: keys in order, the source by lines."""
    file_changes.encoded(source)
    code: dict[str, Any] = {"execution_count": None, "outputs": []} if kind == "code" else {}
    cell = {"cell_type": kind, "metadata": {}, "source": source.splitlines(keepends=True), **code}
    return dict(sorted({**cell, "id": name}.items() if name else cell.items()))


TOOLS: Final = (NOTEBOOK_ADD_CELL, NOTEBOOK_CREATE, NOTEBOOK_READ)
