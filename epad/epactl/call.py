"""Hold one run of `epactl`: its command line, the daemon and the state directory it is for, and the exit statuses."""

from __future__ import annotations

import os
import stat

from epad import EpadError
from epad.api.client import ControlClient, NotRunningError, RefusedError, UnknownNameError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Mapping, Sequence
    from typing import Any

    from epad.answers.tools import ToolCategory
    from epad.epactl.terminal import Terminal

EXIT_OK = 0
EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_NOT_RUNNING = 3
EXIT_UNKNOWN = 4
EXIT_REFUSED = 5
EXIT_NOT_NORMAL = 10
EXIT_INTERRUPTED = 130
EXIT_BROKEN_PIPE = 141

AS_WHOM = "run it as root, or as the user that epad runs as (sudo -u epad epactl ...)"

# Where systemd puts them: RuntimeDirectory=epad and StateDirectory=epad.
SYSTEM_RUNTIME = "/run/epad"
SYSTEM_STATE = "/var/lib/epad"
# Of these files each state directory that was ever used holds one.
_OF_A_STATE = ("ledger.db", "state.db", "daemon.lock")


def unknown_subsystem(name: str, status: Mapping[str, Any]) -> UnknownNameError:
    """Return the error for a name that no subsystem of a status has; it names the nearest."""
    from epad.formatting.nearest import fix  # noqa: PLC0415

    return UnknownNameError(
        f"there is no subsystem {name!r}",
        fix(name, [subsystem["name"] for subsystem in status["subsystems"]]),
    )


def tools_of(name: str, status: Mapping[str, Any]) -> ToolCategory | None:
    """Return the category of tools that a name is about (`tools-git`, `tool:git_commit`, either with `@NAME`)."""
    about = name.partition("@")[0]
    categories: Sequence[ToolCategory] = status.get("tools", ())
    return next(
        (
            category
            for category in categories
            if about == category["name"] or about in {f"tool:{tool}" for tool in category["tools"]}
        ),
        None,
    )


class UsageError(EpadError):
    """The command line asks for something that cannot be done that way."""


class Call:
    """Holds one run of `epactl`: its arguments, the daemon's socket, and the terminal for the answer."""

    def __init__(self, arguments: Namespace, environment: Mapping[str, str], terminal: Terminal) -> None:
        self.arguments = arguments
        self.environment = environment
        self.terminal = terminal

    @property
    def client(self) -> ControlClient:
        """Return the daemon's API. Raises NotRunningError if no socket is found."""
        return ControlClient(find_socket(self.arguments.socket, self.environment))


def find_socket(chosen: str | None, environment: Mapping[str, str]) -> str:
    """Return the socket named by --socket or $EPAD_SOCKET, else the first that is there.

    Raises NotRunningError.
    """
    named = chosen or environment.get("EPAD_SOCKET")
    if named:
        return named
    candidates = [f"{directory}/control.sock" for directory in _runtime_directories(environment)]
    for path in candidates:
        if is_there(path, stat.S_ISSOCK):
            return path
    raise NotRunningError(
        f"no epad is running: looked for {', '.join(candidates)}",
        "start it (systemctl start epad, or epad run), or name its socket with --socket",
    )


def _runtime_directories(environment: Mapping[str, str]) -> list[str]:
    own = environment.get("XDG_RUNTIME_DIR")
    return [SYSTEM_RUNTIME, *([f"{own}/epad"] if own else []), f"{_own_state(environment)}/run"]


def _own_state(environment: Mapping[str, str]) -> str:
    home = environment.get("HOME", "/root")
    return f"{environment.get('XDG_STATE_HOME') or f'{home}/.local/state'}/epad"


def is_there(path: str, kind: Any) -> bool:
    """Tell if a path names something of this kind; a path that this user may not see counts as there."""
    try:
        return bool(kind(os.stat(path).st_mode))  # noqa: PTH116 - pathlib takes 10 ms to import
    except PermissionError:
        return True  # it may be: to say "not running" of what one may not see would be wrong
    except OSError:
        return False


def find_state(chosen: str | None, environment: Mapping[str, str]) -> str:
    """Return the state directory named, else the first with a ledger in it, else the user's own.

    Raises RefusedError.
    """
    candidates: Sequence[str] = [chosen] if chosen else [SYSTEM_STATE, _own_state(environment)]
    found = next((d for d in candidates if is_there(f"{d}/ledger.db", stat.S_ISREG)), candidates[-1])
    refuse_unreadable(found)
    return found


def state_of(call: Call) -> str:
    """Return the state directory: named, that of the socket named, or where a daemon keeps it.

    Raises UsageError, RefusedError.
    """
    chosen, environment = call.arguments.state, call.environment
    socket = call.arguments.socket or environment.get("EPAD_SOCKET")
    if chosen or not socket:
        return find_state(chosen, environment)
    runtime = os.path.realpath(socket).rpartition("/")[0]
    below = runtime.removesuffix("/run")
    usual = {os.path.realpath(place): _own_state(environment) for place in _runtime_directories(environment)}
    states = {f"{below}/run": below} | usual | {os.path.realpath(SYSTEM_RUNTIME): SYSTEM_STATE}
    state = states.get(runtime)
    if state is not None:
        refuse_unreadable(state)
    if state is None or not any(is_there(f"{state}/{name}", stat.S_ISREG) for name in _OF_A_STATE):
        raise UsageError(
            f"{socket} does not tell which state directory is its daemon's: name it with --state"
        )
    return state


def refuse_unreadable(path: str) -> None:
    """Raise RefusedError if this user may not read an existing path. A missing path is left to the caller."""
    if is_there(path, bool) and not os.access(path, os.R_OK):
        raise RefusedError(f"{path}: you may not read it", AS_WHOM)
