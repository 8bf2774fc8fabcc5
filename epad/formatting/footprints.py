"""Memory and CPU of a subsystem as text for people; `-` where it has no processes, or they were not looked at."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from epad.answers.status import Subsystem

_GIB = 1 << 30


def memory(subsystem: Subsystem) -> str:
    """Format the memory in use, and its limit if there is one."""
    taken, most = subsystem.get("memory_bytes"), subsystem.get("memory_max_bytes")
    if taken is None:
        return "-"
    return f"{size(taken)} of {size(most)}" if most else size(taken)


def cpu(subsystem: Subsystem) -> str:
    """Format the recent use of CPU; 100 % is one busy core."""
    cores = subsystem.get("cpu_cores")
    return "-" if cores is None else f"{100 * cores:.0f}%"


def in_full(subsystem: Subsystem) -> str:
    """Both, with the number of processes and all the CPU time there was."""
    if subsystem.get("memory_bytes") is None:
        return "-"
    used = subsystem["cpu_seconds"]
    return f"{memory(subsystem)} in {subsystem['processes']} processes; CPU {cpu(subsystem)}, {used:.0f} s in all"


def size(number: int) -> str:
    """Return a size in at most three digits and its unit."""
    if number < _GIB:
        return f"{number >> 20} MiB"
    return f"{number / _GIB:.1f} GiB" if number < 100 * _GIB else f"{number / _GIB:.0f} GiB"
