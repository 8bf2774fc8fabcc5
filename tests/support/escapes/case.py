"""Define an escape: its name, the walls that each hold it alone, and the try itself."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

Facts = dict[str, Any]
Try = Callable[[Facts], bool]


@dataclass(frozen=True, slots=True)
class Escape:
    """`outside` tells if a user's process gets there without any cell; `optional`, if only some kernels let it."""

    name: str
    walls: frozenset[str]
    attempt: Try
    outside: bool = True
    optional: bool = False


CASES: list[Escape] = []
LIBC = ctypes.CDLL(None, use_errno=True)


def escape(*walls: str, outside: bool = True, optional: bool = False) -> Callable[[Try], Try]:
    """Add a try to the list. It is out if it returns true; an error is a refusal."""

    def add(attempt: Try) -> Try:
        CASES.append(Escape(attempt.__name__, frozenset(walls), attempt, outside, optional))
        return attempt

    return add


def syscall(x86_64: int, aarch64: int, *arguments: Any) -> int:
    """Make a system call by its number on this machine. Raises OSError."""
    number = aarch64 if os.uname().machine == "aarch64" else x86_64
    words = [ctypes.c_long(word) if isinstance(word, int) else word for word in arguments]
    value = int(LIBC.syscall(ctypes.c_long(number), *words))
    if value < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return value


def read(path: str) -> str:
    with open(path, encoding="utf-8", errors="replace") as file:
        return file.read()


def write(path: str, text: str = "x") -> bool:
    with open(path, "a", encoding="utf-8") as file:
        file.write(text)
    return True
