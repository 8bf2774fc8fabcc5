"""Find the parts of a notebook in its text, so that a change leaves every other byte as it is.

A notebook is read as JSON whose members and cells are known by their places in the text. A cell is put in between two
places; what a library would write anew (fields it does not know, the order of keys, the indentation) is not touched.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, NoReturn

from runners.tools.signature import ToolError

_SPACE: Final = re.compile(r"[ \t\r\n]*")
_BLANKS: Final = " \t\r\n"
_BOM: Final = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True)
class Cell:
    """Holds a cell's value, and where it begins and ends in the text."""

    value: Mapping[str, Any]
    begin: int
    end: int

    def source(self) -> str:
        """Return its source, which a notebook has as one text or as lines."""
        return joined(self.value.get("source"))


@dataclass(frozen=True, slots=True)
class Notebook:
    """Holds a notebook's text, its members but for the cells, its cells, and where their list begins and ends."""

    text: str
    mark: bytes
    members: Mapping[str, Any]
    cells: tuple[Cell, ...]
    begin: int
    end: int

    @property
    def has_ids(self) -> bool:
        """Tell if its version gives cells ids: 4.5 and later ones do."""
        minor = self.members.get("nbformat_minor")
        return isinstance(minor, int) and minor >= 5

    def encoded(self, text: str) -> bytes:
        """Return another text with this one's byte order mark, if it has one."""
        return self.mark + text.encode()


def read(data: bytes, path: str) -> Notebook:
    """Return the parts of a notebook of version 4. Raises ToolError for anything else, with the place."""
    mark = _BOM if data.startswith(_BOM) else b""
    try:
        found = _Reader(data[len(mark) :].decode(), mark).notebook()
    except UnicodeDecodeError as error:
        raise ToolError(
            f"{path!r} is not UTF-8 at byte {error.start}", "a notebook is JSON in UTF-8"
        ) from None
    except RecursionError:
        raise ToolError(f"{path!r} is nested too deeply", "a notebook has a few levels only") from None
    except ValueError as error:
        raise ToolError(f"{path!r} is no JSON: {error}", "file_read shows its text") from None
    if (version := found.members.get("nbformat")) != 4 or found.begin == found.end:
        raise ToolError(
            f"{path!r} is no notebook of version 4: its nbformat is {version!r}",
            "convert it: jupyter nbconvert --to notebook",
        )
    for number, cell in enumerate(found.cells):
        if not isinstance(cell.value, dict) or not isinstance(cell.value.get("cell_type"), str):
            raise ToolError(f"cell {number} of {path!r} has no cell_type", "the notebook is damaged")
    return found


def with_cell(notebook: Notebook, at: int, cell: Mapping[str, Any]) -> str:
    """Return the text with one more cell at a place, in the indentation of its neighbours."""
    text, cells = notebook.text, notebook.cells
    if not cells:
        return _with_first(notebook, cell)
    neighbour = cells[min(at, len(cells) - 1)]
    gap = text[len(text[: neighbour.begin].rstrip(_BLANKS)) : neighbour.begin]
    made = rendered(cell, gap.rpartition("\n")[2] if "\n" in gap else None)
    if at < len(cells):
        return text[: neighbour.begin] + made + "," + gap + text[neighbour.begin :]
    return text[: neighbour.end] + "," + gap + made + text[neighbour.end :]


def _with_first(notebook: Notebook, cell: Mapping[str, Any]) -> str:
    text = notebook.text
    line = text[text.rfind("\n", 0, notebook.begin) + 1 : notebook.begin]
    outer = line[: len(line) - len(line.lstrip(_BLANKS))]
    inner = f"\n{outer}{outer}{rendered(cell, outer + outer)}\n{outer}" if outer else rendered(cell, None)
    return text[: notebook.begin] + "[" + inner + "]" + text[notebook.end :]


def rendered(value: Mapping[str, Any], indent: str | None) -> str:
    """Return JSON as Jupyter writes it, in an indentation (one of two levels); None: on one line."""
    if indent is None:
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    unit = indent[: max(1, len(indent) // 2)]
    return json.dumps(value, ensure_ascii=False, indent=unit).replace("\n", "\n" + indent)


def joined(text: object) -> str:
    """Return a text that may be there as a list of lines; anything else is empty."""
    if isinstance(text, list):
        text = "".join(line for line in text if isinstance(line, str))
    # Half a character, which JSON can hold and UTF-8 cannot, is shown as its escape.
    return text.encode(errors="backslashreplace").decode() if isinstance(text, str) else ""


class _Reader:
    """Reads a notebook's outermost two levels by their places, and what is in them by the standard library."""

    def __init__(self, text: str, mark: bytes) -> None:
        self._text = text
        self._mark = mark
        self._value = json.JSONDecoder(parse_constant=_no_number).raw_decode

    def notebook(self) -> Notebook:
        """Read all of it. Raises ValueError, RecursionError."""
        members: dict[str, Any] = {}
        cells: list[Cell] = []
        begin = end = 0
        at = self._after("{", 0)
        while self._text[at : at + 1] != "}":
            key, at = self._value(self._text, at)
            if not isinstance(key, str) or key in members or (key == "cells" and end):
                raise ValueError(
                    f"the member {str(key)[:40]!r} before character {at} is none, or there twice"
                )
            at = self._after(":", at)
            if key == "cells":
                begin = at
                cells, end = self._cells(at)
                at = end
            else:
                members[key], at = self._value(self._text, at)
            at = self._next(at, "}")
        if self._skip(at + 1) < len(self._text):
            raise ValueError(f"there is more behind its end, at character {at + 1}")
        return Notebook(self._text, self._mark, members, tuple(cells), begin, end)

    def _cells(self, at: int) -> tuple[list[Cell], int]:
        cells: list[Cell] = []
        at = self._after("[", at)
        while self._text[at : at + 1] != "]":
            value, end = self._value(self._text, at)
            cells.append(Cell(value, at, end))
            at = self._next(end, "]")
        return cells, at + 1

    def _skip(self, at: int) -> int:
        found = _SPACE.match(self._text, at)
        return found.end() if found else at

    def _after(self, sign: str, at: int) -> int:
        at = self._skip(at)
        if self._text[at : at + 1] != sign:
            raise ValueError(f"there is no {sign} at character {at}")
        return self._skip(at + 1)

    def _next(self, at: int, last: str) -> int:
        """Return the place of the next element, or of the sign that ends them."""
        at = self._skip(at)
        if self._text[at : at + 1] == last:
            return at
        at = self._after(",", at)
        if self._text[at : at + 1] == last:
            raise ValueError(f"there is a comma before the {last} at character {at}")
        return at


def _no_number(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")
