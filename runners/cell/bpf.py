"""Assemble a filter of system calls, or of packets, from instructions with labels, as classic BPF."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from typing import Final

LOAD: Final = 0x20
EQUALS: Final = 0x15
AT_LEAST: Final = 0x35
ANY_BIT: Final = 0x45
AND: Final = 0x54
RETURN: Final = 0x06

ALLOW: Final = 0x7FFF0000
_ERRNO: Final = 0x00050000

NUMBER_OFFSET: Final = 0
ARCHITECTURE_OFFSET: Final = 4


def errno_of(number: int) -> int:
    """Return the value of a filter that makes a call fail with this error."""
    return _ERRNO | number


def argument(index: int) -> int:
    """Return where the lower half of an argument lies: all of an int, on a machine with the lower byte first."""
    return 16 + 8 * index


@dataclass(frozen=True, slots=True)
class _Instruction:
    code: int
    value: int
    if_true: str
    if_false: str


@dataclass(slots=True)
class Program:
    """Collects instructions. A jump names a label further down; an empty one is the next instruction."""

    _instructions: list[_Instruction] = field(default_factory=list)
    _labels: dict[str, int] = field(default_factory=dict)

    def label(self, name: str) -> None:
        """Name the place of the next instruction. Raises ValueError for a second one of that name."""
        if name in self._labels:
            raise ValueError(f"label {name!r} is there twice")
        self._labels[name] = len(self._instructions)

    def load(self, offset: int, code: int = LOAD) -> None:
        """Load the word at an offset; by another code a byte, a half, or from behind a header."""
        self._add(code, offset)

    def mask(self, bits: int) -> None:
        self._add(AND, bits)

    def give(self, value: int) -> None:
        """End the filter with this value."""
        self._add(RETURN, value)

    def jump(self, code: int, value: int, if_true: str = "", if_false: str = "") -> None:
        self._add(code, value, if_true, if_false)

    def assemble(self) -> bytes:
        """Return the program. Raises KeyError for a label that is nowhere, ValueError for a jump too far or back."""
        lines = enumerate(self._instructions)
        return b"".join(
            struct.pack(
                "=HBBI", line.code, self._step(at, line.if_true), self._step(at, line.if_false), line.value
            )
            for at, line in lines
        )

    def __len__(self) -> int:
        return len(self._instructions)

    def _add(self, code: int, value: int, if_true: str = "", if_false: str = "") -> None:
        self._instructions.append(_Instruction(code, value, if_true, if_false))

    def _step(self, at: int, label: str) -> int:
        step = self._labels[label] - at - 1 if label else 0
        if not 0 <= step <= 255:
            raise ValueError(f"no jump reaches {label!r} from instruction {at}")
        return step
