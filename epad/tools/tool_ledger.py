"""Define the part of the ledger that tools are recorded in; `epad.ledger.store.Ledger` implements it."""

from __future__ import annotations

import asyncio
from typing import Protocol

from epad.ledger.entry import CloseTool, NoteLabel, NoteSession, OpenTool
from epad.ledger.record import ToolOpened


class ToolLedger(Protocol):
    """The part of the ledger that tools are recorded in."""

    def open_tool(self, tool: OpenTool) -> asyncio.Future[int]: ...

    def close_tool(self, tool: CloseTool, *, lazily: bool = False) -> asyncio.Future[int]: ...

    def note_session(self, session: NoteSession) -> asyncio.Future[int]: ...

    def note_label(self, label: NoteLabel) -> asyncio.Future[int]: ...

    async def unclosed_tools(self) -> list[ToolOpened]: ...

    @property
    def epoch(self) -> int: ...
