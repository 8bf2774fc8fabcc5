"""The house's walls, held in place: who imports whom, who may touch a database file, how long a file may be.

Each rule is a function of parsed source, and is tried on a planted violation too: a wall that cannot be hit is
no wall.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest
from rooms import SHARED_WITH_CHILDREN

ROOT = Path(__file__).parents[1]
ROOMS = ("epad", "probes", "statemachine", "runners")
MAY_IMPORT = {
    "epad": {"epad", "probes", "statemachine"},
    "probes": {"probes", "statemachine"},
    "statemachine": {"statemachine"},
    "runners": {"runners"},
}
MODEL_LIBRARIES = {"torch", "hqq", "transformers", "safetensors", "accelerate"}
OTHER_SQLITE_LIBRARIES = {"sqlite3", "_sqlite3", "aiosqlite", "pysqlite3", "sqlalchemy"}
MAX_LINES = 450

# Programs that run as short-lived children, and so may open database files: bundle parts, live sources.
CHILD_MODULES = {
    "epad/copying/copied_file.py",
    "epad/copying/file_copy.py",
    "epad/copying/sqlite_copy.py",
    "epad/checkpoint/verify.py",
    "epad/inspection/baseline.py",
    "epad/inspection/changes.py",
    "epad/inspection/inspect.py",
    "epad/datastore/restore.py",
}
FILE_BODY_CALLS = {
    "open",
    "read_bytes",
    "read_text",
    "write_bytes",
    "write_text",
    "copy",
    "copy2",
    "copyfile",
    "copyfileobj",
    "move",
    "file_digest",
    "mmap",
}
DATABASE_WORDS = re.compile(r"\.db\b|_database\b|\bdatabase_(path|file)|(\b|_)(ledger|state|db)_path\b")

Modules = dict[str, ast.Module]
Rule = Callable[[str, ast.Module], Iterator[str]]


def sources(*folders: str) -> list[Path]:
    return [path for folder in folders for path in sorted((ROOT / folder).rglob("*.py"))]


@cache
def parsed(*folders: str) -> Modules:
    return {str(path.relative_to(ROOT)): ast.parse(path.read_bytes()) for path in sources(*folders)}


def imported(file: str, tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Every module a file imports, at its top or anywhere inside, by statement or by name."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = Path(file).parts[: -node.level] if node.level else ()
            yield node.lineno, ".".join((*above, node.module or "")).strip(".")
        elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            called = ast.unparse(node.func)
            if called in {"__import__", "import_module", "importlib.import_module"}:
                yield node.lineno, str(node.args[0].value)


def top(module: str) -> str:
    return module.partition(".")[0]


def wrong_way(file: str, tree: ast.Module) -> Iterator[str]:
    """Arrows run epad -> probes -> statemachine; runners stand alone, but for what is shared with children."""
    for line, module in imported(file, tree):
        shared = file.startswith("epad/") and module in SHARED_WITH_CHILDREN
        if top(module) in ROOMS and top(module) not in MAY_IMPORT[top(file.replace("/", "."))] and not shared:
            yield f"{file}:{line}: imports {module}"


def second_sqlite(file: str, tree: ast.Module) -> Iterator[str]:
    """Two SQLite libraries in one process damage files: apsw is the only one."""
    for line, module in imported(file, tree):
        if top(module) in OTHER_SQLITE_LIBRARIES:
            yield f"{file}:{line}: imports {module}; use apsw"


def model_library(file: str, tree: ast.Module) -> Iterator[str]:
    """The daemon stays small: model libraries are the quantizer's alone."""
    if file.startswith("runners/quantize/"):
        return
    for line, module in imported(file, tree):
        if top(module) in MODEL_LIBRARIES:
            yield f"{file}:{line}: imports {module}"


def stray_transitions(file: str, tree: ast.Module) -> Iterator[str]:
    """The library with the traps is kept behind one file."""
    for line, module in imported(file, tree):
        if top(module) == "transitions" and file != "statemachine/machine.py":
            yield f"{file}:{line}: imports {module}; take a row through statemachine.machine"


def opened_database(file: str, tree: ast.Module) -> Iterator[str]:
    """Closing a live SQLite file drops the daemon's locks on it: only children read its body."""
    if not file.startswith(("epad/", "probes/")) or file in CHILD_MODULES:
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and _reads_a_file(node):
            where = ast.unparse(node)
            if DATABASE_WORDS.search(where):
                yield f"{file}:{node.lineno}: {where}; do it in a child process"


def _reads_a_file(node: ast.Call) -> bool:
    """Whether it looks like one: `Ledger.open(path)` and `database.open()` are calls of our own."""
    match node.func:
        case ast.Attribute(value=ast.Name(id=owner)) if owner[0].isupper() and owner != "Path":
            return False
        case ast.Attribute(attr="open") if not node.args:
            return False
        case ast.Attribute(attr=name) | ast.Name(id=name):
            return name in FILE_BODY_CALLS
        case _:
            return False


RULES: list[tuple[Rule, str, str]] = [
    (wrong_way, "probes/x.py", "def look():\n    from epad.configuration.schema import Config"),
    (wrong_way, "statemachine/x.py", "import probes.probe"),
    (wrong_way, "runners/x.py", "from statemachine.phase import Phase"),
    (wrong_way, "epad/x.py", "import runners.contract"),
    (wrong_way, "probes/x.py", "from runners.egress.rules import HostRule"),
    (wrong_way, "probes/x.py", "from importlib import import_module\nimport_module('epad.daemon.process')"),
    (second_sqlite, "epad/x.py", "import sqlite3"),
    (second_sqlite, "runners/x.py", "from aiosqlite import connect"),
    (model_library, "epad/x.py", "import torch.nn as nn"),
    (model_library, "runners/wargame/x.py", "def load():\n    import transformers"),
    (stray_transitions, "epad/x.py", "from transitions.extensions.asyncio import AsyncMachine"),
    (opened_database, "epad/x.py", "open('/var/lib/epad/ledger.db', 'rb')"),
    (opened_database, "epad/x.py", "directories.state_database.read_bytes()"),
    (opened_database, "epad/x.py", "shutil.copy2(self._directories.ledger_database, target)"),
    (opened_database, "probes/x.py", "Path.open(self._ledger_path)"),
    (opened_database, "epad/x.py", "hashlib.file_digest(ledger_path.open('rb'), 'sha256')"),
]


@pytest.mark.parametrize("rule", dict.fromkeys(rule for rule, _, _ in RULES), ids=lambda rule: rule.__name__)
def test_the_house_keeps_the_rule(rule: Rule) -> None:
    """No file of any room breaks it."""
    assert [fault for file, tree in parsed(*ROOMS).items() for fault in rule(file, tree)] == []


@pytest.mark.parametrize(
    ("rule", "file", "code"), RULES, ids=lambda value: getattr(value, "__name__", str(value))
)
def test_a_planted_violation_is_found(rule: Rule, file: str, code: str) -> None:
    """Once, and with its place."""
    faults = list(rule(file, ast.parse(code)))
    assert len(faults) >= 1
    assert all(fault.startswith(f"{file}:") for fault in faults)


def test_innocent_code_passes() -> None:
    """Paths of databases may be named and handed to SQLite or to a child; other files may be opened."""
    lines = [
        "import apsw",
        "from runners.egress.rules import HostRule",
        "from epad.configuration import schema as config",
        "connect(directories.ledger_database)",
        "Ledger.open(state_database)",
        "Path('a.toml').read_text()",
    ]
    assert [fault for rule, _, _ in RULES for fault in rule("epad/x.py", ast.parse("\n".join(lines)))] == []


def test_the_tests_use_one_sqlite_too() -> None:
    """They share a process with the code they test."""
    found = [fault for file, tree in parsed("tests").items() for fault in second_sqlite(file, tree)]
    assert found == []


def test_the_children_that_may_open_databases_are_there() -> None:
    """An exception for a file that is gone would be an open door."""
    assert [file for file in CHILD_MODULES if not (ROOT / file).is_file()] == []


def test_no_file_is_too_long_to_read() -> None:
    """Under 400 lines is the aim; at 450 it is two files. A table of test cases may be longer."""
    lengths = {path: len(path.read_bytes().splitlines()) for path in sources(*ROOMS)}
    assert len(lengths) > 50
    assert {str(path.relative_to(ROOT)): n for path, n in lengths.items() if n > MAX_LINES} == {}
