"""Serve the vault's documents as resources that are only read: `epad://vault/PATH`.

A reading is no call of a tool, so it has checks of its own: a subsystem that is held reads nothing, nobody reads while
the vault is held, a retracted document is refused in words; and the session gets the document's labels before its text.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Final

from epad.gate.tool_table import Taint
from epad.tools.own import OwnCall, OwnToolError
from epad.tools.protocol import Caller
from epad.tools.sessions import Origin, Session
from epad.tools.wire.messages import INVALID_REQUEST, ProtocolError
from epad.tools.wire.resources import Content, Resource
from epad.vault.answers import URI, House
from epad.vault.child import VaultChild

_MIME: Final = {".md": "text/markdown", ".markdown": "text/markdown", ".json": "application/json"}
_TEMPLATE: Final = Resource(
    URI + "{path}", "a document of the vault", "read-only; vault_search finds the path", "text/plain"
)


class VaultResources:
    """Implements `epad.tools.wire.resources.Resources`. `session_of` finds a subsystem's session.

    `label_counts` waits until the labels that a session had not before are on record and obeyed.
    """

    def __init__(
        self,
        child: VaultChild,
        house: House,
        session_of: Callable[[str], Session],
        held: Callable[[str], str],
        label_counts: Callable[[Session, Taint], Awaitable[None]],
    ) -> None:
        self._label_counts = label_counts
        self._child = child
        self._house = house
        self._session_of = session_of
        self._held = held

    def listed(self, caller: Caller) -> Sequence[Resource]:
        """Return none: documents are many, and a search names them."""
        del caller
        return ()

    def templates(self, caller: Caller) -> Sequence[Resource]:
        """Return the one family."""
        del caller
        return (_TEMPLATE,)

    async def read(self, caller: Caller, uri: str) -> Content | None:
        """Return a document's text. Raises ProtocolError that says why there is none."""
        if why := self._held(caller.subsystem):
            raise ProtocolError(INVALID_REQUEST, why)
        session = self._session_of(caller.subsystem)
        call = OwnCall(session, "", {})
        path = uri.removeprefix(URI)
        try:
            self._house.require_open()
            found = await self._child.ask(
                "vault_whole", {"by": self._house.by(call), "arguments": {"path": path}}
            )
        except OwnToolError as error:
            raise ProtocolError(INVALID_REQUEST, "; ".join(filter(None, (str(error), error.hint)))) from error
        before = session.taint
        self._house.label(session, found["read"], Origin(uri))
        await self._label_counts(session, before)
        return Content(uri, _MIME.get(Path(path).suffix, "text/plain"), found["text"])
