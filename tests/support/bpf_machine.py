"""A machine for classic BPF, to ask a filter what it would do with a call. Checks each step as the kernel's does."""

from __future__ import annotations

import struct
from collections.abc import Sequence

from runners.cell import bpf


def verdict(code: bytes, architecture: int, number: int, arguments: Sequence[int] = ()) -> int:
    """Run a filter on one call, and return its value."""
    padded = [*arguments, *[0] * (6 - len(arguments))]
    data = struct.pack("=iIQ6Q", number, architecture, 0, *padded)
    instructions = [struct.unpack_from("=HBBI", code, at) for at in range(0, len(code), 8)]
    at, accumulator = 0, 0
    while True:
        operation, if_true, if_false, value = instructions[at]
        at += 1
        match operation:
            case bpf.LOAD:
                (accumulator,) = struct.unpack_from("=I", data, value)
            case bpf.AND:
                accumulator &= value
            case bpf.RETURN:
                return int(value)
            case _:
                at += if_true if _holds(operation, accumulator, value) else if_false


def _holds(operation: int, accumulator: int, value: int) -> bool:
    return {
        bpf.EQUALS: accumulator == value,
        bpf.AT_LEAST: accumulator >= value,
        bpf.ANY_BIT: bool(accumulator & value),
    }[operation]
