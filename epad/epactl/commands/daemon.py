"""What each command of `epactl` does, and the status it exits with."""

from __future__ import annotations

import json
import os
import stat

from epad.api.client import ControlClient, NotRunningError, RefusedError, UnknownNameError, quote
from epad.epactl import render

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Mapping, Sequence
    from typing import Any

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

PAGE = 1_000  # events, the most the API gives at once
USUAL_LINES = 100
MOST_LINES = 10_000  # of a log, the most the API gives at once


class UsageError(Exception):
    """The command line asks for something that cannot be done that way."""


class Call:
    """One run of `epactl`: what was asked, of which daemon, and where the answer goes."""

    def __init__(self, arguments: Namespace, environment: Mapping[str, str], terminal: Terminal) -> None:
        self.arguments = arguments
        self.environment = environment
        self.terminal = terminal

    @property
    def client(self) -> ControlClient:
        """The daemon's API. Raises NotRunningError if no socket is found."""
        return ControlClient(find_socket(self.arguments.socket, self.environment))


def find_socket(chosen: str | None, environment: Mapping[str, str]) -> str:
    """The socket named by --socket or $EPAD_SOCKET, else the first that is there. Raises NotRunningError."""
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
    """Whether a path names something of this kind, as far as one may see."""
    try:
        return bool(kind(os.stat(path).st_mode))  # noqa: PTH116 - pathlib takes 10 ms to import
    except PermissionError:
        return True  # it may be: to say "not running" of what one may not see would be wrong
    except OSError:
        return False


def status(call: Call) -> int:
    """`epactl status [NAME] [--check] [--watch] [--wait PHASE]`."""
    if call.arguments.watch or call.arguments.wait:
        from epad.epactl.commands import watch  # noqa: PLC0415 - it imports this

        return watch.wait(call) if call.arguments.wait else watch.watch(call)
    answer = call.client.get("/v1/status")
    name = call.arguments.name
    if name is None:
        call.terminal.show(answer, render.status_lines(answer, call.terminal.style))
    else:
        chosen = [subsystem for subsystem in answer["subsystems"] if subsystem["name"] == name]
        if not chosen:
            known = ", ".join(subsystem["name"] for subsystem in answer["subsystems"]) or "none"
            raise UnknownNameError(f"there is no subsystem {name!r}", f"there are: {known}")
        call.terminal.show(chosen[0], render.subsystem_lines(chosen[0], answer["anomalies"]))
    return EXIT_NOT_NORMAL if call.arguments.check and answer["phase"] != "NORMAL" else EXIT_OK


def phase(call: Call) -> int:
    """`epactl phase [--diagram | --force PHASE --reason R]`."""
    if call.arguments.force:
        return _force(call, call.arguments.force)
    answer = call.client.get("/v1/phase")
    if call.arguments.diagram:
        call.terminal.show({"diagram": answer["diagram"]}, answer["diagram"].splitlines())
    else:
        call.terminal.show(answer, render.phase_lines(answer, call.terminal.style))
    return EXIT_OK


def _force(call: Call, wanted: str) -> int:
    """Enter a phase without waiting. Raises UsageError, ClientError."""
    if call.arguments.reason is None:
        raise UsageError("--force changes the phase: give --reason TEXT, which is recorded")
    if call.arguments.dry_run:
        now = call.client.get("/v1/phase")
        why = now["force"][wanted]
        answer = {"order": f"phase {wanted}", "dry_run": True, "phase": now["phase"], "refused": why}
        would = f"would be refused: {why}" if why else f"would order {now['phase']} -> {wanted} at once"
        call.terminal.show(answer, [would, "nothing was done"])
        return EXIT_OK
    answer = call.client.order("/v1/phase", call.arguments.reason, phase=wanted)
    call.terminal.show(answer, render.result_lines(answer))
    return EXIT_FAILED if answer["failed"] else EXIT_OK


def explain(call: Call) -> int:
    """`epactl explain [-v] [SUBJECT]`."""
    subject = call.arguments.subject
    answer = call.client.get("/v1/explain", {"subject": subject} if subject else None)
    evidence = call.arguments.verbose
    call.terminal.show(answer, render.explain_lines(answer, call.terminal.style, evidence=evidence))
    return EXIT_OK


def events(call: Call) -> int:
    """`epactl events [-f] [--since ID] [-n COUNT]`."""
    arguments, client = call.arguments, call.client
    since = -arguments.count if arguments.since is None else arguments.since
    if isinstance(since, float):
        since = _last_event_before(client, since)
    if arguments.follow:
        query = {"since": str(since), "limit": str(PAGE), "follow": "1"}
        for event in client.lines("/v1/events", query):
            _show_event(call, event)
        raise NotRunningError("the daemon has ended the stream", "is it still running? epactl status")
    while batch := list(client.lines("/v1/events", {"since": str(since), "limit": str(PAGE)})):
        for event in batch:
            _show_event(call, event)
        since = batch[-1]["id"]
        if len(batch) < PAGE:
            break
    return EXIT_OK


def _last_event_before(client: ControlClient, utc: float) -> int:
    """The id of the newest event that is older than a time; 0 if none is. Ids grow with time: halve until found."""
    newest = [event["id"] for event in client.lines("/v1/events", {"since": "-1", "limit": "1"})]
    low, high = 0, newest[0] if newest else 0
    while low < high:
        middle = (low + high + 1) // 2
        found = list(client.lines("/v1/events", {"since": str(middle - 1), "limit": "1"}))
        if found and _utc(found[0]["at"]) < utc:
            low = max(middle, found[0]["id"])
        else:
            high = middle - 1
    return low


def _utc(stamp: str) -> float:
    import datetime as dt  # noqa: PLC0415 - only where a time was given

    return dt.datetime.fromisoformat(stamp).timestamp()


def _show_event(call: Call, event: dict[str, Any]) -> None:
    call.terminal.lines([json.dumps(event) if call.terminal.as_json else render.event_line(event)])


def quarantine(call: Call) -> int:
    """`epactl quarantine NAME --reason R`."""
    return order(call, f"/v1/subsystems/{quote(call.arguments.name)}/quarantine")


def release(call: Call) -> int:
    """`epactl release NAME [--reason R]`."""
    return order(call, f"/v1/subsystems/{quote(call.arguments.name)}/release")


def pause(call: Call) -> int:
    """`epactl pause NAME --reason R`."""
    return order(call, f"/v1/subsystems/{quote(call.arguments.name)}/pause")


def resume(call: Call) -> int:
    """`epactl resume NAME --reason R`."""
    return order(call, f"/v1/subsystems/{quote(call.arguments.name)}/resume")


def restart(call: Call) -> int:
    """`epactl restart NAME --reason R`."""
    return order(call, f"/v1/subsystems/{quote(call.arguments.name)}/restart")


def stop(call: Call) -> int:
    """`epactl stop NAME --reason R`."""
    return order(call, f"/v1/subsystems/{quote(call.arguments.name)}/stop")


def reload(call: Call) -> int:
    """`epactl reload --reason R`."""
    return order(call, "/v1/reload")


def logs(call: Call) -> int:
    """`epactl logs NAME [-f] [-n LINES] [--since WHEN]`."""
    arguments = call.arguments
    since, most = arguments.since, MOST_LINES if arguments.since is not None else USUAL_LINES
    query = {
        "lines": str(most if arguments.lines is None else arguments.lines),
        "after": str(-1 if since is None else int(since)),
        "follow": "1" if arguments.follow else "0",
    }
    for item in call.client.lines(f"/v1/subsystems/{quote(arguments.name)}/logs", query):
        call.terminal.lines([json.dumps(item) if call.terminal.as_json else render.clean(item["line"])])
    if arguments.follow:
        raise NotRunningError("the daemon has ended the stream", "is it still running? epactl status")
    return EXIT_OK


def key_rotate(call: Call) -> int:
    """`epactl key rotate NAME --reason R`."""
    return order(call, f"/v1/subsystems/{quote(call.arguments.name)}/key/rotate")


def key_revoke(call: Call) -> int:
    """`epactl key revoke NAME --reason R`."""
    return order(call, f"/v1/subsystems/{quote(call.arguments.name)}/key/revoke")


def lifeboat_enter(call: Call) -> int:
    """`epactl lifeboat enter --reason R [--yes]`."""
    if not call.arguments.yes:
        if not call.terminal.is_person():
            raise UsageError("this stops every subsystem, and there is no one to ask: give --yes")
        if not call.terminal.confirm("This saves what is critical and stops every subsystem."):
            call.terminal.say("nothing was done")
            return EXIT_FAILED
    return order(call, "/v1/lifeboat")


def checkpoint_create(call: Call) -> int:
    """`epactl checkpoint create --reason R`."""
    return order(call, "/v1/checkpoint")


def ledger_accept_loss(call: Call) -> int:
    """`epactl ledger accept-loss --reason R`."""
    return order(call, "/v1/ledger/accept-loss")


def datastore_accept(call: Call) -> int:
    """`epactl datastore accept NAME --reason R`."""
    return order(call, f"/v1/datastores/{quote(call.arguments.name)}/accept")


def order(call: Call, target: str) -> int:
    """Give an order with the reason on the command line, and show what came of it."""
    if getattr(call.arguments, "dry_run", False):
        return _rehearse(call, target)
    answer = call.client.order(target, call.arguments.reason)
    call.terminal.show(answer, render.result_lines(answer))
    return EXIT_FAILED if answer.get("failed") else EXIT_OK


def _rehearse(call: Call, target: str) -> int:
    """Say what an order would be about, and give none. Raises UnknownNameError."""
    name, status = getattr(call.arguments, "name", None), call.client.get("/v1/status")
    asked = target.removeprefix("/v1/").replace("subsystems/", "")
    answer = {"order": asked, "dry_run": True, "phase": status["phase"], "reason": call.arguments.reason}
    about = f"the phase is {status['phase']}"
    if name is not None and target.startswith("/v1/subsystems/"):
        chosen = [subsystem for subsystem in status["subsystems"] if subsystem["name"] == name]
        if not chosen:
            known = ", ".join(subsystem["name"] for subsystem in status["subsystems"]) or "none"
            raise UnknownNameError(f"there is no subsystem {name!r}", f"there are: {known}")
        answer |= {"subsystem": name, "state": chosen[0]["state"], "hold": chosen[0]["hold"]["rung"]}
        about = (
            f"{render.clean(name)} is {chosen[0]['state']}, its hold is {chosen[0]['hold']['rung']}; {about}"
        )
    call.terminal.show(answer, [f"would order {asked}: {about}", "nothing was done"])
    return EXIT_OK


def find_state(chosen: str | None, environment: Mapping[str, str]) -> str:
    """The state directory named, else the first with a ledger in it, else the user's own. Raises RefusedError."""
    candidates: Sequence[str] = [chosen] if chosen else [SYSTEM_STATE, _own_state(environment)]
    found = next((d for d in candidates if is_there(f"{d}/ledger.db", stat.S_ISREG)), candidates[-1])
    refuse_unreadable(found)
    return found


def state_of(call: Call) -> str:
    """The state directory: named, that of the socket named, or where a daemon keeps it.

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
    """Raises RefusedError if this user may not read what is there; what is missing is for others to say."""
    if is_there(path, bool) and not os.access(path, os.R_OK):
        raise RefusedError(f"{path}: you may not read it", AS_WHOM)
