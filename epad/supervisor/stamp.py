"""The stamp: a resource limit of no effect, by which a process is known though it has shed all else.

A process leaves its parent by forking twice, its session by `setsid`, and its environment by an exec with another.
Limits are inherited through all of that, and RLIMIT_RSS, the most pages that a process may have in memory, has had no
effect since Linux 2.4.30 (setrlimit(2)). So each child is given an odd one: larger than any memory, hence harmless to
programs that read it (sort, GCC), and with bits that identify the state directory and the subsystem. /proc/PID/limits
is readable by every user.

It is no wall. A process can lower its own limit, and so do programs that set limits anew for a login (PAM: su, sshd,
cron). Only a control group holds against that; the engine says so if there is none.
"""

from __future__ import annotations

import hashlib
import os
import resource
from collections.abc import Mapping

from epad.runtime.environment_marks import INSTANCE_MARK, STATE_MARK, SUBSYSTEM_MARK

# In units of 1,024 bytes, as shells count; the bytes stay below 2^63.
_STAMPED = 1 << 52
_SUBSYSTEM_BITS = 28
_STATE_BITS = 24
_UNIT_BYTES = 1024
_FIELD = "Max resident set"


def stamp(state: str, subsystem: str) -> int:
    """Return the limit, in KiB, of a subsystem of the daemon with this state directory."""
    return _STAMPED | _bits(state, _STATE_BITS) << _SUBSYSTEM_BITS | _bits(subsystem, _SUBSYSTEM_BITS)


def stamp_for(marks: Mapping[str, str]) -> int:
    """Return the limit for a process of these marks; 0 where they do not say whose it is."""
    if STATE_MARK not in marks or SUBSYSTEM_MARK not in marks:
        return 0
    return stamp(marks[STATE_MARK], marks[SUBSYSTEM_MARK])


def stamp_bytes(marks: Mapping[str, str]) -> int:
    """Return the limit in bytes, as the kernel has it; all that there are where the marks do not say whose it is."""
    return stamp_for(marks) * _UNIT_BYTES or 2**64 - 1


def bears(found: int, marks: Mapping[str, str]) -> bool:
    """Say whether a process with this stamp is of these marks: of a subsystem, or of any of a state directory.

    One start is not told from another by a stamp: marks that name one are borne by none.
    """
    state, subsystem = marks.get(STATE_MARK), marks.get(SUBSYSTEM_MARK)
    if not found or state is None or INSTANCE_MARK in marks:
        return False
    if subsystem is not None:
        return found == stamp(state, subsystem)
    return found >> _SUBSYSTEM_BITS == stamp(state, "") >> _SUBSYSTEM_BITS


def read_stamp(limits: str) -> int:
    """Read a stamp out of /proc/PID/limits, its soft or its hard limit; 0 if there is none."""
    for line in limits.splitlines():
        if line.startswith(_FIELD):
            values = line.removeprefix(_FIELD).split()[:2]
            stamps = (int(value) // _UNIT_BYTES for value in values if value.isdecimal())
            return next((value for value in stamps if value & _STAMPED and value < _STAMPED << 1), 0)
    return 0


def can_stamp() -> bool:
    """Say whether our own limit lets us give the children any."""
    _, most = resource.getrlimit(resource.RLIMIT_RSS)
    return most == resource.RLIM_INFINITY or most >= (_STAMPED << 1) * _UNIT_BYTES or os.geteuid() == 0


def _bits(text: str, count: int) -> int:
    digest = hashlib.sha256(os.fsencode(text)).digest()
    return int.from_bytes(digest[:8], "big") >> (64 - count)
