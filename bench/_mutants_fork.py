"""Running tests in forks of a session, and what became of them."""

from __future__ import annotations

import os
import resource
import select
import signal
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import pytest

T = TypeVar("T")

KILLED, TIMED_OUT, SURVIVED, UNREACHED = "killed", "timed out", "survived", "unreached"
_MEMORY_BYTES = 4 << 30
# A mutant that goes in circles is ended by its processor time; one that waits for what never comes, by this.
_WAIT_SECONDS = 300.0


class FirstFailure:
    """Ends the process with the first test that fails: the mutant is killed."""

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            os._exit(1)


def run_items(session: pytest.Session) -> None:
    """As pytest does."""
    for number, item in enumerate(session.items):
        following = session.items[number + 1] if number + 1 < len(session.items) else None
        item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)


def mutated(mutant: dict[str, Any]) -> str:
    """Return the file of a mutant, with it."""
    source = Path(mutant["path"]).read_text()
    return source[: mutant["start"]] + mutant["text"] + source[mutant["end"] :]


@dataclass(slots=True)
class _Fork:
    """A process at work."""

    process: int
    ended: int
    began: float

    def end(self, *, in_time: bool) -> tuple[str, float]:
        """Take away the process; return what became of it, and how long that took."""
        if not in_time:
            os.killpg(self.process, signal.SIGKILL)
        _, status = os.waitpid(self.process, 0)
        os.close(self.ended)
        took = time.monotonic() - self.began
        if not in_time:
            return TIMED_OUT, took
        ended = {0: SURVIVED, 2: UNREACHED, -signal.SIGXCPU: TIMED_OUT, -signal.SIGKILL: TIMED_OUT}
        return ended.get(os.waitstatus_to_exitcode(status), KILLED), took


def limit_processor(seconds: float) -> None:
    """End this process after so much more processor time: the machine may be busy, and a mutant has no part in that."""
    most = int(time.process_time() + seconds) + 1
    resource.setrlimit(resource.RLIMIT_CPU, (most, most + 1))


def forked(
    works: Iterable[tuple[T, Callable[[], int | None]]], at_once: int
) -> Iterator[tuple[T, str, float]]:
    """Do each work in a fork, so many at once; yield whose it was, what became of it, and how long it took."""
    left = iter(works)
    running: dict[int, tuple[T, _Fork]] = {}
    while True:
        for key, work in islice(left, at_once - len(running)):
            process = os.fork()
            if not process:
                child(work)
            fork = _Fork(process, os.pidfd_open(process), time.monotonic())
            running[fork.ended] = key, fork
        if not running:
            return
        first = min(fork.began for _, fork in running.values())
        ready, _, _ = select.select(list(running), [], [], max(0.0, first + _WAIT_SECONDS - time.monotonic()))
        late = [fd for fd, (_, fork) in running.items() if fork.began + _WAIT_SECONDS <= time.monotonic()]
        for ended in {*ready, *late}:
            key, fork = running.pop(ended)
            yield key, *fork.end(in_time=ended in ready)


def child(work: Callable[[], int | None]) -> NoReturn:
    """Do the work of a fork, silently, and end it with what the work returns, None as 0; 1 if it raises."""
    os.setpgid(0, 0)
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_BYTES, _MEMORY_BYTES))
    nowhere = os.open(os.devnull, os.O_RDWR)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    code = 1
    try:
        code = work() or 0
    finally:
        os._exit(code)
