"""Ask the kernel for routes and rules of the network that we are in, over rtnetlink (rtnetlink(7))."""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Collection, Sequence
from typing import Final

LOCAL_TABLE: Final = 255
LOOPBACK_INDEX: Final = 1
"""The number of `lo`, which is the first interface of every network."""

_NEW_ROUTE: Final = 24
_NEW_RULE: Final = 32
_DELETE_RULE: Final = 33
_REQUEST: Final = 0x1 | 0x4  # NLM_F_REQUEST | NLM_F_ACK
_CREATE: Final = 0x200 | 0x400  # NLM_F_EXCL | NLM_F_CREATE
_HEADER: Final = struct.Struct("=IHHII")
_BODY: Final = struct.Struct("=BBBBBBBBI")  # struct rtmsg, and struct fib_rule_hdr, which has the same shape
_SCOPE_HOST: Final = 254
_TYPE_LOCAL: Final = 2
_BY_STATIC: Final = 4
_TO_TABLE: Final = 1
_ANSWER_BYTES: Final = 1 << 14


def local_route(family: int, table: int) -> bytes:
    """Return the request that makes every address one of `lo`, reached from the loopback address."""
    source = socket.inet_pton(family, "127.0.0.1" if family == socket.AF_INET else "::1")
    body = _BODY.pack(family, 0, 0, 0, table, _BY_STATIC, _SCOPE_HOST, _TYPE_LOCAL, 0)
    attributes = _number(15, table) + _number(4, LOOPBACK_INDEX) + _attribute(7, source)
    return _message(_NEW_ROUTE, _REQUEST | _CREATE, body + attributes)


def rule(
    family: int, priority: int, table: int, *, protocol: int = 0, port: int = 0, to: tuple[str, int] = ("", 0)
) -> bytes:
    """Return the request of a rule: packets of this protocol, port and destination are routed by this table."""
    address, bits = to
    attributes = _number(6, priority) + _number(15, table)
    if protocol:
        attributes += _attribute(22, bytes([protocol]))
    if port:
        attributes += _attribute(24, struct.pack("=HH", port, port))
    if address:
        attributes += _attribute(1, socket.inet_pton(family, address))
    body = _BODY.pack(family, bits, 0, 0, table, 0, 0, _TO_TABLE, 0)
    return _message(_NEW_RULE, _REQUEST | _CREATE, body + attributes)


def first_rule_deleted(family: int) -> bytes:
    """Return the request that deletes the rule of priority 0, by which every packet is routed by the local table."""
    body = _BODY.pack(family, 0, 0, 0, LOCAL_TABLE, 0, 0, _TO_TABLE, 0)
    return _message(_DELETE_RULE, _REQUEST, body + _number(6, 0) + _number(15, LOCAL_TABLE))


def ask(requests: Sequence[bytes], *, but_for: Collection[int] = ()) -> None:
    """Make requests in one go. Raises OSError of the first that is refused, unless its error is in `but_for`."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, 0) as link:
        link.send(b"".join(requests))
        left = len(requests)
        while left:
            for number in _answers(link.recv(_ANSWER_BYTES)):
                left -= 1
                if number and number not in but_for:
                    raise OSError(number, f"routes: {os.strerror(number)}")


def _answers(text: bytes) -> list[int]:
    """Return the error numbers of the answers in a message, 0 for what was done."""
    numbers, at = [], 0
    while at + _HEADER.size + 4 <= len(text):
        length = _HEADER.unpack_from(text, at)[0]
        numbers.append(-struct.unpack_from("=i", text, at + _HEADER.size)[0])
        at += max(_aligned(length), _HEADER.size)
    return numbers or [errno.EPROTO]


def _message(kind: int, flags: int, body: bytes) -> bytes:
    return _HEADER.pack(_HEADER.size + len(body), kind, flags, 1, 0) + body


def _number(kind: int, value: int) -> bytes:
    return _attribute(kind, struct.pack("=I", value))


def _attribute(kind: int, value: bytes) -> bytes:
    text = struct.pack("=HH", 4 + len(value), kind) + value
    return text + b"\0" * (_aligned(len(text)) - len(text))


def _aligned(length: int) -> int:
    return (length + 3) & ~3
