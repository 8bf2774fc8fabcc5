"""Set the number of files the daemon may open: the hard limit, and for its children the former one.

The usual soft limit of 1,024 is there for programs that call select(), which breaks above it: a child may be one.
"""

from __future__ import annotations

import contextlib
import resource

# A connection takes one: more than this are nobody's need, and what cleans up by number would take long.
ENOUGH_FILES = 65_536
# What everything but connections needs: databases, logs, pipes to children, probes.
_KEPT_FOR_OURSELVES = 256

_former: list[tuple[int, int]] = []


def raise_limit() -> int:
    """Raise the soft limit to the hard one; return the new value."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = ENOUGH_FILES if hard == resource.RLIM_INFINITY else min(hard, ENOUGH_FILES)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return room_of(soft)
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    _former.append((soft, hard))
    return wanted


def hand_down(pid: int) -> None:
    """Give a child that was just started the limits that we had."""
    if _former:
        with contextlib.suppress(OSError):  # it is gone already, or another user's
            resource.prlimit(pid, resource.RLIMIT_NOFILE, _former[0])


def room_of(limit: int) -> int:
    """Return a limit as a number of files."""
    return ENOUGH_FILES if limit == resource.RLIM_INFINITY else limit


def share(part: float, most: int) -> int:
    """Return the connections a listener may have: `most`, but no more than its part of the available files."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return max(8, min(most, int((room_of(soft) - _KEPT_FOR_OURSELVES) * part)))
