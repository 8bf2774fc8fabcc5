"""Run a program that seals or opens: a value goes in by its standard input and comes out by its output alone."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from epad.secrets.errors import SecretError

SECONDS: Final = 30.0
ROOT: Final = Path(__file__).parents[2]
_PASSED_ON: Final = ("PATH", "LD_LIBRARY_PATH", "SYSTEMD_TPM2_DEVICE", "SYSTEMD_CREDENTIAL_SECRET")
CHILD: Final = (sys.executable, "-P", "-m", "runners.secrets")


@dataclass(frozen=True, slots=True)
class Ended:
    """Tells how a program ended. What it wrote to standard output may be a value."""

    status: int
    output: bytes = field(repr=False)
    complaint: str


async def run(
    words: Sequence[str], given: bytes, environment: Mapping[str, str], seconds: float = SECONDS
) -> Ended:
    """Run a program to its end. Raises SecretError if it cannot be run, or does not end in time."""
    try:
        child = await asyncio.create_subprocess_exec(
            *words,
            env=kept(environment),
            cwd="/",
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
    except OSError as error:
        raise SecretError(f"{words[0]} cannot be run: {error.strerror}") from error
    try:
        async with asyncio.timeout(seconds):
            output, complaint = await child.communicate(given)
    except TimeoutError:
        raise SecretError(f"{words[0]} gave no answer within {seconds:g} s") from None
    finally:
        if child.returncode is None:
            child.kill()
            await child.wait()
    return Ended(child.returncode or 0, output, complaint.decode(errors="replace").strip())


def kept(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that such a program gets."""
    passed = {name: environment[name] for name in _PASSED_ON if name in environment}
    return {"PATH": os.defpath, **passed, "PYTHONPATH": str(ROOT), "LC_ALL": "C.UTF-8"}
