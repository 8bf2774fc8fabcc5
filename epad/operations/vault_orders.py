"""Show the knowledge vault's documents, add, retract and undo: a person's orders. Agents come by the gate alone."""

from __future__ import annotations

import asyncio
import binascii
import os
import secrets
from base64 import b64decode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import msgspec

from epad import EpadError
from epad.answers.vault import DocumentHistory, DocumentPiece, VaultList, VaultProof
from epad.ledger.errors import LedgerError
from epad.operations.protocol import ConflictError
from epad.tools.own import OwnToolError
from epad.vault.child import VaultChild
from epad.vault.watch import UnsoundError, Watch


@dataclass(frozen=True, slots=True)
class VaultOrders:
    """Asks the child that keeps the vault; None in a daemon without tools. Each method raises ConflictError."""

    child: VaultChild | None
    watch: Watch | None

    async def show(self) -> VaultList:
        """Return the documents, and the faults of the newest look."""
        found = await self._ask("vault_list", {})
        return msgspec.convert({**found, "faults": self._watch().faults}, VaultList)

    async def piece(self, document: str, version: str | None, offset: str | None) -> DocumentPiece:
        """Return bytes of a version of a document."""
        wanted = {"version": _whole("version", version), "offset": _whole("offset", offset)}
        return msgspec.convert(await self._ask("vault_show", {"path": document, **wanted}), DocumentPiece)

    async def history(self, document: str) -> DocumentHistory:
        """Return the changes of a document."""
        return msgspec.convert(await self._ask("vault_history", {"path": document}), DocumentHistory)

    async def verify(self) -> VaultProof:
        """Read all of the vault now."""
        try:
            check = await self._watch().look(full=True)
        except OwnToolError as error:
            raise ConflictError(str(error), error.hint) from error
        except LedgerError as error:
            raise ConflictError(f"the ledger cannot be read: {error}", "epactl ledger verify") from error
        return {"faults": check.faults, "rows": check.size, "versions": check.versions}

    async def add(self, document: str, body: Mapping[str, Any], reason: str, by: str) -> str:
        """Take a piece of a document; with the last one, add it. Return a sentence."""
        if self.child is None:
            raise _no_tools()
        try:
            data = b64decode(body["data"], validate=True)
            is_whole = await asyncio.to_thread(_piece, self.child.documents, body, data)
        except (ValueError, binascii.Error) as error:
            raise ConflictError(
                f"{document}: {error}", "send the pieces in their order, in base64"
            ) from error
        except OSError as error:
            raise ConflictError(
                f"{document} cannot be kept: {error.strerror}", "free space on its disk"
            ) from error
        if not is_whole:
            return f"{body['offset'] + len(data)} of {body['size']} bytes of {document}"
        return await self._change("vault_add", {"path": document, "sha256": body["sha256"]}, reason, by)

    async def retract(self, document: str, reason: str, by: str) -> str:
        """Put a tombstone on a document; return a sentence."""
        return await self._change("vault_retract", {"path": document}, reason, by)

    async def undo(self, document: str, reason: str, by: str) -> str:
        """Take back the newest change of a document; return a sentence."""
        return await self._change("vault_undo", {"path": document}, reason, by)

    async def accept(self, by: str) -> Sequence[str]:
        """Take the vault as it is; return the faults that are accepted."""
        try:
            return await self._watch().accept(by)
        except (OwnToolError, LedgerError) as error:
            raise ConflictError(str(error)) from error

    async def _change(self, request: str, arguments: Mapping[str, object], reason: str, by: str) -> str:
        """Have the rows of an order appended, between two roots in the ledger."""
        watch, order = self._watch(), secrets.token_hex(16)
        try:
            await watch.before_order(by)
        except UnsoundError as error:
            hint = "epactl vault verify; epactl checkpoint restore, or epactl datastore accept vault"
            raise ConflictError(str(error), hint) from error
        except (OwnToolError, LedgerError) as error:
            raise ConflictError(f"nothing was ordered: {error}") from error
        try:
            answer = await self._ask(request, {**arguments, "reason": reason, "order": order})
        finally:
            await watch.settle()
        return str(answer["sentence"])

    def _watch(self) -> Watch:
        if self.watch is None:
            raise _no_tools()
        return self.watch

    async def _ask(self, request: str, arguments: Mapping[str, object]) -> dict[str, Any]:
        if self.child is None:
            raise _no_tools()
        try:
            return await self.child.ask(request, arguments)
        except OwnToolError as error:
            raise ConflictError(str(error), error.hint) from error
        except msgspec.ValidationError as error:
            raise EpadError(f"the vault answers what it never does: {error}") from error


def _piece(documents: Path, body: Mapping[str, Any], data: bytes) -> bool:
    """Keep a piece of an upload; tell if the document is whole and waits for its row. Raises OSError, ValueError."""
    digest, incoming = body["sha256"], documents / "incoming"
    incoming.mkdir(mode=0o700, parents=True, exist_ok=True)
    part = incoming / f"{digest}.part"
    descriptor = os.open(part, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "r+b") as file:
        if file.seek(0, os.SEEK_END) < body["offset"]:
            raise ValueError(f"a piece at {body['offset']} came before those in front of it")
        file.truncate(body["offset"])
        file.seek(body["offset"])
        file.write(data)
        end = body["offset"] + len(data)
        if end > body["size"]:
            raise ValueError(f"it has {end} bytes, more than the {body['size']} that were told")
        if end < body["size"]:
            return False
        file.flush()
        os.fsync(file.fileno())
        file.seek(0)
        actual = sha256(file.read()).hexdigest()
    if actual != digest:
        part.unlink()
        raise ValueError(f"its SHA-256 is {actual}, not {digest}")
    part.rename(incoming / digest)
    return True


def _whole(name: str, text: str | None) -> int:
    if text is None:
        return 0
    if not text.isdecimal() or len(text) > 12:
        raise ConflictError(f"{name} is {text[:40]!r}", "give a whole number")
    return int(text)


def _no_tools() -> ConflictError:
    return ConflictError("there are no tools, and so no vault", "`[tools] enabled = true` gives them")
