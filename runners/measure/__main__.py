"""`python -m runners.measure START KEPT NEW`: measure one start, and print how it differs from the last one as JSON.

START is a `Start` as JSON; KEPT the file of the last start's parts, NEW the file that this one's are written to.
"""

from __future__ import annotations

import ctypes
import os
import sys
from contextlib import suppress
from pathlib import Path

import msgspec

from runners.measure.command_parts import add_parts
from runners.measure.parts import Parts
from runners.measure.record import compared, read_record, record_of, write_record
from runners.measure.request import Start

_IOPRIO_SET = {"x86_64": 251, "aarch64": 30}
_IDLE = 3 << 13
_BY_PROCESS = 1


def main() -> int:
    """Measure; exit 1 where NEW cannot be written."""
    text, kept, new = sys.argv[1:]
    start = msgspec.json.decode(text, type=Start)
    _step_back()
    before = read_record(Path(kept))
    parts = Parts(before.parts if before else None)
    add_parts(parts, start)
    now = record_of(parts, msgspec.json.encode([start.command, start.directory]))
    try:
        write_record(Path(new), now)
    except OSError as error:
        sys.stderr.write(f"{new}: {error.strerror}\n")
        return 1
    answer = compared(before, now, tuple(parts.left_out))
    sys.stdout.buffer.write(msgspec.json.encode(answer))
    return 0


def _step_back() -> None:
    """Let others read and compute first: nothing waits for a measurement but the start of one subsystem."""
    with suppress(OSError):
        os.nice(5)
    number = _IOPRIO_SET.get(os.uname().machine)
    if number is not None:
        ctypes.CDLL(None, use_errno=True).syscall(number, _BY_PROCESS, 0, _IDLE)


if __name__ == "__main__":
    sys.exit(main())
