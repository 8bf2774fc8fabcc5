"""Check the kernel, systemd and the clock, which containment and time depend on."""

from __future__ import annotations

import ctypes
import os
import resource
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from epad.doctor.finding import Check, Verdict
from epad.probing.host_reader import RESOURCES, parse_pressure
from epad.supervisor.cgroup import NoCgroupError, delegated, mount_point
from epad.supervisor.systemd_bus import find_bus

MIN_OPEN_FILES = 4_096  # a turn in flight holds two sockets, a child three files
TIME_ERROR = 5  # adjtimex(2): nobody keeps this clock
_TIMEX_BYTES = 208


def check_systemd(environment: Mapping[str, str], uid: int, run: Path = Path("/run")) -> Iterator[Check]:
    """Check that a service manager obeys this user; it makes each child a unit of its own."""
    bus = find_bus(environment, uid, run)
    if bus is not None:
        yield Check("systemd", Verdict.OK, f"the {bus.label} obeys uid {uid}")
    elif not (run / "systemd/system").is_dir():
        yield Check("systemd", Verdict.ABSENT, "this machine was not started by systemd")
    else:
        fix = f"run as root, or `loginctl enable-linger` for uid {uid}, or install the service (docs/systemd.md)"
        yield Check("systemd", Verdict.LACKING, f"no service manager obeys uid {uid}", fix)


def check_cgroups(managed: bool, proc: Path = Path("/proc")) -> Iterator[Check]:
    """Check that process trees can be identified, frozen and killed as a whole."""
    mounted = mount_point(proc)
    if mounted is None:
        fix = "boot with systemd.unified_cgroup_hierarchy=1; until then trees are found by walking"
        yield Check("cgroups", Verdict.LACKING, "no cgroup v2 is mounted", fix)
        return
    try:
        own = delegated(managed, proc)
    except NoCgroupError as error:
        fix = "install the service (epad install), which delegates one; until then trees are found by walking"
        yield Check("cgroups", Verdict.LACKING, str(error), fix)
        return
    if not (own.path / "cgroup.kill").exists() and own.path != mounted:
        yield Check(
            "cgroups", Verdict.LACKING, f"{own.path} has no cgroup.kill", "Linux 5.14 or newer has it"
        )
    else:
        yield Check("cgroups", Verdict.OK, f"{own.path} is ours to divide")


def check_pressure(proc: Path = Path("/proc")) -> Iterator[Check]:
    """Check that the kernel reports pressure on memory, disk and CPU (PSI)."""
    missing = []
    for name in RESOURCES:
        try:
            parse_pressure((proc / "pressure" / name).read_text())
        except (OSError, ValueError):
            missing.append(name)
    if missing:
        fix = "boot with psi=1; until then the host probe knows only disk space"
        yield Check("pressure", Verdict.LACKING, f"no /proc/pressure of {', '.join(missing)}", fix)
    else:
        yield Check("pressure", Verdict.OK, "the kernel tells of cpu, memory and io")


def adjtimex() -> int:
    """Return the kernel's word on its clock, by a call that changes nothing. Raises OSError."""
    state = ctypes.CDLL(None, use_errno=True).adjtimex(ctypes.create_string_buffer(_TIMEX_BYTES))
    if state < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return int(state)


def check_clock(ask: Callable[[], int] = adjtimex) -> Iterator[Check]:
    """Check that the wall clock is synchronised: people read by it, and budgets of a month count by it."""
    try:
        state = ask()
    except OSError as error:
        yield Check("clock", Verdict.ABSENT, f"the kernel does not say who keeps the clock: {error.strerror}")
        return
    if state == TIME_ERROR:
        fix = "systemctl enable --now systemd-timesyncd (or chrony)"
        yield Check("clock", Verdict.LACKING, "nobody keeps the wall clock", fix)
    else:
        yield Check("clock", Verdict.OK, "the wall clock is kept")


def check_process(files: Callable[[], tuple[int, int]] | None = None) -> Iterator[Check]:
    """Check the needs of the daemon's own process: pidfds, and enough file descriptors."""
    if hasattr(os, "pidfd_open"):
        yield Check("pidfd", Verdict.OK, f"Python {sys.version.split()[0]} on Linux {os.uname().release}")
    else:
        yield Check("pidfd", Verdict.BROKEN, "no pidfd_open", "Linux 5.3 or newer has it")
    soft, hard = files() if files else resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < MIN_OPEN_FILES:
        fix = f"LimitNOFILE={MIN_OPEN_FILES} in the unit, or `ulimit -n {MIN_OPEN_FILES}` before `epad run`"
        yield Check("open files", Verdict.LACKING, f"{soft} (at most {hard})", fix)
    else:
        yield Check("open files", Verdict.OK, "as many as wanted" if soft < 0 else f"{soft}")
