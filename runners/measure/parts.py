"""The files that a command is made of, each with its role; those of the operating system are none of them.

| command | its parts |
|---|---|
| any | the program, what its interpreter line names, each of its words that is a file, files of `made_of` |
| of Python | the modules that its scripts import under their own folders, whole packages; its virtual environment |
| of Node | the modules that its scripts require, with their `package.json` |
| of a shell | each word of its scripts that is a program file, and what that is made of |
| a binary outside the system | the shared libraries beside it |
| with a model | the model's files, Hugging Face's reference to them, Ollama's manifests |
"""

from __future__ import annotations

import errno
import os
import shlex
import shutil
import stat
from collections.abc import Collection, Iterable, Iterator, Mapping
from hashlib import sha256
from io import FileIO
from pathlib import Path
from typing import Final, NamedTuple

from msgspec import Struct
from msgspec.structs import replace

from runners.measure.request import Start

MOST_FILES: Final = 60_000
"""A virtual environment with CUDA's libraries has 40,000."""
MOST_BYTES: Final = 4 << 30
"""Of a file that is no model; CUDA's libraries have up to 2 GiB."""
SYSTEM: Final = ("/bin", "/lib", "/lib32", "/lib64", "/nix/store", "/proc", "/sbin", "/sys", "/usr")
"""The operating system's: its package manager, or the kernel, knows what is there. `/usr/local` is a person's."""
_OURS: Final = "/usr/local"
CODE: Final = frozenset(
    (
        *(
            ".bash",
            ".bat",
            ".cjs",
            ".cts",
            ".fish",
            ".js",
            ".jsx",
            ".lua",
            ".mjs",
            ".mts",
            ".php",
            ".pl",
            ".py",
        ),
        *(".pyc", ".pyw", ".pyz", ".r", ".rb", ".sh", ".so", ".ts", ".tsx", ".wasm", ".zsh"),
    )
)
"""Suffixes of files that are run."""


Facts = tuple[int, int, int, int, int]
"""Device, number, size, time of the contents and time of the last change of a file, as the kernel says."""
UNREADABLE: Final = "unreadable"
_BLOCK: Final = 1 << 20
_SKIPPED: Final = frozenset(
    {"__pycache__", ".git", ".hg", ".svn", ".mypy_cache", ".pytest_cache", ".ruff_cache"}
)


class Part(Struct, frozen=True, array_like=True):
    """Holds one part: its role, its digest, and the facts of its file.

    The command itself has no facts, and neither has a file that was written to while it was read.
    """

    role: str
    digest: str
    facts: Facts | None = None


class Recorded(NamedTuple):
    """Holds what an installer has recorded of a file: it counts if the file was not changed after `until_ns`."""

    digest: str
    size: int
    until_ns: int


class Parts:
    """Collects files by their real paths, each digested, with the first role that it was found in.

    A file of which the kernel says the same as when it was `known` is not read again: the time of its last change is
    the kernel's own, and no program sets it.
    """

    def __init__(self, known: Mapping[str, Part] | None = None) -> None:
        self.found: dict[str, Part] = {}
        self.left_out: dict[str, None] = {}
        self.recorded: dict[str, Recorded] = {}
        self._known = known or {}

    def add(self, path: Path | str, role: str) -> bool:
        """Take a file; False if it is none, is the system's, or is known already."""
        real = os.path.realpath(path)
        return not is_system(real) and os.path.isfile(real) and self._take(real, role)  # noqa: PTH113

    def leave_out(self, sentence: str) -> None:
        """Say that something is not looked at."""
        self.left_out[sentence] = None

    def rename(self, path: Path | str, role: str) -> None:
        """Give a file that was taken another role."""
        real = os.path.realpath(path)
        if part := self.found.get(real):
            self.found[real] = replace(part, role=role)

    def tree(
        self, folder: Path | str, role: str, suffixes: Collection[str] = (), skip: Collection[str] = ()
    ) -> list[str]:
        """Take the files below a folder, those with the suffixes; return their paths. Links to folders stay out."""
        taken: list[str] = []
        real = os.path.realpath(folder)
        waiting = [] if is_system(real) else [real]
        while waiting:
            try:
                entries = sorted(os.scandir(waiting.pop()), key=lambda entry: entry.name)
            except OSError:
                continue
            for entry in entries:
                name = entry.name
                if entry.is_dir(follow_symlinks=False):
                    if name not in _SKIPPED and name not in skip:
                        waiting.append(entry.path)
                elif not suffixes or name[name.rfind(".") :] in suffixes:
                    is_new = (
                        self.add(entry.path, role) if entry.is_symlink() else self._take(entry.path, role)
                    )
                    if is_new:
                        taken.append(entry.path)
        return taken

    def _take(self, real: str, role: str) -> bool:
        if real in self.found:
            return False
        if len(self.found) >= MOST_FILES:
            self.leave_out(f"more than {MOST_FILES} files: those after them are not looked at")
            return False
        self.found[real] = self._part(real, role)
        return True

    def _part(self, path: str, role: str) -> Part:
        known = self._known.get(path)
        try:
            status = os.stat(path)  # noqa: PTH116
            if known is not None and known.facts == _facts(status):
                return known if known.role == role else replace(known, role=role)
            said = self.recorded.get(path) if known is None else None
            if said and status.st_size == said.size and status.st_ctime_ns <= said.until_ns:
                return Part(role, said.digest, _facts(status))
            with FileIO(path, opener=_open_regular) as file:
                facts = _facts(os.fstat(file.fileno()))
                if role != "model" and facts[2] > MOST_BYTES:
                    self.leave_out(
                        f"{path}: over {MOST_BYTES >> 30} GiB, of which the size alone is looked at"
                    )
                    return Part(role, f"size {facts[2]}", facts)
                digest = _read(file)
                after = _facts(os.fstat(file.fileno()))
        except OSError:
            return Part(role, UNREADABLE)
        return Part(role, digest, facts if after == facts else None)


def _open_regular(path: str, flags: int) -> int:
    """Open a file, and nothing that would keep a reader waiting. Raises OSError."""
    descriptor = os.open(path, flags | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "it is no file", path)
    return descriptor


def _read(file: FileIO) -> str:
    """Return the digest of a file."""
    digest, buffer = sha256(), bytearray(_BLOCK)
    while count := file.readinto(buffer):
        digest.update(memoryview(buffer)[:count])
    return digest.hexdigest()


def _facts(status: os.stat_result) -> Facts:
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def is_system(path: str) -> bool:
    """Tell if a path belongs to the operating system."""
    if path.startswith(f"{_OURS}/"):
        return False
    return any(path == place or path.startswith(f"{place}/") for place in SYSTEM)


def program_of(start: Start) -> Path | None:
    """Return the file that a command runs, as exec finds it, with its links not yet followed."""
    if not start.command:
        return None
    name = start.command[0]
    place = str(Path(start.directory) / name) if "/" in name else name
    found = shutil.which(place, path=start.environment.get("PATH", os.defpath))
    return Path(found) if found else None


def text_of(path: Path | str, most: int) -> bytes:
    """Return the first bytes of a file; empty where it is none, or cannot be read."""
    try:
        with FileIO(str(path), opener=_open_regular) as file:
            return file.read(most)
    except OSError:
        return b""


def interpreter_line(path: Path) -> list[str]:
    """Return the words after `#!`; empty where a file has none."""
    first = text_of(path, 4096).split(b"\n", 1)[0]
    return first[2:].decode(errors="replace").split() if first.startswith(b"#!") else []


def named_files(words: Iterable[str], folder: Path) -> Iterator[Path]:
    """Yield the files that words name, from a folder: also behind `--option=` and inside of `-c 'words'`."""
    for word in words:
        candidates = [word, word.partition("=")[2]] if word.startswith("-") else [word]
        if any(mark in word for mark in " \n\t;"):
            candidates += _split(word)
        for one in candidates:
            if one and "\0" not in one and len(one) < 4096 and (path := folder / one).is_file():
                yield path


def _split(text: str) -> list[str]:
    try:
        return shlex.split(text.replace(";", " "), comments=True)
    except ValueError:
        return text.split()
