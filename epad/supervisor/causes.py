"""Find why a process may have died, beyond its exit status: from the kernel's counts, and the end of its log.

A child's log is its own text and may hold secrets or forged lines. So nothing of it is quoted: only known causes are
recognised, and told in words of our own.
"""

from __future__ import annotations

import os
import re
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from epad.configuration.directories import Directories
from epad.supervisor.engine import ExitStatus
from epad.supervisor.program import wait_until_read
from epad.supervisor.regular_file import open_regular
from epad.supervisor.restart import Decision, Verdict

OUT_OF_MEMORY = "out of memory: killed by the kernel"
# A program behind a shell ends with 128 and the signal's number.
_KILLED_CODE = 137
_TAIL_BYTES = 16 << 10
_RECENT_SECONDS = 15.0
# From the third death in a row its log is read for the cause: the back-off is longer than the reading by then.
_DEATHS_BEFORE_READING = 3
# The first that fits counts, so what says most stands first.
_CAUSES: tuple[tuple[re.Pattern[bytes], str], ...] = tuple(
    (re.compile(pattern, re.IGNORECASE), words)
    for pattern, words in (
        (rb"CUDA out of memory|CUDA error: out of memory|cudaErrorMemoryAllocation", "CUDA out of memory"),
        (rb"HIP out of memory|hipErrorOutOfMemory", "HIP out of memory"),
        (rb"No available memory for the cache blocks|can be stored in KV cache", "no GPU memory left for its cache"),
        (rb"no CUDA-capable device|No CUDA GPUs are available|Found no NVIDIA driver", "no GPU to be found"),
        (rb"CUDA driver version is insufficient|driver/library version mismatch", "GPU driver and library do not fit"),
        (rb"^MemoryError|std::bad_alloc|Cannot allocate memory", "no memory could be had"),
        (rb"Address already in use|EADDRINUSE|address in use", "its address is in use"),
        (rb"No space left on device", "the disk is full"),
        (rb"Too many open files", "too many open files"),
        (rb"ModuleNotFoundError|ImportError:|Cannot find module", "a module is missing"),
        (rb"error while loading shared libraries", "a shared library is missing"),
        (rb"Permission denied", "a permission is missing"),
        (rb"No such file or directory", "a file is missing"),
    )
)  # fmt: skip


class OomKills:
    """The kernel's own count of processes that it killed for memory, from /proc/vmstat."""

    def __init__(self, proc: Path = Path("/proc")) -> None:
        self._path = f"{proc}/vmstat"
        self._count: int | None = None
        self._rose_at = float("-inf")

    def look(self, now: float) -> bool:
        """Tell if it rose just now: since the look before this one, or within the last seconds."""
        count = self._read()
        if count is not None:
            if self._count is not None and count > self._count:
                self._rose_at = now
            self._count = count
        return now - self._rose_at <= _RECENT_SECONDS

    def _read(self) -> int | None:
        with suppress(OSError, ValueError):
            with open(self._path, encoding="ascii") as file:  # noqa: PTH123 (every few seconds)
                found = re.search(r"^oom_kill (\d+)$", file.read(), re.MULTILINE)
            return int(found[1]) if found else None
        return None


def with_cause(status: ExitStatus, cause: str) -> ExitStatus:
    """Return the same status, its cause told with it."""
    return replace(status, text=f"{status.text} ({cause})") if cause else status


def was_killed(status: ExitStatus) -> bool:
    """Tell if it ended by SIGKILL, by which the kernel makes room."""
    return status.text == "signal SIGKILL" or status.code == _KILLED_CODE


def is_worth_reading(verdict: Verdict, status: ExitStatus) -> bool:
    """Tell if its log should be searched for the cause: it keeps dying, and nothing else has named one."""
    keeps_dying = verdict.history.in_a_row >= _DEATHS_BEFORE_READING
    return not status.text.endswith(")") and (keeps_dying or verdict.decision is Decision.GIVE_UP)


def cause_in_last_words(directories: Directories, subsystem: str) -> str:
    """Say by a subsystem's log why it died, once the log pump has written its last words there."""
    wait_until_read(directories.log_pipe(subsystem))
    return cause_in_log(directories.log(subsystem))


def cause_in_log(path: Path) -> str:
    """Name the cause of death by the end of a program's log, in our own words; empty if none is known."""
    tail = _tail(path)
    # The last line that names a cause is nearest to the end.
    for line in reversed(tail.splitlines()):
        for pattern, words in _CAUSES:
            if pattern.search(line):
                return words
    return ""


def _tail(path: Path) -> bytes:
    with suppress(OSError):
        descriptor = open_regular(path, os.O_RDONLY)
        try:
            size = os.fstat(descriptor).st_size
            return os.pread(descriptor, _TAIL_BYTES, max(0, size - _TAIL_BYTES))
        finally:
            os.close(descriptor)
    return b""
