"""Read the fields of a turn's record that have a column of their own, and no more of it."""

from __future__ import annotations

import msgspec
from msgspec import Struct

from epad.ledger.record import Kind, tag


class _Head(Struct, frozen=True, array_like=True, gc=False):
    turn: str
    subsystem: str
    wall_ns: int


class OpenedHead(_Head, frozen=True, array_like=True, gc=False, tag=tag(Kind.OPENED, 2)):
    """Holds the fields of a TurnOpened that have a column."""


class ClosedHead(_Head, frozen=True, array_like=True, gc=False, tag=tag(Kind.CLOSED, 2)):
    """The same of a TurnClosed."""


class ToolOpenedHead(_Head, frozen=True, array_like=True, gc=False, tag=tag(Kind.TOOL_OPENED, 1)):
    """The same of a ToolOpened."""


class ToolClosedHead(_Head, frozen=True, array_like=True, gc=False, tag=tag(Kind.TOOL_CLOSED, 1)):
    """The same of a ToolClosed."""


Head = OpenedHead | ClosedHead | ToolOpenedHead | ToolClosedHead
HEADS: dict[type[Head], Kind] = {
    OpenedHead: Kind.OPENED,
    ClosedHead: Kind.CLOSED,
    ToolOpenedHead: Kind.TOOL_OPENED,
    ToolClosedHead: Kind.TOOL_CLOSED,
}
HEADED = frozenset(HEADS.values())
"""The kinds of records that have a head."""
decode_head = msgspec.msgpack.Decoder(Head).decode
"""Read no more than that, of a turn's record in the present format. Raises msgspec's own errors."""
