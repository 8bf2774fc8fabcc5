"""The store of `runners/vault`, asked as its child is asked; in this process, so that a test sees its file too."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from runners.vault.damage import open_store
from runners.vault.serve import Server
from runners.vault.store import Quotas, Store

A, B = "a" * 32, "b" * 32
"""Two sessions."""


class RefusedError(Exception):
    """A request that was refused: the error and its hint."""

    def __init__(self, error: str, hint: str) -> None:
        super().__init__(error)
        self.hint = hint


@dataclass
class Desk:
    """Asks one store."""

    path: Path
    quotas: Quotas | None = None
    now: float = 1_800_000_000.0
    store: Store = field(init=False)
    server: Server = field(init=False)

    def __post_init__(self) -> None:
        self.open()

    def open(self) -> None:
        self.store = open_store(self.path, self.quotas, lambda: self.now)
        self.server = Server(self.store, self.path, self.path.parent / "documents")

    def close(self) -> None:
        self.store.connection.close()

    def again(self) -> None:
        """As another life of the child finds it."""
        self.close()
        self.open()

    def ask(
        self,
        tool: str,
        session: str = A,
        *,
        author: str = "chat",
        tier: int = 2,
        taint: int = 0,
        shared: bool = False,
        **arguments: Any,
    ) -> dict[str, Any]:
        """Return the result. Raises RefusedError."""
        by = {
            "author": author,
            "session": session,
            "tier": tier,
            "taint": taint,
            "turn": "t",
            "shared": shared,
        }
        return self.order(tool, by=by, arguments=arguments)

    def order(self, request: str, **arguments: Any) -> dict[str, Any]:
        """Return the result of a person's order. Raises RefusedError."""
        [answer] = self.server.group([frame(1, request, arguments)])
        if "error" in answer:
            raise RefusedError(answer["error"], answer["hint"])
        result: dict[str, Any] = answer["result"]
        return result

    def remember(self, name: str, content: str, session: str = A, **more: Any) -> dict[str, Any]:
        return self.ask("memory_store", session, name=name, content=content, **more)

    def names(self, session: str = A, **more: Any) -> list[str]:
        return [one["name"] for one in self.ask("memory_list", session, **more)["entities"]]

    def found(self, query: str, session: str = A, **more: Any) -> list[str]:
        return [one["text"] for one in self.ask("memory_search", session, query=query, **more)["results"]]


def frame(number: int, request: str, arguments: dict[str, Any]) -> bytes:
    return msgspec.json.encode({"id": number, "tool": request, "arguments": arguments})
