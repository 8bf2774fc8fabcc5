"""Which functions each test runs, so that a mutant meets first the tests that can find it."""

from __future__ import annotations

import ast
import sys
import threading
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from types import FrameType

Function = tuple[str, int]
"""A function of the project: its file, as mutants name it, and the line that it begins on, decorators included."""


class Calls:
    """Notes which functions of some files are called."""

    def __init__(self, paths: Iterable[str]) -> None:
        self._names = {str(Path(path).absolute()): path for path in paths}
        self._called: set[Function] = set()

    def begin(self) -> set[Function]:
        """Begin to note; return what is called from now on, in this thread and any that begins."""
        self._called = set()
        threading.settrace(self._trace)
        sys.settrace(self._trace)
        return self._called

    def end(self) -> None:
        """Note nothing more."""
        sys.settrace(None)
        threading.settrace(None)

    def _trace(self, frame: FrameType, _event: str, _argument: object) -> None:
        name = self._names.get(frame.f_code.co_filename)
        if name is not None:
            self._called.add((name, frame.f_code.co_firstlineno))


def function_at(path: str, line: int) -> Function | None:
    """Return the outermost function that has this line; None where the line stands outside every function."""
    return next(((path, first) for first, last in _extents(path) if first <= line <= last), None)


@cache
def _extents(path: str) -> list[tuple[int, int]]:
    """Return the first and the last line of each function; whoever stands around another comes before it."""
    nodes = (
        node
        for node in ast.walk(ast.parse(Path(path).read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    )
    lines = ((node, min([node.lineno, *(each.lineno for each in node.decorator_list)])) for node in nodes)
    return sorted((first, node.end_lineno or first) for node, first in lines)
