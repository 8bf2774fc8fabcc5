"""Run the child that judges requests (`runners/intent/`): started at the daemon's start, and again after it has ended.

| event | the turns that it had | the next ones |
|---|---|---|
| the child dies | have no label | wait until another one runs, as many as the queue takes |
| it gives no answer in time | have no label; it is killed | likewise |
| it cannot be started | have no label | likewise, after a pause that grows |
| the daemon dies | have no label | the child ends with the socket |
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec
from msgspec import Raw, Struct
from structlog.typing import FilteringBoundLogger

from epad import EpadError
from epad.tools.own_worker import start_own_worker
from epad.tools.worker import Worker, WorkerLostError

ANSWER_SECONDS: Final = 20.0
"""A batch takes milliseconds."""
START_SECONDS: Final = 300.0
"""The first start fits a classifier: 3 s on a free core, and a minute on one that others use."""
_VARIABLES: Final = {
    "OPENBLAS_NUM_THREADS": "1",  # it has one core, and not those of the models
    "TOKENIZERS_PARALLELISM": "false",
}


class IntentChildError(EpadError):
    """The child gave no answer; the message says why."""


class Judged(Struct, frozen=True):
    """Holds the child's answer to a batch: a label, a group and a chance for each request, in their order."""

    version: int
    digest: str
    verdicts: tuple[tuple[str, str, float], ...]


class IntentChild:
    """The child, by the socket to it; `directory` is where its versions are, and it has `seconds` for an answer."""

    def __init__(self, directory: Path, log: FilteringBoundLogger, seconds: float = ANSWER_SECONDS) -> None:
        self._directory = directory
        self._seconds = seconds
        self._log = log
        self._worker: Worker | None = None
        self._has_answered = False
        self.starts = 0

    @property
    def pids(self) -> frozenset[int]:
        """Return the child's process, if there is one."""
        return frozenset() if self._worker is None or self._worker.is_lost else frozenset({self._worker.pid})

    async def judge(self, bodies: Sequence[bytes]) -> Judged:
        """Have requests judged. Raises IntentChildError."""
        try:
            worker = await self._running()
            seconds = self._seconds if self._has_answered else START_SECONDS
            asked = worker.ask("screen", {"bodies": [Raw(body) for body in bodies]}, seconds, 0)
            answer = await asked.within(seconds)
            self._has_answered = True
            if answer.result is None:
                raise IntentChildError(f"it refused: {answer.error}")
            judged = msgspec.convert(answer.result, Judged)
        except TimeoutError:
            self.kill()
            raise IntentChildError(f"it gave no answer within {seconds:g} s, and was killed") from None
        except (WorkerLostError, OSError, msgspec.MsgspecError) as error:
            raise IntentChildError(str(error)) from error
        if len(judged.verdicts) != len(bodies):
            raise IntentChildError(f"it gave {len(judged.verdicts)} verdicts on {len(bodies)} requests")
        return judged

    def kill(self) -> None:
        """Kill the child, if there is one."""
        if self._worker is not None:
            self._worker.kill()

    async def close(self) -> None:
        """End the child."""
        if self._worker is not None:
            await self._worker.close()

    async def _running(self) -> Worker:
        if self._worker is None or self._worker.is_lost:
            words = "runners.intent", "serve", str(self._directory)
            self._worker = await start_own_worker(*words, variables=_VARIABLES)
            self._has_answered = False
            self.starts += 1
            self._log.info("intent.started", pid=self._worker.pid, directory=str(self._directory))
        return self._worker
