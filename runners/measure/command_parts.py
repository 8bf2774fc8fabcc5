"""Put the parts of a command together."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from runners.measure.model_parts import WEIGHTS, model_parts
from runners.measure.node_parts import NODES, node_parts
from runners.measure.parts import CODE, Parts, interpreter_line, is_system, named_files, program_of, text_of
from runners.measure.python_parts import is_python, python_parts, script_parts
from runners.measure.request import Start

_MANAGERS: Final = frozenset({"hatch", "pdm", "pipenv", "poetry", "rye", "uv"})
"""They run what is in the virtual environment of the directory."""
_FETCHERS: Final = {"bunx": "bun", "npx": "npm", "pipx": "pip", "uvx": "uv"}
_NODE_SUFFIXES: Final = frozenset({".cjs", ".cts", ".js", ".jsx", ".mjs", ".mts", ".ts", ".tsx"})
_OWN_FOLDER: Final = re.compile(
    r"""\$\(\s*dirname\s+(?:--\s+)?["']?\$(?:0|\{?BASH_SOURCE[^)"']*)["']?\s*\)|\$\{0%/\*\}"""
)
"""A shell's words for the folder that its script is in."""
_MOST_BYTES: Final = 1 << 20
_MOST_DEEP: Final = 20


def add_parts(parts: Parts, start: Start) -> None:
    """Add the files that a start is made of, each with its role."""
    folder, environment = Path(start.directory), start.environment
    program = program_of(start)
    if program is not None:
        _program(parts, program, start.command[1:], start)
    for path in named_files(start.command[1:], folder):
        _any_file(parts, path, start, 0)
    for name in ("LD_PRELOAD", "NODE_OPTIONS", "PYTHONSTARTUP"):
        for path in named_files(environment.get(name, "").replace(":", " ").split(), folder):
            _any_file(parts, path, start, 0)
    model_parts(parts, start.command, folder, environment)
    for pattern in start.made_of:
        for path in sorted(_matching(folder, pattern)):
            parts.add(path, "named")


def _matching(folder: Path, pattern: str) -> list[Path]:
    """Return the files of a pattern: from the folder, or from the root."""
    if pattern.startswith("/"):
        return list(Path("/").glob(pattern.lstrip("/"))) if pattern.strip("/") else []
    return list(folder.glob(pattern))


def _program(parts: Parts, program: Path, words: Sequence[str], start: Start) -> None:
    """Take a program, what it is told to run, and the files that its words name."""
    name, real = program.name, os.path.realpath(program)
    parts.add(program, "program")
    if name in _FETCHERS:
        parts.leave_out(
            f"{name} fetches what it runs: what {_FETCHERS[name]} has in its cache is not looked at"
        )
    own = Path(start.directory) / ".venv/bin/python"
    if name in _MANAGERS and own.exists():
        python_parts(parts, own, (), Path(start.directory), ())
    line = interpreter_line(Path(real))
    if is_python(name):
        python_parts(parts, program, words, Path(start.directory), _python_path(start))
        if line:
            parts.leave_out(
                f"{program} is a script that chooses a Python: the packages of that are not looked at"
            )
    elif line:
        _interpreted(parts, program, line, start)
    elif not is_system(real):
        _libraries(parts, Path(real))
    _inner(parts, words, start)


def _inner(parts: Parts, words: Sequence[str], start: Start) -> None:
    """Take a program among the words of another: `env agent`, `timeout 60 agent`, `uv run agent`."""
    for position, word in enumerate(words):
        if not word or "/" in word or word.startswith("-") or "=" in word:
            continue
        found = program_of(Start((word,), start.directory, start.environment))
        if found is None or os.path.realpath(found) in parts.found:
            continue
        if is_python(word) or not is_system(os.path.realpath(found)):
            _program(parts, found, words[position + 1 :], start)
            return


def _python_path(start: Start) -> list[str]:
    return start.environment.get("PYTHONPATH", "").split(":")


def _interpreted(parts: Parts, script: Path, line: Sequence[str], start: Start) -> None:
    """Take a script that is a program by itself, and the interpreter that its first line names."""
    words = [word for word in line[1:] if "=" not in word and word != "-S"]
    name = words[0] if words and Path(line[0]).name == "env" else line[0]
    interpreter = program_of(Start((name,), start.directory, start.environment))
    parts.rename(script, "script")
    if interpreter is not None:
        parts.add(interpreter, "program")
    if interpreter is not None and is_python(interpreter.name):
        python_parts(parts, interpreter, [str(script)], Path(start.directory), _python_path(start))
    elif Path(name).name in NODES:
        node_parts(parts, script)
    else:
        _words_of(parts, Path(os.path.realpath(script)), start, 0)


def _any_file(parts: Parts, path: Path, start: Start, deep: int) -> None:
    """Take a file that a command names, and what it is made of in turn."""
    line = interpreter_line(path)
    said = Path(line[-1 if Path(line[0]).name == "env" else 0]).name if line else ""
    if path.suffix in WEIGHTS:
        parts.add(path, "model")
    elif is_python(path.name):
        parts.add(path, "program")
        python_parts(parts, path, (), Path(start.directory), ())
    elif path.suffix == ".py" or is_python(said):
        script_parts(parts, path)
    elif path.suffix in _NODE_SUFFIXES or said in NODES:
        node_parts(parts, path)
    elif (
        (path.suffix in CODE or line or os.access(path, os.X_OK))
        and parts.add(path, "script")
        and deep < _MOST_DEEP
    ):
        _words_of(parts, Path(os.path.realpath(path)), start, deep)


def _words_of(parts: Parts, script: Path, start: Start, deep: int) -> None:
    """Follow the words of a shell's script that name program files beside it, or in its directory."""
    text = text_of(script, _MOST_BYTES)
    if b"\0" in text:
        return  # a binary
    for line in text.decode(errors="replace").splitlines():
        words = [word.strip("\"'`;()&|") for word in _OWN_FOLDER.sub(".", line).split()]
        for folder in dict.fromkeys((script.parent, Path(start.directory))):
            for path in named_files(words, folder):
                if path.suffix in CODE or interpreter_line(path):
                    _any_file(parts, path, start, deep + 1)


def _libraries(parts: Parts, program: Path) -> None:
    """Take the shared libraries that a program may load from beside it."""
    for folder in (program.parent, program.parent.parent / "lib"):
        if folder.is_dir() and not is_system(str(folder)) and folder.parent != Path("/"):
            for path in sorted(folder.glob("*.so*")):
                parts.add(path, "library")
