"""Serve requests from one socket, and commit them in groups: an answer is sent after its rows are on the disk.

The frames are those of workers (`runners/tools/frames.py`):

    {"id": 7, "tool": "memory_store", "arguments": {"by": {...}, "arguments": {...}}}
    {"id": 7, "result": {...}}        beside the tool's own fields: `read` and `head`
    {"id": 7, "error": "...", "hint": "...", "ended": "error"}

| request | is done |
|---|---|
| one that fails | not at all: its savepoint is rolled back, and the others of its group go on |
| a group that cannot be committed | not at all, and each of its requests is told so |
| the input ends | the group that was read is done, and the process ends |
"""

from __future__ import annotations

import os
import select
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import apsw
import msgspec

from runners.tools.frames import FrameError, Reader, Request, frame, parse
from runners.vault import chain
from runners.vault.channels import Channels
from runners.vault.documents import Documents
from runners.vault.echo import Recalled
from runners.vault.errors import VaultError
from runners.vault.index import Index
from runners.vault.look import Look
from runners.vault.memory import Memory
from runners.vault.orders import Orders
from runners.vault.recall import Recall
from runners.vault.store import By, Store
from runners.vault.tasks import Tasks
from runners.vault.versions import Versions

_READ_BYTES: Final = 1 << 18
_MOST_AT_ONCE: Final = 256

Deed = Callable[..., dict[str, Any]]


class Server:
    """Does the requests of one socket on one store."""

    def __init__(self, store: Store, path: Path, directory: Path) -> None:
        self._store = store
        self.is_torn = False
        self._documents = documents = Documents(store, Versions(directory))
        self._index = index = Index(documents)
        self._look = look = Look(path, store, documents.versions)
        memory = Memory(store, Recalled())
        tasks, channels, orders = Tasks(store), Channels(store), Orders(store, memory)
        self._asked_by_session: Mapping[str, Deed] = {
            "memory_store": memory.remember,
            "memory_observe": memory.observe,
            "memory_relate": memory.relate,
            "memory_delete": memory.forget,
            "memory_get": memory.get,
            "memory_list": memory.page,
            "memory_search": Recall(store, memory).search,
            "task_create": tasks.create,
            "task_list": tasks.newest,
            "task_update": tasks.update,
            "task_complete": tasks.complete,
            "comms_post": channels.post,
            "comms_read": channels.read,
            "comms_channels": channels.channels,
            "prompt_library": memory.prompts,
            "vault_search": index.search,
            "vault_get": documents.get,
            "vault_whole": documents.whole,
            "vault_append": documents.append,
        }
        self._asked_by_person: Mapping[str, Deed] = {
            "promote": orders.promote,
            "retract": orders.retract,
            "list": orders.list,
            "verify": lambda heads: chain.report(store, tuple(heads)),
            "vault_add": documents.add,
            "vault_retract": documents.retract,
            "vault_undo": documents.undo,
            "vault_list": documents.documents,
            "vault_history": documents.history,
            "vault_show": documents.piece,
            "root": look.root,
            "look": look.step,
            "put_aside": look.put_aside,
        }

    def serve(self, descriptor: int) -> None:
        """Serve until the other end closes, or the file is found torn: the next start puts it aside."""
        reader, is_open = Reader(), True
        while is_open and not self.is_torn:
            frames = list[bytes | FrameError]()
            while is_open and len(frames) < _MOST_AT_ONCE:
                data = os.read(descriptor, _READ_BYTES)
                is_open = bool(data)
                frames += reader.feed(data)
                if frames and not select.select([descriptor], [], [], 0)[0]:
                    break
            _send(descriptor, b"".join(frame(msgspec.json.encode(one)) for one in self.group(frames)))

    def group(self, frames: Sequence[bytes | FrameError]) -> list[dict[str, Any]]:
        """Do a group of requests in one transaction; return their answers."""
        if not frames:
            return []
        answers, requests = list[dict[str, Any]](), list[Request]()
        for one in frames:
            try:
                requests.append(parse(one) if isinstance(one, bytes) else _raised(one))
            except FrameError as error:
                answers.append(_failed(error.id, str(error), "this is a fault of epad"))
        connection = self._store.connection
        try:
            connection.execute("BEGIN IMMEDIATE")
            self._store.read_head()
            done = [self._answer(request) for request in requests]
            connection.execute("COMMIT")
            self._documents.committed()
        except (apsw.Error, OSError) as error:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            self._documents.to_place.clear()
            self._index.forget()
            self._look.forget()
            self.is_torn = isinstance(error, apsw.CorruptError | apsw.NotADBError) or (
                getattr(error, "extendedresult", 0) == apsw.SQLITE_IOERR_DATA
            )
            with suppress(apsw.Error):
                self._store.load()
            why = f"the store cannot be written: {error}"
            done = [
                _failed(request.id, why, "free space on its disk, or see `epactl doctor`")
                for request in requests
            ]
        return answers + done

    def _answer(self, request: Request) -> dict[str, Any]:
        """Do one request, all of it or nothing. Raises apsw.Error where the whole group has to be given up."""
        connection, before = self._store.connection, self._store.head()
        placed = len(self._documents.to_place)
        connection.execute("SAVEPOINT request")
        try:
            result = self._do(request.tool, request.arguments)
        except VaultError as error:
            del self._documents.to_place[placed:]
            return self._undone(request, error.message, error.hint)
        except (msgspec.ValidationError, TypeError, KeyError, ValueError, apsw.ConstraintError) as error:
            del self._documents.to_place[placed:]
            return self._undone(request, f"{request.tool} failed: {error!r}", "this is a fault of epad")
        connection.execute("RELEASE request")
        head = self._store.head()
        if head != before:
            result = {**result, "head": [before.hex(), head.hex()]}
        return {"id": request.id, "result": result}

    def _undone(self, request: Request, message: str, hint: str) -> dict[str, Any]:
        """Take back what a request has done, and return its error."""
        self._store.connection.execute("ROLLBACK TO request")
        self._store.connection.execute("RELEASE request")
        self._store.load()
        return _failed(request.id, message, hint)

    def _do(self, name: str, asked: dict[str, Any]) -> dict[str, Any]:
        if (order := self._asked_by_person.get(name)) is not None:
            return order(**asked)
        deed = self._asked_by_session[name]
        return deed(msgspec.convert(asked["by"], By), **asked["arguments"])


def _raised(error: FrameError) -> Request:
    raise error


def _failed(number: int | None, message: str, hint: str) -> dict[str, Any]:
    return {"id": number, "error": message, "hint": hint, "ended": "error"}


def _send(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]
