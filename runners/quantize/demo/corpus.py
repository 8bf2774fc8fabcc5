"""The demo's text: the sources of the interpreter's own standard library, in a fixed order, an eighth held out."""

from __future__ import annotations

import hashlib
import sysconfig
from dataclasses import dataclass
from pathlib import Path
from typing import Final

# Tables, test data and programs with a style of their own; they would crowd out the modules people read.
LEFT_OUT: Final = frozenset(
    {"test", "tests", "site-packages", "idlelib", "lib2to3", "encodings", "pydoc_data", "turtledemo"}
)
HELD_OUT_SHARE: Final = 8


@dataclass(frozen=True, slots=True)
class Corpus:
    """Text to train on and text never seen in training, and a digest of both."""

    train: tuple[str, ...]
    held_out: tuple[str, ...]
    digest: str


def standard_library(root: Path | None = None) -> Corpus:
    """Read the modules in the order of their paths; a module's side is drawn by the hash of its path."""
    folder = root or Path(sysconfig.get_paths()["stdlib"])
    digest = hashlib.sha256()
    sides: tuple[list[str], list[str]] = ([], [])
    for path in sorted(folder.rglob("*.py")):
        name = path.relative_to(folder)
        if LEFT_OUT.intersection(name.parts):
            continue
        text = path.read_text(encoding="utf-8", errors="replace")
        name_digest = hashlib.sha256(str(name).encode()).digest()
        digest.update(name_digest + hashlib.sha256(text.encode()).digest())
        sides[name_digest[0] % HELD_OUT_SHARE == 0].append(text)
    return Corpus(tuple(sides[0]), tuple(sides[1]), digest.hexdigest())
