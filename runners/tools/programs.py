"""Run a program of a category inside a call: its output is read up to a limit, and it ends with the call."""

from __future__ import annotations

import os
import selectors
import signal
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Final

from runners.cell import kernel

STDERR_BYTES: Final = 4096


def run(
    command: Sequence[str], folder: int, environment: Mapping[str, str], text: str | bytes | None, limit: int
) -> tuple[int, bytes, bytes]:
    """Run a command in an open directory; past the limit of its output it is killed. Return status, output, errors."""
    with subprocess.Popen(
        command,
        cwd=f"/proc/self/fd/{folder}",
        env=dict(environment),
        stdin=subprocess.DEVNULL if text is None else subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        pass_fds=(folder,),
        preexec_fn=_die_with_parent,  # noqa: PLW1509 - the process of a call has one thread
    ) as process:
        if text is not None and process.stdin:
            with suppress(BrokenPipeError):  # it has ended before it has read all; its status says why
                process.stdin.write(text.encode() if isinstance(text, str) else text)
                process.stdin.close()
        out, err = _read(process, limit)
        if len(out) > limit:
            process.kill()
    return process.returncode, out, err


def _read(process: subprocess.Popen[bytes], limit: int) -> tuple[bytes, bytes]:
    assert process.stdout is not None and process.stderr is not None  # noqa: S101, PT018 - tells mypy
    got = {process.stdout.fileno(): bytearray(), process.stderr.fileno(): bytearray()}
    with selectors.DefaultSelector() as selector:
        for descriptor in got:
            selector.register(descriptor, selectors.EVENT_READ)
        while selector.get_map():
            for key, _ in selector.select():
                if data := os.read(key.fd, 1 << 16):
                    got[key.fd] += data
                else:
                    selector.unregister(key.fd)
            del got[process.stderr.fileno()][:-STDERR_BYTES]
            if len(got[process.stdout.fileno()]) > limit:
                break
    return bytes(got[process.stdout.fileno()]), bytes(got[process.stderr.fileno()])


def _die_with_parent() -> None:
    kernel.prctl(kernel.PR_SET_PDEATHSIG, signal.SIGKILL)
