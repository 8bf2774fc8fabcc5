"""Tests run against mutants: `_mutants_run.py JOB`, from the root of the repository; prints a JSON line a mutant.

Tests are collected once, and run once as they are, to see which functions each of them runs. Each mutant is a fork
of that process, in which the functions of its module have the mutant's code; it meets the tests that run the changed
function, and the first that fails has killed it. What is made while a module is imported (its constants, the fields
of its classes, tables made by its functions) is not reached in that way: a change outside a function, and one in a
function that runs during the import and survives, meets all tests in a fork that has imported nothing of the project,
from the mutant's source (`_mutants_fresh.py`).
"""

from __future__ import annotations

import ast
import contextlib
import gc
import importlib
import json
import os
import sys
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

import hypothesis
import pytest
from _mutants_fork import (
    SURVIVED,
    UNREACHED,
    FirstFailure,
    child,
    forked,
    limit_processor,
    mutated,
    run_items,
)
from _mutants_fresh import Fresh
from _mutants_reach import Calls, Function, function_at
from hypothesis import strategies

_LEAST_SECONDS = 2.0
_OPTIONS = (
    "-x",
    "-q",
    "-n",
    "0",
    "-p",
    "no:cacheprovider",
    "-W",
    "ignore::pytest.PytestAssertRewriteWarning",
)
# What the tests import and no mutant changes: imported before the forks, it costs each of them nothing.
_OTHERS = (
    "aiohttp.web", "anthropic", "apscheduler", "apsw", "dbus_fast", "epad.configuration.load", "httptools",
    "hypothesis.stateful", "msgspec", "nacl.signing", "ollama", "openai", "prometheus_client", "psutil",
    "pytest_asyncio", "structlog", "transitions",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Job:
    """Which mutants, so many at once, by which tests; each random test has so many `examples`, always the same."""

    tests: list[str]
    deselected: list[str]
    examples: int
    at_once: int
    mutants: list[dict[str, Any]]

    @property
    def arguments(self) -> list[str]:
        return [*_OPTIONS, *self.tests, *(f"--deselect={name}" for name in self.deselected)]


@dataclass(slots=True)
class Base:
    """How the tests do without a mutant: what each takes, so that the quickest come first, and what it runs."""

    seconds: dict[str, float] = field(default_factory=dict)
    functions: dict[str, set[Function]] = field(default_factory=dict)
    failed: str = ""

    def limit(self, tests: Iterable[str]) -> float:
        """Return the processor time that these tests may take; a mutant that takes more goes in circles."""
        return _LEAST_SECONDS + 5 * sum(self.seconds.get(test, 0.0) for test in tests)

    def files(self, path: str) -> list[str]:
        """Return the files of tests: first those that run something of this file, the quicker ones before others."""
        seconds: dict[str, float] = {}
        near = set()
        for test, took in self.seconds.items():
            file = test.partition("::")[0]
            seconds[file] = seconds.get(file, 0.0) + took
            if any(name == path for name, _ in self.functions.get(test, ())):
                near.add(file)
        return sorted(seconds, key=lambda file: (file not in near, seconds[file]))


class Few:
    """Makes hypothesis take the same few examples each time, and not look for the smallest one that fails."""

    def __init__(self, job: Job, order: Mapping[str, float]) -> None:
        self._job = job
        self._order = order

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        for item in items:
            function = getattr(item, "obj", None)
            function = getattr(function, "__func__", function)
            settings = getattr(function, "_hypothesis_internal_use_settings", None)
            if settings is not None:
                function._hypothesis_internal_use_settings = self._few(settings)  # noqa: SLF001
            case = getattr(item, "cls", None)
            if isinstance(getattr(case, "settings", None), hypothesis.settings):
                case.settings = self._few(case.settings)
        items.sort(key=lambda item: self._order.get(item.nodeid, 0.0))

    def _few(self, settings: hypothesis.settings) -> hypothesis.settings:
        return hypothesis.settings(
            settings,
            max_examples=min(self._job.examples, settings.max_examples),
            # A busy machine is no mutant that was found.
            suppress_health_check=list(hypothesis.HealthCheck),
            stateful_step_count=min(25, settings.stateful_step_count),
            derandomize=True,
            database=None,
            deadline=None,
            phases=[hypothesis.Phase.explicit, hypothesis.Phase.generate],
        )


class Patching:
    """Runs each mutant in a fork of the collected session."""

    def __init__(self, job: Job, tell: Callable[..., None]) -> None:
        self._job = job
        self._tell = tell
        self._calls = Calls({mutant["path"] for mutant in job.mutants})
        self._at_import = self._calls.begin()
        self.base = Base()

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        self._calls.end()
        self.base = _base(session, self._calls)
        if self.base.failed:
            return True
        session.items.sort(key=lambda item: self.base.seconds.get(item.nodeid, 0.0))
        session.config.pluginmanager.register(FirstFailure())
        _warm_up()
        gc.freeze()
        works = ((mutant, partial(self._child, session, mutant)) for mutant in self._job.mutants)
        for mutant, state, seconds in forked(works, self._job.at_once):
            again = state == UNREACHED or (state == SURVIVED and _changed(mutant) in self._at_import)
            self._tell(mutant, state, seconds, again=again)
        return True

    def _child(self, session: pytest.Session, mutant: dict[str, Any]) -> int:
        if not patch(importlib.import_module(mutant["module"]), mutated(mutant), mutant["path"]):
            return 2
        changed, ran = _changed(mutant), self.base.functions
        if changed is not None:
            session.items = [item for item in session.items if changed in ran.get(item.nodeid, ())]
        limit_processor(self.base.limit(item.nodeid for item in session.items))
        run_items(session)
        return 0


def _changed(mutant: dict[str, Any]) -> Function | None:
    """Return the function that a mutant changes, the outermost one; None where it changes nothing."""
    changes = mutant["text"] or mutant["end"] > mutant["start"]
    return function_at(mutant["path"], mutant["line"]) if changes else None


@hypothesis.settings(max_examples=1, database=None, deadline=None)
@hypothesis.given(strategies.text(), strategies.floats())
def _warm_up(_text: str, _number: float) -> None:
    """Make hypothesis load its tables once, and not in each fork."""


class Noting:
    """Writes down how each test did, the processor time it took and which functions it ran."""

    def __init__(self, calls: Calls, into: int) -> None:
        self._calls = calls
        self.into = os.fdopen(into, "w", buffering=1)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self._write(report.nodeid, 0.0, report.failed, [])

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Generator[None, object, object]:
        functions, began = self._calls.begin(), time.process_time()
        try:
            result = yield
        finally:
            self._calls.end()
        self._write(item.nodeid, time.process_time() - began, False, list(functions))
        return result

    def _write(self, *said: object) -> None:
        self.into.write(json.dumps(said) + "\n")


def _base(session: pytest.Session, calls: Calls) -> Base:
    """Run the tests in a fork, as they are."""
    reading, writing = os.pipe()
    noting = Noting(calls, writing)
    session.config.pluginmanager.register(noting)
    process = os.fork()
    if not process:
        child(partial(run_items, session))
    noting.into.close()
    session.config.pluginmanager.unregister(noting)
    base = Base()
    with os.fdopen(reading) as lines:
        for line in lines:
            name, seconds, failed, functions = json.loads(line)
            base.seconds[name] = base.seconds.get(name, 0.0) + seconds
            base.functions.setdefault(name, set()).update(map(tuple, functions))
            base.failed = base.failed or (name if failed else "")
    os.waitpid(process, 0)
    return base


def patch(module: ModuleType, source: str, path: str) -> bool:
    """Give the module's functions the code of the mutant; False if there is more to it than functions."""
    if _outside(Path(path).read_text()) != _outside(source):
        return False
    code = compile(source, str(module.__file__), "exec", dont_inherit=True)
    names: dict[str, Any] = {"__name__": module.__name__, "__file__": module.__file__}
    namespace = ModuleType(module.__name__)
    namespace.__dict__.update(names)
    exec(code, namespace.__dict__)  # noqa: S102 - running changed code is what this does
    ours = dict(_functions(module.__dict__, code.co_filename))
    changed = dict(_functions(namespace.__dict__, code.co_filename))
    if ours.keys() != changed.keys():
        return False
    for name, function in ours.items():
        if len(function.__code__.co_freevars) != len(changed[name].__code__.co_freevars):
            return False
        function.__code__ = changed[name].__code__
    return True


def _outside(source: str) -> str:
    """All of a module but the bodies of its functions."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            node.body = []
    return ast.dump(tree)


def _functions(
    namespace: Mapping[str, Any], file: str, prefix: str = ""
) -> Iterator[tuple[str, FunctionType]]:
    """Every function that a module or a class of it defines."""
    for name, value in namespace.items():
        for function in _unwrapped(value):
            if isinstance(function, FunctionType) and function.__code__.co_filename == file:
                yield f"{prefix}{name}.{function.__name__}", function
        if isinstance(value, type) and value.__module__ == namespace.get(
            "__name__", namespace.get("__module__")
        ):
            yield from _functions(vars(value), file, f"{prefix}{name}.")


def _unwrapped(value: Any) -> Iterator[Any]:
    if isinstance(value, property):
        yield from filter(None, (value.fget, value.fset))
        return
    value = getattr(value, "__func__", value)
    yield value
    while (value := getattr(value, "__wrapped__", None)) is not None:
        yield value


def main(path: str) -> int:
    """Run the job; its results go to standard output."""
    job = Job(**json.loads(Path(path).read_text()))
    results = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    left: list[dict[str, Any]] = []

    def tell(mutant: dict[str, Any], state: str, seconds: float, *, again: bool = False) -> None:
        if again:
            left.append(mutant)
            return
        results.write(json.dumps({"id": mutant["id"], "state": state, "seconds": seconds}) + "\n")
        results.flush()

    for name in _OTHERS:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    # In a process of its own: the one that goes on must have imported nothing of the project.
    reading, writing = os.pipe()
    process = os.fork()
    if not process:
        patching = Patching(job, tell)
        pytest.main([*job.arguments, "-s"], plugins=[Few(job, {}), patching])
        base, paths = patching.base, {mutant["path"] for mutant in left}
        with os.fdopen(writing, "w") as told:
            files = {path: base.files(path) for path in paths}
            json.dump([left, base.seconds, files, base.limit(base.seconds), base.failed], told)
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as told:
        text = told.read()
    os.waitpid(process, 0)
    again, order, files, limit, failed = json.loads(text or '[[], {}, {}, 0, "collection"]')
    if failed or not order:
        raise SystemExit(f"without a mutant this fails already: {failed or 'collection'}")
    if again:
        fresh = Fresh(again, files.__getitem__, limit + 20, job.at_once, tell)
        pytest.main([*job.arguments, "-s"], plugins=[Few(job, order), fresh])
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
