"""The state directory: whether it can be written, how much room it has, and how long an fsync takes there."""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from epad.doctor.finding import Check, Verdict
from epad.probing.host_reader import disk_of
from probes.host import HostSettings

FSYNCS = 20
# Every turn waits for one commit before it is forwarded: beyond this a person notices.
SLOW_FSYNC_SECONDS = 0.02


def existing(directory: Path) -> Path:
    """Return the directory, or the nearest one above it that is there."""
    return next(path for path in (directory, *directory.parents) if path.is_dir())


def fsync_seconds(directory: Path) -> list[float]:
    """Measure the seconds of writing 4 KiB and syncing it, several times. Raises OSError."""
    taken = []
    with tempfile.TemporaryFile(dir=directory) as file:
        for _ in range(FSYNCS):
            file.write(b"e" * 4096)
            file.flush()
            began = time.perf_counter()
            os.fsync(file.fileno())
            taken.append(time.perf_counter() - began)
    return taken


def check_state(
    state: Path, limits: HostSettings, measure: Callable[[Path], list[float]] = fsync_seconds
) -> Iterator[Check]:
    """Look at the directory itself, the room, and the disk's word that something is written."""
    place = existing(state)
    if not os.access(place, os.W_OK | os.X_OK):
        fix = "run as its owner (the service's user), or choose another with --state"
        yield Check("state", Verdict.BROKEN, f"{place} cannot be written by uid {os.getuid()}", fix)
        return
    mode = place.stat().st_mode & 0o777
    if place == state and mode & 0o077:
        fix = f"chmod 700 {state}: keys and prompts are in it"
        yield Check("state", Verdict.LACKING, f"{state} is open to others ({mode:03o})", fix)
    else:
        made = "" if place == state else ", made at the first start"
        yield Check("state", Verdict.OK, f"{state}{made}")
    yield _room(place, limits)
    yield _fsync(place, measure)


def _room(place: Path, limits: HostSettings) -> Check:
    disk = disk_of(place)
    found = f"{disk.free_bytes / 2**30:.1f} GiB of {disk.total_bytes / 2**30:.1f} GiB are free"
    share = disk.free_bytes / max(disk.total_bytes, 1)
    if share < limits.disk_warn_ratio and disk.free_bytes < limits.disk_warn_bytes:
        return Check("room", Verdict.LACKING, found, f"make room on the file system of {place}")
    return Check("room", Verdict.OK, found)


def _fsync(place: Path, measure: Callable[[Path], list[float]]) -> Check:
    try:
        taken = measure(place)
    except OSError as error:
        return Check("fsync", Verdict.BROKEN, str(error), f"see whether the disk under {place} works")
    median = statistics.median(taken)
    found = f"{median * 1e3:.1f} ms (median of {len(taken)}, at most {max(taken) * 1e3:.1f} ms)"
    if median > SLOW_FSYNC_SECONDS:
        fix = "put the state directory on an SSD (daemon.state_directory): every turn waits for one"
        return Check("fsync", Verdict.LACKING, found, fix)
    return Check("fsync", Verdict.OK, found)
