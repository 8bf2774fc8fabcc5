"""Look for a secret's value wherever a machine keeps bytes: as it is, encoded, split over lines, or in an archive."""

from __future__ import annotations

import base64
import bz2
import gzip
import io
import json
import lzma
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, quote_from_bytes

import re2

_WRITTEN_BREAKS = (b"\\r", b"\\n", b"\\t")
_BETWEEN = bytes(range(33)) + b"\"'+,;|>\\-"
"""What a text that is split over lines, or over the strings of a program, has between its parts."""
_MOST_DEPTH = 4
_MOST_BYTES = 64 << 20
_OPENERS: dict[bytes, Callable[[bytes], bytes]] = {
    b"\x1f\x8b": gzip.decompress,
    b"BZh": bz2.decompress,
    b"\xfd7zXZ": lzma.decompress,
    b"x\x9c": zlib.decompress,
    b"x\xda": zlib.decompress,
}


@dataclass(frozen=True)
class Leak:
    """A place, and the form in which the value is there."""

    place: str
    form: str


class Scan:
    """Looks for values. A value has at least 12 characters, so that no chance finds one."""

    def __init__(self, *values: bytes) -> None:
        self._forms: list[tuple[str, bytes]] = []
        for value in values:
            assert len(value) >= 12
            self._forms += forms(value)
        # In a text whose separators are taken out, the value's own are not there either.
        self._joined = [(f"split {name}", joined(form)) for name, form in self._forms]
        self._any, self._any_joined = _one_of(self._forms), _one_of(self._joined)
        self.bytes = 0
        """How much was looked at."""
        self.places = 0

    def look(self, place: str, data: bytes, depth: int = 0) -> Iterator[Leak]:
        """Yield the forms in which a value is in these bytes, or in what they are an archive of."""
        self.bytes += len(data)
        self.places += 1
        found = []
        if self._any.search(data):
            found = [name for name, form in self._forms if form in data]
        elif self._any_joined.search(bare := joined(data)):
            found = [name for name, form in self._joined if form in bare]
        yield from (Leak(place, name) for name in dict.fromkeys(found))
        if depth < _MOST_DEPTH:
            for name, inner in opened(data):
                yield from self.look(f"{place}!{name}", inner, depth + 1)

    def file(self, path: Path) -> Iterator[Leak]:
        """Look into a file, and at its name."""
        yield from self.look(f"the name {path}", str(path).encode())
        try:
            data = path.read_bytes() if path.stat().st_size <= _MOST_BYTES else b""
        except OSError:
            return
        yield from self.look(str(path), data)

    def tree(self, directory: Path) -> Iterator[Leak]:
        """Look into each file below a directory."""
        for path in sorted(directory.rglob("*")):
            if path.is_file() and not path.is_symlink():
                yield from self.file(path)

    def process(self, pid: int, *, memory: bool) -> Iterator[Leak]:
        """Look at what /proc tells of a process; at all of its memory too, if so."""
        for name in ("environ", "cmdline", "comm", "status", "maps"):
            try:
                data = Path(f"/proc/{pid}/{name}").read_bytes()
            except OSError:
                continue
            yield from self.look(f"/proc/{pid}/{name}", data)
        if memory:
            yield from self.memory(pid)

    def memory(self, pid: int) -> Iterator[Leak]:
        """Look at the memory that a process can write to."""
        maps = Path(f"/proc/{pid}/maps").read_text().splitlines()
        with Path(f"/proc/{pid}/mem").open("rb", buffering=0) as mem:
            for line in maps:
                span, rights, *_ = line.split()
                if "rw" not in rights or "[v" in line:
                    continue
                first, last = (int(text, 16) for text in span.split("-"))
                try:
                    mem.seek(first)
                    data = mem.read(min(last - first, _MOST_BYTES))
                except (OSError, OverflowError):
                    continue
                self.bytes += len(data)
                self.places += 1
                if self._any.search(data):
                    found = [name for name, form in self._forms if form in data]
                    yield from (Leak(f"/proc/{pid}/mem {span}", name) for name in found)


def joined(data: bytes) -> bytes:
    """Return a text without what may stand between its parts."""
    for written in _WRITTEN_BREAKS:
        data = data.replace(written, b"")
    return data.translate(None, _BETWEEN)


def _one_of(texts: list[tuple[str, bytes]]) -> Any:
    """Return one expression for many texts: looked for one by one, they take a minute of a daemon's memory."""
    options = re2.Options()
    options.encoding = re2.Options.Encoding.LATIN1
    options.max_mem = 256 << 20
    return re2.compile(b"|".join(re2.escape(text) for _, text in texts), options)


def forms(value: bytes) -> list[tuple[str, bytes]]:
    """Return the forms of a value that are looked for."""
    text = value.decode("latin-1")
    found = [
        ("plain", value),
        ("hex", value.hex().encode()),
        ("HEX", value.hex().upper().encode()),
        ("utf-16", text.encode("utf-16-le")),
        ("URL", quote(text, safe="").encode()),
        ("every byte URL", "".join(f"%{byte:02X}" for byte in value).encode()),
        ("every byte url", "".join(f"%{byte:02x}" for byte in value).encode()),
        ("json", json.dumps(text)[1:-1].encode()),
        ("backwards", value[::-1]),
        ("escaped", "".join(f"\\x{byte:02x}" for byte in value).encode()),
        ("quoted twice", quote(quote_from_bytes(value, safe=""), safe="").encode()),
    ]
    for alphabet, encode in (("base64", base64.b64encode), ("base64url", base64.urlsafe_b64encode)):
        found += [(f"{alphabet} at {shift}", form) for shift, form in _base64_forms(value, encode)]
    found.append(("base32", base64.b32encode(value).rstrip(b"=")[:-1]))
    seen: dict[bytes, str] = {}
    for name, form in found:
        seen.setdefault(form, name)
    return [(name, form) for form, name in seen.items()]


def _base64_forms(value: bytes, encode: Callable[[bytes], bytes]) -> Iterator[tuple[int, bytes]]:
    """Yield what of a value's base64 does not depend on its neighbours, wherever in a text it begins."""
    for shift in range(3):
        coded = encode(b"\0" * shift + value).rstrip(b"=")
        first = -(-shift * 8 // 6)
        whole = (shift + len(value)) * 8 // 6
        yield shift, coded[first:whole]


def opened(data: bytes) -> Iterator[tuple[str, bytes]]:
    """Yield what an archive holds."""
    for magic, opener in _OPENERS.items():
        if data.startswith(magic):
            try:
                yield "inside", opener(data)
            except (OSError, EOFError, ValueError, lzma.LZMAError, zlib.error):
                return
    if data.startswith(b"PK\x03\x04"):
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            yield from ((one, archive.read(one)) for one in archive.namelist())
    if data[257:262] == b"ustar":
        with tarfile.open(fileobj=io.BytesIO(data)) as packed:
            for member in packed:
                if member.isfile() and (file := packed.extractfile(member)) is not None:
                    yield member.name, file.read()
