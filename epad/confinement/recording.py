r"""Read a recording of strace: the files that a program's processes used, and whom they spoke to.

The recording is made with `-f -y -xx`: each line has the number of its process, each descriptor the path behind it, and
each text is hexadecimal, so that no file name is taken for a part of a line. A path without a directory's descriptor
counts from where its process is, which `AT_FDCWD</...>`, `chdir` and the process it came from tell.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final

from epad.confinement.dns_answer import read_answer

READS: Final = ("open", "openat", "openat2", "execve", "execveat")
WRITES: Final = (
    *("creat", "mkdir", "mkdirat", "rename", "renameat", "renameat2", "unlink", "unlinkat", "rmdir"),
    *("symlink", "symlinkat", "link", "linkat", "truncate", "chmod", "fchmodat", "chown", "lchown"),
    *("fchownat", "utimensat", "mknod", "mknodat"),
)
_MOVES: Final = ("chdir", "fchdir")
_FORKS: Final = ("clone", "clone3", "fork", "vfork")
_SPEAKS: Final = ("connect", "bind", "recvfrom")
_MOST_TEXT: Final = 1_024

# A call that this architecture does not have is left out: the question mark.
STRACE: Final = (
    *("strace", "-f", "--seccomp-bpf", "-qq", "-y", "-xx", "-s", str(_MOST_TEXT), "-e", "signal=none"),
    *("-e", "trace=" + ",".join(f"?{name}" for name in (*READS, *WRITES, *_MOVES, *_FORKS, *_SPEAKS))),
)
"""The recorder, less `-o FILE -- PROGRAM`. Only these calls stop the program (seccomp)."""

_LINE = re.compile(r"(\d+) +(.*)")
_UNFINISHED = " <unfinished ...>"
_RESUMED = re.compile(r"<\.\.\. \w+ resumed>(.*)")
_CALL = re.compile(r"(\w+)\((.*)\) += (-?\d+|\?)(.*)")
_PLACE = re.compile(r'(?:(?:AT_FDCWD|\d+)<([^>]*)>, )?"((?:\\x[0-9a-f]{2})*)"')
_HERE = re.compile(r"AT_FDCWD<([^>]*)>")
_BEHIND = re.compile(r"^\d*<([^>]*)>")
_PORT = re.compile(r"sin6?_port=htons\((\d+)\)")
_ADDRESS = re.compile(r'(?:inet_addr\(|inet_pton\(AF_INET6, )"([^"]*)"')
_UNIX = re.compile(r'sun_path="([^"]*)"')
_DNS_PORT: Final = 53


@dataclass
class Recording:
    """Holds the requests of a program: the paths that it read, listed and wrote, in their final form.

    `created` are those that it made itself, `passing` those of them that it removed again. `names` are the names that
    look-ups gave to addresses; `ports` those that it listened on.
    """

    read: set[str] = field(default_factory=set)
    listed: set[str] = field(default_factory=set)
    written: set[str] = field(default_factory=set)
    created: set[str] = field(default_factory=set)
    passing: set[str] = field(default_factory=set)
    connected: set[tuple[str, int]] = field(default_factory=set)
    sockets: set[str] = field(default_factory=set)
    names: dict[str, str] = field(default_factory=dict)
    ports: set[int] = field(default_factory=set)


def read_recording(lines: Iterable[str], directory: str) -> Recording:
    """Read a recording of a program that was started in a directory."""
    reader = _Reader(directory)
    for process, call in _whole_calls(lines):
        reader.take(process, call)
    return reader.found


def _whole_calls(lines: Iterable[str]) -> Iterator[tuple[int, str]]:
    """Yield each process and its call, put together where another's stood in between."""
    begun: dict[int, str] = {}
    for line in lines:
        match = _LINE.match(line)
        if match is None:
            continue
        process, text = int(match[1]), match[2].rstrip()
        if text.endswith(_UNFINISHED):
            begun[process] = text.removesuffix(_UNFINISHED)
        elif resumed := _RESUMED.match(text):
            yield process, begun.pop(process, "") + resumed[1]
        else:
            yield process, text


class _Reader:
    """Follows the processes of a recording from directory to directory."""

    def __init__(self, directory: str) -> None:
        self.found = Recording()
        self._first = directory
        self._directories: dict[int, str] = {}

    def take(self, process: int, text: str) -> None:
        """Take a call in; a line that is none, or a call that failed, changes nothing."""
        match = _CALL.match(text)
        if match is None:
            return
        name, arguments, result, rest = match.groups()
        if here := _HERE.search(arguments):
            self._directories[process] = _text(here[1])
        if name == "connect" and ("EINPROGRESS" in rest or "ECONNREFUSED" in rest or result == "0"):
            self._connect(arguments, succeeded=result == "0")
        if not result.startswith("-") and result != "?":
            self._take_success(process, name, arguments, f"{result}{rest}")

    def _take_success(self, process: int, name: str, arguments: str, result: str) -> None:
        if name in READS:
            self._open(process, arguments, result)
        elif name in WRITES:
            self._write(process, name, arguments)
        elif name in _MOVES:
            self._move(process, arguments)
        elif name in _FORKS:
            self._directories[int(result.split(maxsplit=1)[0])] = self._here(process)
        elif name == "bind":
            self.found.ports.update(int(port) for port in _PORT.findall(arguments))
        elif name == "recvfrom" and _port_of(arguments) == _DNS_PORT:
            data = _PLACE.search(arguments)
            self.found.names.update(read_answer(_bytes(data[2])) if data else {})

    def _here(self, process: int) -> str:
        return self._directories.get(process, self._first)

    def _places(self, process: int, arguments: str) -> list[str]:
        """Return the paths in a call's arguments."""
        return [
            os.path.normpath(os.path.join(self._here(process), _text(behind or ""), _text(path)))  # noqa: PTH118
            for behind, path in _PLACE.findall(arguments)
        ]

    def _open(self, process: int, arguments: str, result: str) -> None:
        place = self._places(process, arguments)[:1]
        if behind := _BEHIND.match(result):  # the file behind all links, as well as what was asked for
            place.append(_text(behind[1]))
        found = self.found
        if "O_WRONLY" in arguments or "O_RDWR" in arguments:
            found.written.update(place)
            self._create(place if "O_CREAT" in arguments else ())
        elif "O_DIRECTORY" in arguments:
            found.listed.update(place)
        else:
            found.read.update(place)

    def _write(self, process: int, name: str, arguments: str) -> None:
        places = self._places(process, arguments)
        if name.startswith("symlink"):
            places = places[1:]  # the first is only a text
        self.found.written.update(places)
        if name.startswith(("mkdir", "rename", "symlink", "link", "creat", "mknod")):
            self._create(places[-1:])
        if name.startswith(("unlink", "rmdir", "rename")):
            self.found.passing.update(self.found.created.intersection(places[:1]))

    def _create(self, places: Iterable[str]) -> None:
        self.found.created.update(places)
        self.found.passing.difference_update(places)

    def _move(self, process: int, arguments: str) -> None:
        behind = _BEHIND.match(arguments)
        places = [_text(behind[1])] if behind else self._places(process, arguments)
        self._directories[process] = places[0] if places else self._here(process)

    def _connect(self, arguments: str, *, succeeded: bool) -> None:
        if path := _UNIX.search(arguments):
            self.found.sockets.update([_text(path[1])] if succeeded else [])
        address, port = _ADDRESS.search(arguments), _port_of(arguments)
        if address and port not in {0, _DNS_PORT}:
            self.found.connected.add((_text(address[1]), port))


def _port_of(arguments: str) -> int:
    match = _PORT.search(arguments)
    return int(match[1]) if match else 0


def _bytes(escaped: str) -> bytes:
    return bytes.fromhex(escaped.replace("\\x", ""))


def _text(escaped: str) -> str:
    """Return a hexadecimal text; one that is none, such as `socket:[7]`, as it is."""
    try:
        return os.fsdecode(_bytes(escaped))
    except ValueError:
        return escaped
