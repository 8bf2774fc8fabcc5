"""Make the program that a first process becomes: a loop that reaps, of two pages instead of a Python's 2.6 MiB.

Every cell keeps one for as long as it lives. A forked interpreter would keep its own copy of each page that it has
touched (2.6 MiB, measured), and of all pages once the zygote is gone. There is no compiler where epad is installed, so
the program comes as machine code; `init.MACHINE.S` beside this file is its source, and a test assembles it again.

It reads no memory but its own 16 bytes of data, and makes three system calls: prctl for its name and for who may look
into it, wait4, exit_group.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Mapping
from typing import Final

NAME: Final = b"epad-cell"

CODE: Final[Mapping[str, bytes]] = {
    "x86_64": bytes.fromhex(
        "488d3571000000bf0f000000b89d0000000f058b355b000000bf04000000b89d0000000f058b1d4500000048c7c7ffff"
        "ffff488d7424f031d24531d2b83d0000000f0539d8751d8b7c24f089f883e07f74088db880000000eb03c1ef08b8e700"
        "00000f0583f8f675c2bf7d000000ebed"
    ),
    "aarch64": bytes.fromhex(
        "e1030010e00180d2e81480d2010000d441030018800080d2010000d4d3020018ff4300d100008092e1030091020080d2"
        "030080d2882080d2010000d41f00136b21010054e00340b901180072600000542000021102000014003c0853c80b80d2"
        "010000d41f280031e1fdff54a00f80d2fbffff17"
    ),
}
"""The program's instructions; its data follows: the pid of the cell's program, whether others may look in, its name."""

_ELF_MACHINES: Final = {"x86_64": 62, "aarch64": 183}
_BASE: Final = 0x400000
_HEADERS: Final = 64 + 56
_READ_AND_EXECUTE: Final = 5


def image(machine: str, program: int, *, dumpable: bool) -> bytes:
    """Return the program as an ELF file, for a child of this pid. Raises KeyError for another machine."""
    body = CODE[machine] + struct.pack("<ii", program, dumpable) + NAME + b"\0"
    size = _HEADERS + len(body)
    header = struct.pack(
        "<4s5B7xHHIQQQIHHHHHH",
        *(b"\x7fELF", 2, 1, 1, 0, 0),
        *(2, _ELF_MACHINES[machine], 1, _BASE + _HEADERS, 64, 0, 0, 64, 56, 1, 64, 0, 0),
    )
    segment = struct.pack("<IIQQQQQQ", 1, _READ_AND_EXECUTE, 0, _BASE, _BASE, size, size, 0x1000)
    return header + segment + body


def open_file() -> int:
    """Return an empty file of memory to write the program to, before a filter forbids such files. Raises OSError."""
    return os.memfd_create(NAME.decode(), os.MFD_CLOEXEC)


def become(file: int, program: int, *, name: str, marks: Mapping[str, str], dumpable: bool) -> None:
    """Become it, with these arguments and variables. Returns where this machine has no such program, or forbids it."""
    try:
        os.write(file, image(os.uname().machine, program, dumpable=dumpable))
        os.execve(file, [f"epad-cell: {name}"], dict(marks))  # noqa: S606
    except (KeyError, OSError):
        return  # vm.memfd_noexec may be 2, for one
