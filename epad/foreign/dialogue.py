"""Find out which era of MCP a server speaks, list its tools, and call one, whatever carries the messages.

| the server | how it is spoken to |
|---|---|
| answers `server/discover` with 2026-07-28 among its versions | stateless: version and capabilities in each request |
| answers that with an error, or not at all | `initialize` with 2025-11-25; its own version, if that is known here |
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

import msgspec

from epad import __version__
from epad.foreign.definitions import MOST_TOOLS, Pinned, UnfitError, read_tool
from epad.foreign.errors import AnswerError, ServerError, ServerLostError
from epad.tools.shown import cut
from runners.tools.visible import visible

MODERN: Final = "2026-07-28"
LATEST_LEGACY: Final = "2025-11-25"
LEGACY: Final = frozenset({LATEST_LEGACY, "2025-06-18", "2025-03-26", "2024-11-05"})
MOST_PAGES: Final = 64
MOST_LIST_BYTES: Final = 4 << 20
_PREFIX: Final = "io.modelcontextprotocol/"
_CLIENT: Final = {"name": "epad", "version": __version__}
_LIST: Final = "tools/list"
_MOST_IDENTITY: Final = 200
_PROBE_SECONDS: Final = 5.0
"""A server that says nothing to `server/discover` is asked in the older way after this."""


class Asking(Protocol):
    """The connection, as far as a dialogue goes. `epad/foreign/peer.py` is one, `http.py` another."""

    async def ask(self, method: str, params: Mapping[str, Any], seconds: float) -> dict[str, Any]:
        """Return the result of a request. Raises ServerError."""
        ...

    async def told(self, method: str) -> None:
        """Send a notification. Raises ServerError."""
        ...

    def speak(self, version: str) -> None:
        """Take note of the version that is spoken from now on."""
        ...


@dataclass(frozen=True, slots=True)
class Seen:
    """Holds what a server says of itself: its version of the protocol, its identity, its tools, and those left out."""

    version: str
    identity: str
    tools: tuple[Pinned, ...] = ()
    unfit: tuple[str, ...] = ()


@dataclass(slots=True)
class Dialogue:
    """A conversation with one server, from its beginning."""

    asking: Asking
    version: str = ""
    identity: str = ""
    _meta: dict[str, Any] = field(default_factory=dict)

    async def begin(self, seconds: float, *, era: str = "") -> None:
        """Find the era, and greet; `era` is the version spoken before, which is tried first. Raises ServerError."""
        if era in LEGACY:
            try:
                await self._initialize(seconds)
            except AnswerError:
                if not await self._discover(seconds, is_known=True):
                    raise
        elif not await self._discover(seconds, is_known=era == MODERN):
            await self._initialize(seconds)

    async def list(self, seconds: float) -> Seen:
        """Return the server's tools, from all pages. Raises ServerError."""
        tools: dict[str, Pinned] = {}
        unfit: list[str] = []
        cursor, size = None, 0
        for _ in range(MOST_PAGES):
            try:
                page = await self._ask(_LIST, {} if cursor is None else {"cursor": cursor}, seconds)
            except AnswerError as error:
                if error.code == -32601 and cursor is None:  # a server without tools has no such method
                    break
                raise
            size += len(msgspec.json.encode(page))
            listed = page.get("tools")
            if not isinstance(listed, list):
                raise ServerError("its list of tools is none")
            if len(tools) + len(unfit) + len(listed) > MOST_TOOLS or size > MOST_LIST_BYTES:
                raise ServerError(f"its list has more than {MOST_TOOLS} tools, or {MOST_LIST_BYTES} bytes")
            _take(listed, tools, unfit)
            cursor = page.get("nextCursor")
            if not isinstance(cursor, str) or not cursor:
                break
        else:
            raise ServerError(f"its list has more than {MOST_PAGES} pages")
        return Seen(self.version, self.identity, tuple(tools.values()), tuple(unfit))

    async def call(self, tool: str, arguments: Mapping[str, Any], seconds: float) -> dict[str, Any]:
        """Return the result of a tool, as the server gives it. Raises ServerError."""
        return await self._ask("tools/call", {"name": tool, "arguments": arguments}, seconds)

    async def ping(self, seconds: float) -> None:
        """Find out if the server still answers. Raises ServerError."""
        await self._ask("server/discover" if self.version == MODERN else "ping", {}, seconds)

    async def _ask(self, method: str, params: Mapping[str, Any], seconds: float) -> dict[str, Any]:
        return await self.asking.ask(method, {**params, **self._meta}, seconds)

    async def _discover(self, seconds: float, *, is_known: bool) -> bool:
        """Ask what it speaks; False if that is not of this era."""
        meta = {
            f"{_PREFIX}protocolVersion": MODERN,
            f"{_PREFIX}clientCapabilities": {},
            f"{_PREFIX}clientInfo": _CLIENT,
        }
        self.asking.speak(MODERN)
        wait = seconds if is_known else min(seconds, _PROBE_SECONDS)
        try:
            answer = await self.asking.ask("server/discover", {"_meta": meta}, wait)
        except ServerLostError:
            raise
        except ServerError:  # of the protocol, of HTTP, or no answer at all
            return False
        versions = answer.get("supportedVersions")
        if not isinstance(versions, list) or MODERN not in versions:
            return False
        told = answer.get("_meta")
        self.version, self._meta = MODERN, {"_meta": meta}
        self.identity = _identity(told.get(f"{_PREFIX}serverInfo") if isinstance(told, dict) else None)
        return True

    async def _initialize(self, seconds: float) -> None:
        self.asking.speak("")
        params = {"protocolVersion": LATEST_LEGACY, "capabilities": {}, "clientInfo": _CLIENT}
        answer = await self.asking.ask("initialize", params, seconds)
        version = answer.get("protocolVersion")
        if version not in LEGACY:
            raise ServerError(f"it speaks version {str(version)[:40]!r} of MCP, which epad does not")
        self.version, self.identity = str(version), _identity(answer.get("serverInfo"))
        self.asking.speak(self.version)
        await self.asking.told("notifications/initialized")


def _take(listed: list[object], tools: dict[str, Pinned], unfit: list[str]) -> None:
    for each in listed:
        try:
            one = read_tool(each)
        except UnfitError as error:
            unfit.append(visible(str(error)))
            continue
        if one.name in tools:
            raise ServerError(f"its list has the tool {visible(one.name)[:80]!r} twice")
        tools[one.name] = one


def _identity(told: object) -> str:
    """Return a server's name and version in one line: what it claims to be."""
    if not isinstance(told, dict):
        return ""
    words = [str(told[key]) for key in ("name", "version") if isinstance(told.get(key), str | int | float)]
    return cut(visible(" ".join(words)), _MOST_IDENTITY)
