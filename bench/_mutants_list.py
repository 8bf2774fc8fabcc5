"""Every mutant that mutmut makes of some files: `_mutants_list.py FILE...` prints JSON. Runs in mutmut's own venv.

mutmut passes over decorated functions, since its trampolines cannot stand in for them. Mutants are not run through
trampolines here, so properties are mutated as everything else is. Annotations, docstrings, decorators
and `__all__` are not: nothing depends on them while the program runs.
"""

from __future__ import annotations

import ast
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
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


def mutants(path: str) -> Iterator[Mutant]:
    """All that differ from the file and from one another in more than layout."""
    source = Path(path).read_text()
    wrapper = MetadataWrapper(cst.parse_module(source))
    positions = wrapper.resolve(PositionProvider)
    visitor = Visitor(mutation_operators, IgnoredCode(set(), set(), set()))
    module = wrapper.visit(visitor)
    seen = {ast.dump(ast.parse(source))}
    for mutation in visitor.mutations:
        code = module.deep_replace(mutation.original_node, mutation.mutated_node).code
        try:
            tree = ast.dump(ast.parse(code))
        except SyntaxError:
            continue  # no program, so no mutant of one
        if tree not in seen:
            seen.add(tree)
            line = positions[mutation.original_node].start.line
            text = source.splitlines()[line - 1].strip()
            yield Mutant(path, line, text, *_difference(source, code), _shown(module, mutation))


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
    found = [mutant for path in sys.argv[1:] for mutant in mutants(path)]
    json.dump([{name: getattr(each, name) for name in Mutant.__slots__} for each in found], sys.stdout)
