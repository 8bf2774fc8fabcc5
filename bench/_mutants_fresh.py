"""Mutants of what is made while a module is imported: each in a fork that has imported nothing of the project."""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import importlib.util
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from types import CodeType
from typing import Any

import pytest
from _mutants_fork import FirstFailure, forked, limit_processor, mutated, run_items

_OURS = ("epad", "statemachine", "probes", "runners")


class Loader(importlib.machinery.SourceFileLoader):
    """Loads one module from other source."""

    def __init__(self, name: str, path: str, source: str) -> None:
        super().__init__(name, path)
        self._source = source

    def get_code(self, _fullname: str) -> CodeType:
        return compile(self._source, self.path, "exec", dont_inherit=True)


class Finder(importlib.abc.MetaPathFinder):
    """Finds the mutant where its module is asked for."""

    def __init__(self, mutant: dict[str, Any]) -> None:
        self._name = mutant["module"]
        self._loader = Loader(self._name, str(Path(mutant["path"]).absolute()), mutated(mutant))

    def find_spec(self, name: str, _path: Any, _target: Any = None) -> importlib.machinery.ModuleSpec | None:
        if name != self._name:
            return None
        return importlib.util.spec_from_file_location(name, self._loader.path, loader=self._loader)


class Fresh:
    """Runs each mutant against the files of tests, one after the other; `ordered` puts the promising ones first."""

    def __init__(
        self,
        mutants: list[dict[str, Any]],
        ordered: Callable[[str], Sequence[str]],
        limit: float,
        at_once: int,
        tell: Callable[..., None],
    ) -> None:
        self._mutants = mutants
        self._ordered = ordered
        self._limit = limit
        self._at_once = at_once
        self._tell = tell
        self._kept = frozenset(sys.modules)

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection(self, session: pytest.Session) -> bool:
        works = ((mutant, partial(self._child, session, mutant)) for mutant in self._mutants)
        for mutant, state, seconds in forked(works, self._at_once):
            self._tell(mutant, state, seconds)
        return True

    def _child(self, session: pytest.Session, mutant: dict[str, Any]) -> int:
        """Import the mutant, and run the tests."""
        limit_processor(self._limit)
        kept = frozenset() if mutant["module"] in self._kept else self._kept
        for name in [name for name in sys.modules if name.startswith(_OURS) and name not in kept]:
            del sys.modules[name]
        sys.meta_path.insert(0, Finder(mutant))
        session.config.pluginmanager.register(FirstFailure())
        found = 0
        for file in self._ordered(mutant["path"]):
            session.perform_collect([file])
            found += len(session.items)
            run_items(session)
        return 0 if found else 1
