"""Keep the logs of all children, and report what was lost: once for each fault, and once in a while for output.

The log pump (`pump.py`) calls it. No fault of one log keeps it from the others.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from epad.supervisor.child_logs import ChildLog

# The pump is a process of its own and small: see child_logs.py.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Protocol

    from epad.supervisor.child_logs import Limits

    class Told(Protocol):
        """Receives reports of lost output: a logger."""

        def warning(self, event: str, **fields: Any) -> Any: ...


# Lost output of one child is reported at most this often.
TELL_SECONDS = 60.0


class LogKeeper:
    """Keeps every log there is; a log that cannot be kept is reported once, and lost output once in a while."""

    def __init__(self, path_of: Callable[[str], Path], log: Told) -> None:
        self._path_of = path_of
        self._log = log
        self._logs: dict[str, ChildLog] = {}
        self._faults: dict[tuple[str, str], str] = {}
        self._told: dict[str, tuple[float, int]] = {}

    def configure(self, configs: Mapping[str, Limits]) -> None:
        """Keep these logs from now on, and no others."""
        kept = self._logs
        self._logs = {
            name: kept.pop(name) if name in kept else ChildLog(self._path_of(name), config)
            for name, config in configs.items()
        }
        for log in kept.values():
            log.close()
        for name, log in self._logs.items():
            log.config = configs[name]  # who follows it goes on

    def of(self, name: str) -> ChildLog:
        """Return a subsystem's log. Raises KeyError for one that has none."""
        return self._logs[name]

    def append(self, name: str, data: bytes, utc: float) -> None:
        """Append a subsystem's output, or count it as lost. Raises KeyError for one that has no log."""
        log = self._logs[name]
        try:
            log.append(data, utc)
        except OSError as error:
            self._fail(name, "append", log, error)
            log.dropped_bytes += len(data)
            log.dropped_because = f"{log.path} cannot be written to: {error.strerror}"
        else:
            self._faults.pop((name, "append"), None)

    def tend_all(self, utc: float) -> None:
        """Tend every log, and report the output lost since the last report."""
        for name, log in list(self._logs.items()):
            try:
                log.tend(utc)
            except OSError as error:
                self._fail(name, "tend", log, error)
            else:
                self._faults.pop((name, "tend"), None)
            self._tell(name, log, utc)

    def _fail(self, name: str, deed: str, log: ChildLog, error: OSError) -> None:
        said = f"{log.path}: {error.strerror}"
        if self._faults.get((name, deed)) != said:
            self._faults[name, deed] = said
            self._log.warning("child_log.untended", subsystem=name, error=said)

    def _tell(self, name: str, log: ChildLog, utc: float) -> None:
        at, told = self._told.get(name, (float("-inf"), 0))
        # A wall clock that was set back must not silence it.
        if log.dropped_bytes == told or 0 <= utc - at < TELL_SECONDS:
            return
        self._told[name] = utc, log.dropped_bytes
        lost = log.dropped_bytes - told
        self._log.warning("child_log.dropped", subsystem=name, bytes=lost, reason=log.dropped_because)
