"""Results that were too long for their answers, as resources of the session that made them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import msgspec

from epad.tools.protocol import Caller
from epad.tools.results import URI, ResultStore
from epad.tools.wire.resources import Content, Resource

_TEXT, _JSON = "text/plain", "application/json"


class ResultResources:
    """Implements `epad.tools.wire.resources.Resources`."""

    def __init__(self, store: ResultStore) -> None:
        self._store = store

    def listed(self, caller: Caller) -> Sequence[Resource]:
        """Return the results of the caller's session, oldest first."""
        return [
            Resource(
                one.uri,
                f"result {one.uri.removeprefix(URI)}",
                f"a whole result, {one.size} bytes of JSON",
                _JSON,
            )
            for one in self._store.listed(caller.session)
        ]

    def templates(self, caller: Caller) -> Sequence[Resource]:
        """Return none: a result is named where it was cut, and listed."""
        del caller
        return ()

    async def read(self, caller: Caller, uri: str) -> Content | None:
        """Return the whole of a result: a text as it is, anything else as JSON."""
        whole = await asyncio.to_thread(self._store.read, caller.session, uri)
        if whole is None:
            return None
        if whole.startswith(b'"'):
            return Content(uri, _TEXT, msgspec.json.decode(whole, type=str))
        return Content(uri, _JSON, whole.decode())
