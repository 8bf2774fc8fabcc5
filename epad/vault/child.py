"""Run the child that keeps the store: started at the first request, and again at the next one after it has ended.

| event | an acknowledged row | a request under way |
|---|---|---|
| the child dies | is on the disk | fails, and nobody knows if it was done; the next one starts another child |
| the daemon dies | is on the disk | the child does the group that it has read, and ends with the socket |
| the file is torn | what can be read is kept, what cannot is told | fails; the next child puts the file aside |
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from structlog.typing import FilteringBoundLogger

from epad.tools.own import OwnToolError
from epad.tools.own_worker import start_own_worker
from epad.tools.worker import Worker, WorkerLostError

ANSWER_SECONDS: Final = 30.0
"""A request waits at most so long: a disk that hangs holds nothing else up."""
MOST_WAITING: Final = 512


class VaultChild:
    """The child, by the socket to it; `directory` is where its file is, `documents` the vault's documents.

    `wrote` is called after each answer to a request that has appended rows.
    """

    def __init__(self, directory: Path, log: FilteringBoundLogger, documents: Path | None = None) -> None:
        self.directory = directory
        self.documents = documents or directory / "documents"
        self.wrote: Callable[[], None] = lambda: None
        self._log = log
        self._worker: Worker | None = None
        self._starting = asyncio.Lock()
        self._waiting = 0
        self._is_closed = False

    @property
    def pids(self) -> frozenset[int]:
        """Return the child's process, if there is one."""
        return frozenset() if self._worker is None or self._worker.is_lost else frozenset({self._worker.pid})

    async def ask(self, request: str, arguments: Mapping[str, object]) -> dict[str, Any]:
        """Have a request done, and return its result. Raises OwnToolError."""
        if self._waiting >= MOST_WAITING:
            raise OwnToolError(f"{self._waiting} requests wait for the store", "call again later")
        self._waiting += 1
        try:
            return await self._asked(request, arguments)
        except WorkerLostError as error:
            raise OwnToolError(
                f"the store's process has ended: whether {request} was done is unknown ({error})",
                "look before you call again",
            ) from error
        except TimeoutError:
            raise OwnToolError(
                f"the store gave no answer within {ANSWER_SECONDS:g} s: whether {request} was done is unknown",
                "look before you call again",
            ) from None
        except OSError as error:
            raise OwnToolError(f"the store cannot be started: {error}", "epactl doctor") from error
        finally:
            self._waiting -= 1

    async def close(self) -> None:
        """End the child, once it has done the requests that it has read."""
        self._is_closed = True
        async with self._starting:
            if self._worker is not None:
                await self._worker.close()

    async def _asked(self, request: str, arguments: Mapping[str, object]) -> dict[str, Any]:
        worker = await self._running()
        asked = worker.ask(request, arguments, ANSWER_SECONDS, 0)
        answer = await asked.within(ANSWER_SECONDS)
        if answer.result is None:
            raise OwnToolError(answer.error, answer.hint)
        if "head" in answer.result:
            self.wrote()
        return answer.result

    async def _running(self) -> Worker:
        async with self._starting:
            if self._is_closed:
                raise WorkerLostError("the daemon is stopping")
            if self._worker is None or self._worker.is_lost:
                self._worker = await self._start()
                self._log.info("vault.started", pid=self._worker.pid, directory=str(self.directory))
            return self._worker

    async def _start(self) -> Worker:
        return await start_own_worker("runners.vault", str(self.directory), str(self.documents))
