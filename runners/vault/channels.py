"""Keep the channels between subsystems: messages in order, each with its author's tier and labels.

A session reads nothing of earlier sessions of its own subsystem: a channel is no memory.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from runners.vault.errors import VaultError
from runners.vault.hidden import revealed
from runners.vault.memory import ANSWER_BYTES
from runners.vault.store import By, Store

MOST_CHANNELS: Final = 256
_SEEN: Final = (
    "(m.session = ?1 OR (m.author <> ?2 AND m.author NOT IN (SELECT value FROM json_each(?3)))) AND m.session NOT IN"
    " (SELECT of_session FROM retractions WHERE of_session IS NOT NULL)"
)


class Channels:
    """The requests about channels; each is called within a batch's transaction."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def post(self, by: By, *, channel: str, text: str, reply_to: int | None = None) -> dict[str, Any]:
        """Append a message. Raises VaultError for a reply to nothing."""
        store = self._store
        if reply_to is not None:
            seen = f"SELECT 1 FROM messages m WHERE {_SEEN} AND m.channel = ?4 AND m.id = ?5"  # noqa: S608
            if store.one(seen, *_reader(by), channel, reply_to) is None:
                raise VaultError(
                    f"{channel} has no message {reply_to}", "comms_read shows the messages and their ids"
                )
        if store.one("SELECT 1 FROM messages WHERE channel = ? LIMIT 1", channel) is None:
            count = store.one("SELECT count(DISTINCT channel) FROM messages")
            if count >= MOST_CHANNELS:
                raise VaultError(
                    f"there are {count} channels, as many as there may be",
                    "post to one that comms_channels names",
                )
        return {"id": store.append("messages", by, channel=channel, text=text, reply_to=reply_to)}

    def read(self, by: By, *, channel: str, after: int = 0, limit: int = 50) -> dict[str, Any]:
        """Return the messages behind one, oldest first, as far as they fit."""
        rows = self._store.rows(
            "SELECT m.id, m.author, m.tier, m.created_at, m.text, m.reply_to, m.session, m.taint FROM messages m"  # noqa: S608
            f" WHERE {_SEEN} AND m.channel = ?4 AND m.id > ?5 ORDER BY m.id LIMIT ?6",
            *(*_reader(by), channel, after, limit + 1),
        )
        messages, left, taint, lowest = list[dict[str, Any]](), ANSWER_BYTES, 0, by.tier
        for number, author, tier, at, text, reply_to, session, label in rows[:limit]:
            shown = text if session == by.session else revealed(text)
            message = {"id": number, "from": author, "tier": tier, "at": round(at, 3), "text": shown}
            left -= len(msgspec.json.encode(message))
            if left < 0 and messages:
                break
            messages.append(message | ({} if reply_to is None else {"reply_to": reply_to}))
            if session != by.session:
                taint, lowest = taint | label, min(lowest, tier)
        answer: dict[str, Any] = {"messages": messages, "next": messages[-1]["id"] if messages else after}
        return {**answer, "read": {"taint": taint, "lower": lowest < by.tier, "shared": False}}

    def channels(self, by: By) -> dict[str, Any]:
        """Return the channels that have a visible message."""
        rows = self._store.rows(
            "SELECT m.channel, count(*), max(m.id) FROM messages m"  # noqa: S608
            f" WHERE {_SEEN} GROUP BY m.channel ORDER BY m.channel",
            *_reader(by),
        )
        return {"channels": [{"name": name, "messages": count, "last": last} for name, count, last in rows]}


def _reader(by: By) -> tuple[str, str, str]:
    """Return what the first parameters of a query of visible messages are."""
    return by.session, by.author, msgspec.json.encode(by.held).decode()
