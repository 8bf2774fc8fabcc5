"""The parts of a Node program: the modules that it requires, each with the `package.json` that decides what it is."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec

from runners.measure.parts import Parts, text_of

MOST_READ: Final = 10_000
NODES: Final = frozenset({"bun", "deno", "node", "nodejs", "tsx", "ts-node"})
_MOST_BYTES: Final = 8 << 20
_SUFFIXES: Final = ("", ".js", ".mjs", ".cjs", ".ts", ".tsx", ".json", ".node", ".wasm")
_INDEXES: Final = tuple(f"/index{suffix}" for suffix in _SUFFIXES[1:])
_NAMED: Final = re.compile(
    rb"""(?:\bfrom\s*|\brequire\s*\(\s*|\bimport\s*\(?\s*|\bnew\s+(?:Worker|URL)\s*\(\s*|\bresolve\s*\(\s*)["']([^"'\n]{1,255})["']"""
)


def node_parts(parts: Parts, script: Path) -> None:
    """Add a script, and what it requires."""
    waiting = [Path(os.path.realpath(script))]
    read: set[Path] = set()
    while waiting:
        path = waiting.pop()
        if path in read:
            continue
        parts.add(path, "module" if read else "script")
        read.add(path)
        if manifest := _upwards(path.parent, "package.json"):
            parts.add(manifest, "module")
        if len(read) > MOST_READ:
            parts.leave_out(f"what more than {MOST_READ} files require: that of the rest is not followed")
            return
        waiting += [found for name in _names(path) if (found := _resolve(name, path.parent))]


def _names(path: Path) -> Iterator[str]:
    if path.suffix in {".json", ".node", ".wasm"}:
        return
    for found in _NAMED.finditer(text_of(path, _MOST_BYTES)):
        yield found[1].decode(errors="replace")


def _resolve(name: str, folder: Path) -> Path | None:
    """Return the file that a required name leads to; None for Node's own and for what is not there."""
    if name.startswith(("node:", "http:", "https:", "data:")) or "\0" in name:
        return None
    if name.startswith(("./", "../", "/")) or name in {".", ".."}:
        return _file(folder / name)
    package = "/".join(name.split("/")[: 2 if name.startswith("@") else 1])
    found = _upwards(folder, f"node_modules/{package}")
    if found is None:
        return None
    rest = name[len(package) :].lstrip("/")
    return _file(found / rest) if rest else _main(found)


def _main(package: Path) -> Path | None:
    """Return the file that a package begins with."""
    try:
        manifest = msgspec.json.decode(text_of(package / "package.json", _MOST_BYTES))
    except msgspec.DecodeError:
        manifest = {}
    if not isinstance(manifest, dict):
        manifest = {}
    entries = [*_strings(manifest.get("exports")), manifest.get("module"), manifest.get("main"), "index"]
    return next((path for one in entries if isinstance(one, str) and (path := _file(package / one))), None)


def _strings(value: object) -> Iterator[str]:
    """Yield the paths in `exports`, whatever their conditions."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for one in value.values():
            yield from _strings(one)


def _file(place: Path) -> Path | None:
    for end in (*_SUFFIXES, *_INDEXES):
        path = Path(f"{place}{end}")
        if path.is_file():
            return path
    return None


def _upwards(folder: Path, name: str) -> Path | None:
    return next((path for one in (folder, *folder.parents) if (path := one / name).exists()), None)
