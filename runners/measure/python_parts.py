"""The parts of a Python program: what its scripts import under their own folders, and its environment.

Imports are read, never run: those by name, those by a name in a string (`importlib.import_module("x")`), and strings
that name a program file. A package that is imported counts whole, since it may load its modules by names made at run
time; the imports of those modules are followed that are named. Of an environment, `installed.py` takes the packages.
"""

from __future__ import annotations

import ast
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final

from runners.measure.installed import Installed
from runners.measure.parts import CODE, Parts, is_system, text_of

MOST_READ: Final = 5_000
_MOST_BYTES: Final = 4 << 20
_MODULE: Final = (".py", ".so", ".pyc")
_NOT_IMPORTED: Final = frozenset(
    {"idlelib", "lib2to3", "site-packages", "test", "tests", "tkinter", "turtledemo"}
)
"""Folders of a Python's own library that no agent's module is in, or that are looked at by name."""
_SEES_ALL: Final = "include-system-site-packages = true"
_EDITABLE: Final = re.compile(r"MAPPING(?::[^=]*)?\s*=\s*(\{.*\})")


def is_python(name: str) -> bool:
    """Tell if a program's name is that of a Python."""
    return re.fullmatch(r"(python|pypy)[0-9.]*t?", name) is not None


def python_parts(
    parts: Parts, program: Path, words: Sequence[str], folder: Path, search: Iterable[str]
) -> None:
    """Add the parts of a Python's start. `words` are those after the program, `search` the folders of PYTHONPATH."""
    own = [folder / one for one in search if one]
    installed = Installed(parts)
    prefix = _prefix(program)
    if prefix is not None:
        own += list(_environment(parts, installed, prefix))
    walk = _Walk(parts, own, installed)
    match _target(words):
        case ("module", name):
            walk.own.insert(0, folder)
            walk.imports(name)
            walk.imports(f"{name}.__main__")
        case ("code", code):
            walk.own.insert(0, folder)
            walk.code(code, folder)
        case ("script", path):
            script = folder / path
            walk.script(script / "__main__.py" if script.is_dir() else script)


def script_parts(parts: Parts, script: Path) -> None:
    """Add what a Python script imports under its own folder."""
    _Walk(parts, [], Installed(parts)).script(script)


def _target(words: Sequence[str]) -> tuple[str, str] | None:
    """Return what a Python is told to run: a module, code, or a script."""
    rest = iter(words)
    for word in rest:
        if word in {"-m", "-c"}:
            value = next(rest, "")
            return ("module" if word == "-m" else "code", value) if value else None
        if word.startswith(("-m", "-c")):
            return "module" if word[1] == "m" else "code", word[2:]
        if word in {"-W", "-X", "--check-hash-based-pycs"}:
            next(rest, None)
        elif not word.startswith("-"):
            return "script", word
    return None


def _prefix(program: Path) -> Path | None:
    """Return the environment that a Python belongs to; None where it is the system's."""
    for place in (program, Path(os.path.realpath(program))):
        prefix = place.parent.parent
        if place.parent.name in {"bin", "Scripts"} and not is_system(str(prefix)):
            return prefix
    return None


def _environment(
    parts: Parts, installed: Installed, prefix: Path, *, has_site: bool = True
) -> Iterator[Path]:
    """Add what an environment runs at each start, and that of the Python that it was made from.

    Yields the folders that its .pth files add to the search; `installed` gets those that its packages lie in.
    """
    config = prefix / "pyvenv.cfg"
    if config.is_file():
        parts.add(config, "environment")
    for folder in sorted(prefix.glob("lib/python3*")):
        if not config.is_file():
            parts.tree(folder, "environment", _MODULE, _NOT_IMPORTED)
        if not has_site:
            continue
        site = folder / "site-packages"
        installed.look_in(site)
        for pattern in ("*.pth", "sitecustomize.py", "usercustomize.py"):
            for path in sorted(site.glob(pattern)):
                parts.add(path, "environment")
                yield from _folders_of(path)
        for finder in sorted(site.glob("__editable__*.py")):
            parts.add(finder, "environment")
            yield from _mapped(parts, finder)
    if home := _home(config):
        base = _prefix(home / "python3")
        if base is not None and base != prefix:
            yield from _environment(parts, installed, base, has_site=_SEES_ALL in _text(config).lower())


def _home(config: Path) -> Path | None:
    """Return the folder of the Python that a virtual environment was made from."""
    for line in _text(config).splitlines():
        name, _, value = line.partition("=")
        if name.strip() == "home" and value.strip():
            return Path(value.strip())
    return None


def _folders_of(extra: Path) -> Iterator[Path]:
    """Yield the folders that a .pth file adds, which an editable install is made of."""
    if extra.suffix != ".pth":
        return
    for line in _text(extra).splitlines():
        if line and not line.startswith(("#", "import ", "import\t")):
            folder = extra.parent / line.strip()
            if folder.is_dir() and not is_system(str(folder)):
                yield folder


def _mapped(parts: Parts, finder: Path) -> Iterator[Path]:
    """Yield the folders that the finder of an editable install maps packages to; setuptools writes such a file."""
    found = _EDITABLE.search(_text(finder))
    try:
        mapping = ast.literal_eval(found[1]) if found else {}
    except (ValueError, SyntaxError):
        parts.leave_out(f"{finder}: where its packages lie cannot be read")
        return
    for place in mapping.values():
        yield Path(place).parent


class _Walk:
    """Follows imports from file to file. `own` are the folders that modules are looked for in, in order."""

    def __init__(self, parts: Parts, own: list[Path], installed: Installed) -> None:
        self.own = own
        self._installed = installed
        self._parts = parts
        self._followed: set[Path] = set()
        self._whole: set[Path] = set()
        self._looked_up: set[tuple[str, int]] = set()

    def script(self, path: Path) -> None:
        """Take a script and what it imports; its folder is searched first."""
        self.own.insert(0, Path(os.path.realpath(path)).parent)
        self._file(path, "script")

    def code(self, code: str, folder: Path) -> None:
        """Take what a piece of code imports."""
        self._imported(code, folder)

    def imports(self, name: str) -> None:
        """Take a module by its name. A package of its own counts whole; what its modules import, if they are named."""
        if (name, len(self.own)) in self._looked_up:
            return
        self._looked_up.add((name, len(self.own)))
        top, *rest = name.split(".")
        for folder in self.own:
            if self._found_in(folder, top, rest):
                return
        unrecorded = self._installed.take(top)
        if unrecorded is not None:
            self._found_in(unrecorded, top, rest)

    def _found_in(self, folder: Path, top: str, rest: list[str]) -> bool:
        """Take a module from a folder; False if it is not there."""
        place = folder / top
        alone = place.with_name(f"{top}.py")
        if place.is_dir() and ((place / "__init__.py").is_file() or not alone.is_file()):
            self._package(place, rest)
            return True
        if extension := next(iter(sorted(folder.glob(f"{top}.*.so"))), None):
            return self._parts.add(extension, "module") or True
        found = next((path for path in (alone, place.with_name(f"{top}.pyc")) if path.is_file()), None)
        if found is not None:
            self._file(found, "module")
        return found is not None

    def _package(self, place: Path, rest: list[str]) -> None:
        """Take a package whole, and what the modules on the way to the named one import."""
        if place not in self._whole:
            self._whole.add(place)
            self._parts.tree(place, "module", CODE)
        self._follow(place / "__init__.py")
        for word in rest:
            self._follow(place / f"{word}.py")
            place /= word
            self._follow(place / "__init__.py")

    def _file(self, path: Path, role: str) -> None:
        self._parts.add(path, role)
        if path.suffix not in {".so", ".pyc"}:
            self._follow(Path(os.path.realpath(path)))

    def _follow(self, path: Path) -> None:
        if path in self._followed or is_system(str(path)):
            return
        self._followed.add(path)
        if len(self._followed) > MOST_READ:
            self._parts.leave_out(
                f"imports of more than {MOST_READ} files: those of the rest are not followed"
            )
            return
        text = _text(path)
        if text:
            self._imported(text, path.parent)

    def _imported(self, text: str, folder: Path) -> None:
        try:
            tree = ast.parse(text)
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            return  # it cannot be imported either
        nodes = list(ast.walk(tree))
        for node in nodes:  # before any import: it may be one from there
            if isinstance(node, ast.Call) and _adds_path(node):
                self._search(node, folder)
        for node in nodes:
            match node:
                case ast.Import() | ast.ImportFrom():
                    self._import(node, folder)
                case ast.Constant(value=str(text)) if 0 < len(text) < 512 and "\n" not in text:
                    self._named(text, folder)

    def _import(self, node: ast.Import | ast.ImportFrom, folder: Path) -> None:
        names = [name.name for name in node.names]
        if isinstance(node, ast.Import):
            modules = names
        elif node.level:
            self._relative(folder, node.level, node.module or "", names)
            return
        else:
            modules = [f"{node.module}.{name}" for name in names]
        for name in modules:
            self.imports(name)

    def _relative(self, folder: Path, level: int, module: str, names: list[str]) -> None:
        """Take what a relative import names."""
        for _ in range(level - 1):
            folder = folder.parent
        base = folder.joinpath(*module.split(".")) if module else folder
        for place in (base, *(base / name for name in names)):
            if (path := place.with_name(f"{place.name}.py")).is_file():
                self._file(path, "module")
            elif place != folder and place.is_dir():
                self._package(place, [])

    def _search(self, call: ast.Call, folder: Path) -> None:
        """Search a folder that the code adds to `sys.path`, as far as its strings say which."""
        words = [
            one.value
            for one in ast.walk(call)
            if isinstance(one, ast.Constant) and isinstance(one.value, str)
        ]
        place = folder.joinpath(*words) if words else folder
        if place.is_dir() and place not in self.own:
            self.own.append(place)

    def _named(self, text: str, folder: Path) -> None:
        """Take a module or a program file that a string names."""
        is_code = text[text.rfind(".") :] in CODE
        if not is_code and re.fullmatch(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)+", text):
            self.imports(text)
        elif is_code:
            for base in (folder, *self.own[:1]):
                path = base / text
                if path.is_file():
                    if (beside := path.parent) not in self.own:
                        self.own.append(beside)  # where it looks for modules, once it is run
                    self._file(path, "script")
                    return


def _adds_path(call: ast.Call) -> bool:
    """Tell if a call is `sys.path.insert(...)`, or another that adds to a `path`."""
    match call.func:
        case ast.Attribute(value=ast.Attribute(attr="path"), attr="append" | "extend" | "insert"):
            return True
    return False


def _text(path: Path) -> str:
    return text_of(path, _MOST_BYTES).decode(errors="replace")
