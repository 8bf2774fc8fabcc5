"""Tests run against mutants: `_mutants_run.py JOB`, from the root of the repository; prints a JSON line a mutant.

Tests are collected once. Each mutant is a fork of that process, in which the functions of its module have the
mutant's code; the first test that fails has killed it. What is made while a module is imported (its constants, the
fields of its classes, tables made by its functions) is not reached in that way: whatever survives, and whatever
changes something outside a function, is run again in a fork that has imported nothing of the project, from the
mutant's source.
"""

from __future__ import annotations

import ast
import contextlib
import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import json
import os
import resource
import select
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import Any

import hypothesis
import pytest

KILLED, TIMED_OUT, SURVIVED, UNREACHED = "killed", "timed out", "survived", "unreached"
_LEAST_SECONDS = 10.0
_MEMORY_BYTES = 4 << 30
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
    "aiohttp.web", "anthropic", "apscheduler", "apsw", "dbus_fast", "epad.config_load", "httptools",
    "hypothesis.stateful", "msgspec", "nacl.signing", "ollama", "openai", "prometheus_client", "psutil",
    "pytest_asyncio", "statemachine.clock", "statemachine.containment", "structlog", "transitions",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Job:
    """Which mutants, by which tests; each random test has as many `examples`, always the same ones."""

    tests: list[str]
    deselected: list[str]
    examples: int
    mutants: list[dict[str, Any]]

    @property
    def arguments(self) -> list[str]:
        return [*_OPTIONS, *self.tests, *(f"--deselect={name}" for name in self.deselected)]


@dataclass(slots=True)
class Base:
    """How the tests do without a mutant: how long each takes, so that the quickest come first."""

    seconds: dict[str, float] = field(default_factory=dict)
    failed: str = ""

    @property
    def limit(self) -> float:
        """What a mutant may take; one that takes longer goes in circles."""
        return max(_LEAST_SECONDS, 8 * sum(self.seconds.values()))


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
            stateful_step_count=min(25, settings.stateful_step_count),
            derandomize=True,
            database=None,
            deadline=None,
            phases=[hypothesis.Phase.explicit, hypothesis.Phase.generate],
        )


class FirstFailure:
    """Ends the process with the first test that fails: the mutant is killed."""

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            os._exit(1)


class Patching:
    """Runs each mutant in a fork of the collected session."""

    def __init__(self, job: Job, tell: Callable[..., None]) -> None:
        self._job = job
        self._tell = tell
        self.base = Base()

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        self.base = _base(session)
        if self.base.failed:
            return True
        session.items.sort(key=lambda item: self.base.seconds.get(item.nodeid, 0.0))
        session.config.pluginmanager.register(FirstFailure())
        for mutant in self._job.mutants:
            self._tell(mutant, *forked(lambda mutant=mutant: self._child(session, mutant), self.base.limit))
        return True

    def _child(self, session: pytest.Session, mutant: dict[str, Any]) -> int:
        if not patch(importlib.import_module(mutant["module"]), mutated(mutant), mutant["path"]):
            return 2
        run_items(session)
        return 0


def run_items(session: pytest.Session) -> None:
    """As pytest does."""
    for number, item in enumerate(session.items):
        following = session.items[number + 1] if number + 1 < len(session.items) else None
        item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)


def _base(session: pytest.Session) -> Base:
    """Run the tests in a fork, as they are."""
    reading, writing = os.pipe()

    class Timing:
        def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
            os.write(writing, json.dumps([report.nodeid, report.duration, report.failed]).encode() + b"\n")

    timing = Timing()
    session.config.pluginmanager.register(timing)
    process = os.fork()
    if not process:
        _child_process(lambda: run_items(session) or 0)
    os.close(writing)
    session.config.pluginmanager.unregister(timing)
    base = Base()
    with os.fdopen(reading) as lines:
        for line in lines:
            name, seconds, failed = json.loads(line)
            base.seconds[name] = base.seconds.get(name, 0.0) + seconds
            base.failed = base.failed or (name if failed else "")
    os.waitpid(process, 0)
    return base


def forked(work: Callable[[], int], seconds: float) -> tuple[str, float]:
    """What became of a mutant, and how long it took."""
    began = time.monotonic()
    process = os.fork()
    if not process:
        _child_process(work)
    with os.fdopen(os.pidfd_open(process)) as ended:
        ready, _, _ = select.select([ended], [], [], seconds)
    if not ready:
        os.killpg(process, signal.SIGKILL)
    _, status = os.waitpid(process, 0)
    took = time.monotonic() - began
    if not ready:
        return TIMED_OUT, took
    code = os.waitstatus_to_exitcode(status)
    return {0: SURVIVED, 2: UNREACHED}.get(code, KILLED), took


def _child_process(work: Callable[[], int]) -> None:
    os.setpgid(0, 0)
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_BYTES, _MEMORY_BYTES))
    nowhere = os.open(os.devnull, os.O_RDWR)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    code = 1
    try:
        code = work()
    finally:
        os._exit(code)


def mutated(mutant: dict[str, Any]) -> str:
    source = Path(mutant["path"]).read_text()
    return source[: mutant["start"]] + mutant["text"] + source[mutant["end"] :]


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
    """Runs each mutant in a fork of a session that has collected nothing, and imported nothing that it keeps."""

    def __init__(self, mutants: list[dict[str, Any]], limit: float, tell: Callable[..., None]) -> None:
        self._mutants = mutants
        self._limit = limit
        self._tell = tell
        self._kept = frozenset(sys.modules)

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection(self, session: pytest.Session) -> bool:
        for mutant in self._mutants:
            state = forked(lambda mutant=mutant: self._child(session, mutant), self._limit)
            self._tell(mutant, *state, last=True)
        return True

    def _child(self, session: pytest.Session, mutant: dict[str, Any]) -> int:
        """Import the mutant, and run the tests."""
        for name in [name for name in sys.modules if name.startswith("epad") and name not in self._kept]:
            del sys.modules[name]
        sys.meta_path.insert(0, Finder(mutant))
        session.config.pluginmanager.register(FirstFailure())
        session.perform_collect()
        run_items(session)
        return int(bool(session.testsfailed) or not session.items)


def main(path: str) -> int:
    """Run the job; its results go to standard output."""
    job = Job(**json.loads(Path(path).read_text()))
    results = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    again: list[dict[str, Any]] = []

    def tell(mutant: dict[str, Any], state: str, seconds: float, *, last: bool = False) -> None:
        if state in {SURVIVED, UNREACHED} and not last:
            again.append(mutant)
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
        with os.fdopen(writing, "w") as told:
            json.dump([again, patching.base.seconds, patching.base.limit, patching.base.failed], told)
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as told:
        text = told.read()
    os.waitpid(process, 0)
    left, order, limit, failed = json.loads(text or '[[], {}, 0, "collection"]')
    if failed or not order:
        raise SystemExit(f"without a mutant this fails already: {failed or 'collection'}")
    if left:
        pytest.main([*job.arguments, "-s"], plugins=[Few(job, order), Fresh(left, limit + 20, tell)])
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
