"""Running this room's children: short-lived, bounded in time, and never outliving the daemon."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from pathlib import Path
from typing import TypeVar

import msgspec

from epad.copying.copied_file import PARENT_VARIABLE
from epad.copying.errors import CheckpointError

T = TypeVar("T")

# A child in uninterruptible sleep (a hung disk) cannot be reaped; it is left behind after this.
REAP_SECONDS = 1.0

# A child finds epad where the daemon found it, installed or not, and never in its working directory (-P).
_HOME = Path(__file__).parents[2]


class ChildError(CheckpointError):
    """A child process did not answer."""


async def ask_child(module: str, *arguments: str, answer: type[T], deadline_seconds: float) -> T:
    """Run `python -m module arguments` and decode its answer. Raises ChildError.

    The answer counts, not the exit status: that of a child may be reaped by the supervisor instead.
    """
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-m", module, *arguments),
        stdin=DEVNULL,
        stdout=PIPE,
        stderr=PIPE,
        env={**os.environ, "PYTHONPATH": str(_HOME), PARENT_VARIABLE: str(os.getpid())},
    )
    try:
        async with asyncio.timeout(deadline_seconds):
            output, complaint = await process.communicate()
    except TimeoutError:
        raise ChildError(f"not done within {deadline_seconds:.1f} s") from None
    finally:
        await _end(process)
    try:
        return msgspec.json.decode(output, type=answer)
    except msgspec.DecodeError:
        last_line = complaint.decode(errors="replace").strip().rpartition("\n")[2]
        reason = last_line or f"exit status {process.returncode}"
        raise ChildError(f"{module} died without an answer: {reason}") from None


async def _end(process: Process) -> None:
    if process.returncode is not None:
        return
    with contextlib.suppress(ProcessLookupError):
        process.kill()
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(REAP_SECONDS):
            await process.wait()
