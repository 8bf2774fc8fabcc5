"""`epactl stop-all`: end everything that epad has started, with the daemon dead.

Beside a living daemon it refuses: there `epactl lifeboat enter` saves the critical state first and then stops
everything.
"""

from __future__ import annotations

import os

from epad.epactl.call import EXIT_FAILED, EXIT_OK, EXIT_REFUSED, Call, state_of
from epad.epactl.consent import NOTHING_DONE, agreed

GRACE_SECONDS = 10.0


def stop_all(call: Call) -> int:
    """`epactl stop-all --yes [--state DIR]`."""
    from epad.storage.state_lock import is_locked  # noqa: PLC0415

    given = os.path.abspath(state_of(call))  # noqa: PTH100 - pathlib takes 10 ms to import
    state = os.path.realpath(given)
    try:
        held = is_locked(state)
    except OSError as error:
        call.terminal.say(
            f"{error.filename}: {error.strerror}: whether an epad runs on it cannot be told; "
            "ask as root, or as the user that epad runs as"
        )
        return EXIT_REFUSED
    if held:
        call.terminal.say(
            f"an epad runs on {state}; `epactl lifeboat enter` saves what is critical, and stops everything"
        )
        return EXIT_FAILED
    return _end_all(call, given, state)


def _end_all(call: Call, given: str, state: str) -> int:
    import asyncio  # noqa: PLC0415 - this and what follows takes longer to import than most commands to run
    from pathlib import Path  # noqa: PLC0415

    from epad.runtime.clock import boot_id  # noqa: PLC0415
    from epad.supervisor.identity import ProcessTable  # noqa: PLC0415
    from epad.supervisor.orphans import LeftBehind, read_journal  # noqa: PLC0415
    from epad.supervisor.process_tree import end  # noqa: PLC0415

    boot = boot_id()
    recorded, unread = read_journal(Path(state, "state.db"), boot)
    if unread:
        call.terminal.say(f"{unread}; without it a child that has hidden its environment is not found")
    table = ProcessTable(boot)
    left_behind = LeftBehind(table, Path(given), recorded)
    found = left_behind.look()
    if call.arguments.dry_run:
        return _rehearse(call, state, sorted(member.pid for member in found))
    if not agreed(call, f"ends {len(found)} process(es) of {state}, where no daemon runs"):
        return EXIT_FAILED
    left = asyncio.run(end(table, left_behind, GRACE_SECONDS))
    ended = sorted(member.pid for member in left_behind.seen - left)
    answer = {
        "state": state,
        "daemon": "none",
        "reason": call.arguments.reason,
        "journal": unread or "read",
        "ended": ended,
        "left": sorted(member.pid for member in left),
    }
    lines = [f"pid {member.pid} is left: {left_behind.why_alive(member)}" for member in left]
    summary = f"ended {len(ended)} process(es), {len(left)} left"
    call.terminal.show(answer, [f"no daemon runs on {state}", summary, *sorted(lines)])
    return EXIT_FAILED if left else EXIT_OK


def _rehearse(call: Call, state: str, pids: list[int]) -> int:
    """Say which processes would be ended, and end none."""
    answer = {
        "order": "stop-all",
        "dry_run": True,
        "state": state,
        "reason": call.arguments.reason,
        "would_end": pids,
    }
    told = ", ".join(map(str, pids)) or "none"
    call.terminal.show(answer, [f"would end {len(pids)} process(es) of {state}: {told}", NOTHING_DONE])
    return EXIT_OK
