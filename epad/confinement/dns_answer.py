"""Read the names and addresses out of a DNS answer (RFC 1035), as far as it is one."""

from __future__ import annotations

import ipaddress
import struct
from typing import Final

_HEADER: Final = struct.Struct("!6H")
_RECORD: Final = struct.Struct("!HHIH")
_A, _AAAA = 1, 28
_IS_ANSWER: Final = 0x8000
_POINTER: Final = 0xC0


def read_answer(message: bytes) -> dict[str, str]:
    """Return the name that was asked for, by each address of the answer; empty for any other message."""
    try:
        _, flags, questions, answers, _, _ = _HEADER.unpack_from(message)
        if not flags & _IS_ANSWER or questions != 1:
            return {}
        asked, at = _name(message, _HEADER.size)
        return dict.fromkeys(_addresses(message, at + 4, answers), asked)
    except (struct.error, IndexError, UnicodeDecodeError):
        return {}


def _addresses(message: bytes, at: int, records: int) -> list[str]:
    """Return the addresses of the records; those of an answer that was cut short, as far as it goes."""
    found = []
    for _ in range(records):
        _, at = _name(message, at)
        kind, _, _, length = _RECORD.unpack_from(message, at)
        at += _RECORD.size
        data = message[at : at + length]
        if (kind, len(data)) in {(_A, 4), (_AAAA, 16)}:
            found.append(str(ipaddress.ip_address(data)))
        at += length
    return found


def _name(message: bytes, at: int) -> tuple[str, int]:
    """Return a name without those parts that a pointer leads to, and where it ends."""
    labels: list[str] = []
    while length := message[at]:
        if length & _POINTER:
            return ".".join(labels), at + 2
        labels.append(message[at + 1 : at + 1 + length].decode("ascii"))
        at += 1 + length
    return ".".join(labels), at + 1
