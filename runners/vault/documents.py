"""Keep the documents of the knowledge vault: each change is a row, and the bytes are versions beside the store.

| change | the document is from then on | who |
|---|---|---|
| add | the bytes that were given | a person |
| append | its bytes and a text behind them | a session, where the configuration lets it |
| retract | not to be read; the reason is | a person |
| undo | as it was before the newest change that is not undone | a person |

No row is changed and no version is written twice, so an undo gives the same bytes back.
"""

from __future__ import annotations

import re
from base64 import b64encode
from dataclasses import dataclass
from typing import Any, Final

from runners.vault.errors import VaultError
from runners.vault.hidden import revealed
from runners.vault.passages import SUFFIXES, passages_of
from runners.vault.store import OPERATOR, By, Store
from runners.vault.versions import Versions

ADD, APPEND, RETRACT, UNDO = "add", "append", "retract", "undo"
NOTHING: Final = ""
"""The digest of a document that is not there."""
MOST_APPENDED: Final = 1 << 20
"""A session appends to no document above so many bytes: each append keeps a whole version."""
SHOWN_BYTES: Final = 40 << 10
MOST_WHOLE: Final = 4 << 20
PIECE_BYTES: Final = 1 << 20
_SEGMENT: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_. -]{0,63}")
_MOST_PATH: Final = 100
_SELECT: Final = (
    "SELECT id, path, version, kind, content, size, reason, created_at, author, session, tier, taint, turn"
    " FROM documents"
)


@dataclass(frozen=True, slots=True)
class Change:
    """One row of `documents`."""

    id: int
    path: str
    version: int
    kind: str
    content: str
    size: int
    reason: str
    at: float
    author: str
    session: str
    tier: int
    taint: int
    turn: str

    @property
    def shown(self) -> dict[str, Any]:
        """Return the change as a person sees it."""
        return {
            "version": self.version,
            "kind": self.kind,
            "sha256": self.content,
            "size": self.size,
            "reason": self.reason,
            "at": round(self.at, 3),
            "author": self.author,
            "session": self.session,
        }


class Documents:
    """The requests about documents; each is called within a batch's transaction."""

    def __init__(self, store: Store, versions: Versions) -> None:
        self.store = store
        self.versions = versions
        self.to_place: list[str] = []
        """Versions whose rows are in the transaction; `committed` gives them their places."""
        self.changed: set[str] = set()
        """The paths that the index has not followed yet."""
        versions.settle({row[0] for row in store.rows("SELECT DISTINCT content FROM documents")})

    def committed(self) -> None:
        """Place the versions whose rows are on the disk now. Raises OSError."""
        waiting, self.to_place = self.to_place, []
        for digest in waiting:
            self.versions.place(digest)

    def add(self, *, path: str, sha256: str, reason: str, order: str) -> dict[str, Any]:
        """Take the bytes that wait under a digest as a document's newest version. Raises VaultError."""
        _check_path(path)
        newest = self.newest(path)
        if newest is not None and newest.content == sha256:
            return {
                "sentence": f"{path} has these bytes already, as version {newest.version}",
                "version": newest.version,
            }
        data = self.versions.take(sha256)
        passages_of(path, data)
        version = self._append(By(OPERATOR, "", turn=order), path, ADD, sha256, len(data), reason)
        return {"sentence": f"{path} is version {version} from now on, {len(data)} bytes", "version": version}

    def append(self, by: By, *, path: str, text: str) -> dict[str, Any]:
        """Put a text behind a document, which is made where there is none. Raises VaultError."""
        _check_path(path)
        newest = self.newest(path)
        if newest is not None and newest.kind == RETRACT:
            raise _retracted(newest)
        before = b"" if newest is None or newest.content == NOTHING else self.versions.read(newest.content)
        joint = b"\n" if before and not before.endswith(b"\n") else b""
        data = before + joint + text.encode() + (b"" if text.endswith("\n") else b"\n")
        if len(data) > MOST_APPENDED:
            raise VaultError(
                f"{path} would have {len(data)} bytes; a session appends up to {MOST_APPENDED}",
                "append to another path",
            )
        passages_of(path, data)
        digest = self.versions.offer(data)
        version = self._append(by, path, APPEND, digest, len(data), "")
        return {"id": version}

    def retract(self, *, path: str, reason: str, order: str) -> dict[str, Any]:
        """Put a tombstone on a document. Raises VaultError."""
        self._live(path)
        version = self._append(By(OPERATOR, "", turn=order), path, RETRACT, NOTHING, 0, reason)
        return {"sentence": f"{path} is retracted; its versions are kept", "version": version}

    def undo(self, *, path: str, reason: str, order: str) -> dict[str, Any]:
        """Give a document the state before its newest change that is not undone. Raises VaultError."""
        standing = list[Change]()
        for change in self.history_of(path):
            if change.kind == UNDO:
                standing.pop()
            else:
                standing.append(change)
        if not standing:
            raise VaultError(f"{path}: every change is undone already", "epactl vault history tells what was")
        undone = standing.pop()
        back = standing[-1] if standing else None
        content, size = (back.content, back.size) if back is not None else (NOTHING, 0)
        if content != NOTHING:
            self.versions.read(content)
        version = self._append(By(OPERATOR, "", turn=order), path, UNDO, content, size, reason)
        now = (
            f"as version {back.version} was, to the byte"
            if back is not None and content
            else "not there any more"
        )
        what = f"the {undone.kind} of version {undone.version}"
        return {"sentence": f"{path}: {what} is undone; it is {now}", "version": version}

    def documents(self) -> dict[str, Any]:
        """Return the newest change of each document."""
        rows = self.store.rows(f"{_SELECT} ORDER BY path, id")
        newest = {change.path: change for change in (Change(*row) for row in rows)}
        return {"documents": [{"path": one.path, **one.shown} for one in newest.values()]}

    def history(self, *, path: str) -> dict[str, Any]:
        """Return a document's changes, oldest first. Raises VaultError."""
        return {"path": path, "changes": [change.shown for change in self.history_of(path)]}

    def piece(self, *, path: str, version: int = 0, offset: int = 0) -> dict[str, Any]:
        """Return bytes of a version from an offset on, as base64, after all were checked. Raises VaultError.

        Version 0 is the newest; `next` is where the rest begins, 0 behind the last piece.
        """
        changes = {change.version: change for change in self.history_of(path)}
        change = changes.get(version or max(changes))
        if change is None:
            raise VaultError(f"{path} has no version {version}", f"its versions are 1 to {max(changes)}")
        if change.content == NOTHING:
            raise _retracted(change)
        data = self.versions.read(change.content)
        end = offset + PIECE_BYTES
        piece = b64encode(data[offset:end]).decode()
        return {"path": path, **change.shown, "data": piece, "next": end if end < len(data) else 0}

    def get(self, by: By, *, path: str, name: str) -> dict[str, Any]:
        """Return a document for a session, of a long one the first bytes, as memory answers. Raises VaultError."""
        change = self._live(path)
        text = self.versions.read(change.content).decode()
        shown = text.encode()[:SHOWN_BYTES].decode(errors="ignore")
        source = f"vault {change.content[:16]}, {change.size} bytes"
        if len(shown) < len(text):
            source += f", of which these are the first {len(shown.encode())}; vault_search finds the rest"
        entity = {"name": name, "type": "document", "version": change.version, "source": source}
        answer = {
            "entity": entity,
            "observations": [{"text": revealed(shown), "at": round(change.at, 3)}],
            "relations": [],
        }
        return {**answer, "read": self.labels(by, [path])}

    def whole(self, by: By, *, path: str) -> dict[str, Any]:
        """Return a whole document, as a resource. Raises VaultError."""
        change = self._live(path)
        if change.size > MOST_WHOLE:
            raise VaultError(
                f"{path} has {change.size} bytes; a resource has up to {MOST_WHOLE}",
                "vault_search finds in it",
            )
        text = self.versions.read(change.content).decode()
        return {"text": revealed(text), "sha256": change.content, "read": self.labels(by, [path])}

    def newest(self, path: str) -> Change | None:
        """Return the newest change of a document; None if there was never one."""
        rows = self.store.rows(f"{_SELECT} WHERE path = ? ORDER BY id DESC LIMIT 1", path)
        return Change(*rows[0]) if rows else None

    def live(self) -> list[Change]:
        """Return the newest change of each document that may be read."""
        newest = f"{_SELECT} WHERE id IN (SELECT max(id) FROM documents GROUP BY path)"  # noqa: S608
        return [change for row in self.store.rows(newest) if (change := Change(*row)).content != NOTHING]

    def history_of(self, path: str) -> list[Change]:
        """Return a document's changes, oldest first. Raises VaultError."""
        rows = self.store.rows(f"{_SELECT} WHERE path = ? ORDER BY id", path)
        if not rows:
            raise _unknown(path)
        return [Change(*row) for row in rows]

    def labels(self, by: By, paths: list[str]) -> dict[str, Any]:
        """Return what reading these documents makes of the reader: the labels of the sessions that appended to them."""
        taint, lowest = 0, by.tier
        for path in dict.fromkeys(paths):
            rows = self.store.rows(
                "SELECT DISTINCT tier, taint FROM documents WHERE path = ? AND kind = ? AND session <> ?",
                *(path, APPEND, by.session),
            )
            for tier, label in rows:
                taint, lowest = taint | label, min(lowest, tier)
        return {"taint": taint, "lower": lowest < by.tier, "shared": False, "paths": sorted(set(paths))}

    def _live(self, path: str) -> Change:
        change = self.newest(path)
        if change is None:
            raise _unknown(path)
        if change.content == NOTHING:
            raise _retracted(change)
        return change

    def _append(self, by: By, path: str, kind: str, content: str, size: int, reason: str) -> int:
        version = int(self.store.one("SELECT max(version) FROM documents WHERE path = ?", path) or 0) + 1
        row = {"path": path, "version": version, "kind": kind, "content": content, "size": size}
        self.store.append("documents", by, **row, reason=reason)
        if content != NOTHING:
            self.to_place.append(content)
        self.changed.add(path)
        return version


def _check_path(path: str) -> None:
    """Raise VaultError for a path that is none."""
    names = path.split("/")
    if len(path) > _MOST_PATH or not all(_SEGMENT.fullmatch(name) and name[-1] not in ". " for name in names):
        raise VaultError(
            f"{path[:_MOST_PATH]!r} is no path of the vault",
            f"names of letters, digits, `_`, `-`, `.` and spaces, parted by `/`, {_MOST_PATH} characters at most",
        )
    if not path.endswith(SUFFIXES):
        raise VaultError(f"{path} has an ending that says no kind", f"there are {', '.join(SUFFIXES)}")


def _unknown(path: str) -> VaultError:
    return VaultError(
        f"the vault has no document {path[:_MOST_PATH]!r}", "epactl vault list names them; vault_search finds"
    )


def _retracted(change: Change) -> VaultError:
    if change.kind == RETRACT:
        return VaultError(
            f"{change.path} was retracted: {change.reason}", "a person gives it back: epactl vault undo"
        )
    return VaultError(f"{change.path} is not there: its adding was undone", "epactl vault add adds it again")
