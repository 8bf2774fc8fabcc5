"""Running tests in a fork of a session, and what became of it."""

from __future__ import annotations

import os
import resource
import select
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import pytest

KILLED, TIMED_OUT, SURVIVED, UNREACHED = "killed", "timed out", "survived", "unreached"
_MEMORY_BYTES = 4 << 30


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


def forked(work: Callable[[], int | None], seconds: float) -> tuple[str, float]:
    """Return what became of a mutant, and how long it took."""
    began = time.monotonic()
    process = os.fork()
    if not process:
        child(work)
    with os.fdopen(os.pidfd_open(process)) as ended:
        ready, _, _ = select.select([ended], [], [], seconds)
    if not ready:
        os.killpg(process, signal.SIGKILL)
    _, status = os.waitpid(process, 0)
    took = time.monotonic() - began
    if not ready:
        return TIMED_OUT, took
    code = os.waitstatus_to_exitcode(status)
    return {0: SURVIVED, 2: UNREACHED}.get(code, KILLED), took


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
