"""The restore drill: the newest verified checkpoint, put back in full into a scratch directory, and read again.

A checkpoint that was never restored is a hope. The drill runs in a child process
(`python -m epad.checkpoint.drill BUNDLE STATE SCRATCH`) and takes the very path that `epactl checkpoint restore` takes.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from epad.checkpoint.bundle import Bundle
from epad.checkpoint.metrics import DRILL_AT, DRILL_OK
from epad.checkpoint.restore import restore
from epad.checkpoint.verify import Verification, bundle_faults
from epad.copying.child import ChildError, ask_child
from epad.copying.copied_file import die_with_parent, give_way
from epad.copying.errors import CheckpointError
from epad.metrics.registry import Metrics
from epad.storage.event_log import EventKind, EventLog
from probes.probe import Push
from statemachine.clock import Clock
from statemachine.finding import HOST, Finding, Severity

PROBE = "restore_drill"


class RestoreDrill:
    """Runs the drill on a schedule, and says how it went."""

    def __init__(
        self,
        newest: Callable[[], Bundle | None],
        state: Path,
        deadline_seconds: float,
        push: Push,
        clock: Clock,
        events: EventLog,
        metrics: Metrics,
    ) -> None:
        self._newest = newest
        self._state = state
        self._deadline_seconds = deadline_seconds
        self._push = push
        self._clock = clock
        self._events = events
        self._metrics = metrics

    async def run(self) -> Verification:
        """Run one drill.

        A failed one is a warning and an alert: it isolates no one, on a day when nothing is broken.
        """
        bundle = self._newest()
        if bundle is None:
            outcome = Verification(ok=False, faults=("there is no verified checkpoint to restore",))
        else:
            outcome = await self._drill(bundle)
        self._metrics.of(DRILL_OK).set(outcome.ok)
        self._metrics.of(DRILL_AT).set(self._clock.utc().timestamp())
        identity = bundle.id if bundle else ""
        self._events.emit(
            EventKind.RESTORE_DRILLED, bundle=identity, ok=outcome.ok, faults=list(outcome.faults)
        )
        severity = Severity.OK if outcome.ok else Severity.WARNING
        reason = (
            f"restore drill of {identity or 'nothing'}: {'; '.join(outcome.faults) or 'all of it came back'}"
        )
        self._push(Finding(PROBE, HOST, severity, self._clock.monotonic(), reason))
        return outcome

    async def _drill(self, bundle: Bundle) -> Verification:
        try:
            return await ask_child(
                "epad.checkpoint.drill",
                *map(str, (bundle.path, self._state, self._state / "drill")),
                answer=Verification,
                deadline_seconds=self._deadline_seconds,
            )
        except ChildError as error:
            return Verification(ok=False, faults=(f"{bundle.id}: {error}",))


def drill(bundle: Path, state: Path, scratch: Path) -> Verification:
    """Restore a bundle into an empty directory and judge the result; the directory is removed."""
    shutil.rmtree(scratch, ignore_errors=True)
    try:
        if faults := bundle_faults(bundle, state):
            return Verification(ok=False, faults=faults)
        restored = restore(bundle, state=state, to=scratch, now=datetime.now(UTC))
        return Verification(ok=restored.ok, faults=restored.faults)
    except CheckpointError as error:
        return Verification(ok=False, faults=(str(error),))
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def main(arguments: list[str]) -> int:
    """Run as a child of the daemon, or by hand."""
    die_with_parent()
    os.umask(0o077)
    give_way()
    bundle, state, scratch = map(Path, arguments)
    outcome = drill(bundle, state, scratch)
    sys.stdout.buffer.write(msgspec.json.encode(outcome) + b"\n")
    return 0 if outcome.ok else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
