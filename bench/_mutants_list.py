"""Mutants that mutmut makes of some files: `_mutants_list.py COUNT SEED FILE...` prints JSON. Runs in mutmut's venv.

mutmut passes over decorated functions, since its trampolines cannot stand in for them. Mutants are not run through
trampolines here, so properties are mutated as everything else is. Annotations, docstrings, decorators
and `__all__` are not: nothing depends on them while the program runs.
"""

from __future__ import annotations

import ast
import json
import random
import sys
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import libcst as cst
from libcst import matchers
from libcst.metadata import MetadataWrapper, PositionProvider
from mutmut.mutation.file_mutation import Mutation, MutationVisitor
from mutmut.mutation.mutators import mutation_operators
from mutmut.mutation.pragma_handling import IgnoredCode


@dataclass(frozen=True, slots=True)
class Mutant:
    """One change of one file: the characters from `start` to `end` become `text`; `code` is the line it begins on."""

    path: str
    line: int
    code: str
    start: int
    end: int
    text: str
    shown: str


class Visitor(MutationVisitor):
    """mutmut's visitor, and properties too."""

    def _skip_node_and_children(self, node: cst.CSTNode) -> bool:
        if isinstance(node, cst.FunctionDef):
            return False
        if isinstance(node, cst.Assign) and matchers.matches(
            node.targets[0].target, matchers.Name("__all__")
        ):
            return True
        return bool(super()._skip_node_and_children(node))


class File:
    """A file, and every change that mutmut makes of it."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._source = Path(path).read_text()
        wrapper = MetadataWrapper(cst.parse_module(self._source))
        self._positions = wrapper.resolve(PositionProvider)
        visitor = Visitor(mutation_operators, IgnoredCode(set(), set(), set()))
        self._module = wrapper.visit(visitor)
        self._seen = {ast.dump(ast.parse(self._source))}
        self.mutations: list[Mutation] = visitor.mutations

    def written(self, mutation: Mutation) -> Mutant | None:
        """The mutant; None if it differs from the file, or from one before it, in no more than layout."""
        code = self._module.deep_replace(mutation.original_node, mutation.mutated_node).code
        try:
            tree = ast.dump(ast.parse(code))
        except SyntaxError:
            return None  # no program, so no mutant of one
        if tree in self._seen:
            return None
        self._seen.add(tree)
        line = self._positions[mutation.original_node].start.line
        text = self._source.splitlines()[line - 1].strip()
        return Mutant(
            self._path, line, text, *_difference(self._source, code), _shown(self._module, mutation)
        )


def mutants(files: list[File], count: int, seed: int) -> list[Mutant]:
    """As many as that, at random; each of them takes a while to write out, so the others are not."""
    order = [(file, mutation) for file in files for mutation in file.mutations]
    if len(order) > count:
        random.Random(seed).shuffle(order)
    written = (file.written(mutation) for file, mutation in order)
    return list(islice((mutant for mutant in written if mutant is not None), count))


def _difference(before: str, after: str) -> tuple[int, int, str]:
    start = _alike(before, after)
    same = _alike(before[start:][::-1], after[start:][::-1])
    return start, len(before) - same, after[start : len(after) - same]


def _alike(one: str, other: str) -> int:
    """How many characters both begin with."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((number for number, (a, b) in pairs if a != b), min(len(one), len(other)))


def _shown(module: cst.Module, mutation: Mutation) -> str:
    """The change as a person reads it."""
    before, after = (
        " ".join(module.code_for_node(node).split())
        for node in (mutation.original_node, mutation.mutated_node)
    )
    return f"{before} -> {after}"


if __name__ == "__main__":
    read = [File(path) for path in sys.argv[3:]]
    chosen = mutants(read, int(sys.argv[1]), int(sys.argv[2]))
    fields = [{name: getattr(each, name) for name in Mutant.__slots__} for each in chosen]
    json.dump({"known": sum(len(file.mutations) for file in read), "mutants": fields}, sys.stdout)
