"""`epactl stop-all`: end everything that epad has started, with the daemon dead.

A daemon that lives does it better (`epactl lifeboat enter` saves what is critical first), so beside one this refuses.
"""

from __future__ import annotations

import os
import time

from epad.ctl_commands import EXIT_FAILED, EXIT_OK, EXIT_USAGE, Call, find_state

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

GRACE_SECONDS = 10.0
POLL_SECONDS = 0.1


def stop_all(call: Call) -> int:
    """`epactl stop-all --yes [--state DIR]`."""
    state = os.path.realpath(find_state(call.arguments.state, call.environment))
    if _is_locked(f"{state}/daemon.lock"):
        call.terminal.say(
            f"an epad runs on {state}; `epactl lifeboat enter` saves what is critical, and stops everything"
        )
        return EXIT_FAILED
    pids = children_of(state)
    if not call.arguments.yes:
        if not call.terminal.is_person():
            call.terminal.say(f"this ends {len(pids)} process(es), and there is no one to ask: give --yes")
            return EXIT_USAGE
        if not call.terminal.confirm(f"No daemon runs. This ends {len(pids)} process(es) of {state}."):
            call.terminal.say("nothing was done")
            return EXIT_FAILED
    left = end(lambda: children_of(state), GRACE_SECONDS)
    answer = {"state": state, "daemon": "none", "ended": sorted(set(pids) - set(left)), "left": sorted(left)}
    words = [f"no daemon runs on {state}", f"ended {len(answer['ended'])} process(es), {len(left)} left"]
    call.terminal.show(answer, words)
    return EXIT_FAILED if left else EXIT_OK


def children_of(state: str) -> dict[int, str]:
    """Every process that was started for this state directory, by the mark that each inherits: pid and subsystem."""
    found = {}
    for entry in os.listdir("/proc"):  # noqa: PTH208 - pathlib takes 10 ms to import
        if entry.isdigit() and int(entry) != os.getpid():
            variables = _environment(int(entry))
            if variables.get("EPAD_SUBSYSTEM") and os.path.realpath(variables.get("EPAD_STATE", "")) == state:
                found[int(entry)] = variables["EPAD_SUBSYSTEM"]
    return found


def _environment(pid: int) -> dict[str, str]:
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:  # noqa: PTH123 - as above
            pairs = file.read().split(b"\0")
    except OSError:
        return {}  # it is gone, or somebody else's
    return {name: value for name, _, value in (os.fsdecode(pair).partition("=") for pair in pairs)}


def end(remaining: Callable[[], dict[int, str]], grace_seconds: float) -> dict[int, str]:
    """TERM, and KILL for what is still there after the grace; return what outlived that."""
    import signal  # noqa: PLC0415 - an enum, and slow

    deadline = time.monotonic() + grace_seconds
    _send(remaining(), signal.SIGTERM)
    _send(remaining(), signal.SIGCONT)  # what was frozen by a signal must wake to end
    while remaining() and time.monotonic() < deadline:
        time.sleep(POLL_SECONDS)
    deadline = time.monotonic() + grace_seconds
    while (left := remaining()) and time.monotonic() < deadline:
        _send(left, signal.SIGKILL)  # again and again: what forks meanwhile is found by the next look
        time.sleep(POLL_SECONDS)
    return remaining()


def _send(pids: dict[int, str], number: int) -> None:
    for pid in pids:
        try:
            os.kill(pid, number)
        except OSError:
            continue  # it is gone, or somebody else's; then it is told as left


def _is_locked(path: str) -> bool:
    """Whether a daemon holds its state directory."""
    import fcntl  # noqa: PLC0415

    try:
        with open(path, "rb") as file:  # noqa: PTH123
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except OSError:
        return True
    return False
