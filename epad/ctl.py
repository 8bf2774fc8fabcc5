"""`epactl`, the operator's hand. Standard library only, and little of it: it starts in two blinks.

A command imports more only where it cannot do without (those of `ledger`).
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import time

from epad import (
    __version__,
    ctl_checkpoint,
    ctl_commands,
    ctl_emergency,
    ctl_ledger,
    ctl_lifeboat,
    ctl_local,
    ctl_shell,
    ctl_simulate,
    ctl_watch,
)
from epad.control.client import ClientError, NotRunningError, RefusedError, UnknownNameError, UnreachableError
from epad.control.terminal import Terminal
from epad.ctl_commands import (
    EXIT_BROKEN_PIPE,
    EXIT_FAILED,
    EXIT_INTERRUPTED,
    EXIT_NOT_RUNNING,
    EXIT_REFUSED,
    EXIT_UNKNOWN,
    EXIT_USAGE,
    Call,
    UsageError,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

PHASES = ("NORMAL", "QUARANTINE", "PRESERVATION", "RECOVERY", "LIFEBOAT")
_MOST_SECONDS = 1e6
_UNITS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}
OUTPUTS = ("table", "wide", "json", "jsonl")
MAX_REASON_CHARACTERS = 500  # as the API has it; importing that would import the daemon

EXIT_CODES = """exit status:
  0    done; for `status --check`: the phase is NORMAL
  1    the daemon could not do it, or the ledger is damaged
  2    the command line is wrong, or there is no one to ask and no --yes
  3    no daemon is running
  4    unknown: no such subsystem, or the daemon does not answer
  5    refused: this user may not do that
  10   `status --check`: the phase is not NORMAL
  11   `simulate`: what would have happened is not what happened
  12   `status --wait`: the phase was not reached in time
  130  interrupted
  141  the reader of the output has gone

environment:
  EPAD_SOCKET   the control socket; otherwise the first there is of /run/epad, $XDG_RUNTIME_DIR/epad and
                ~/.local/state/epad/run
  NO_COLOR      no colours
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; return the exit status."""
    try:
        arguments = _parser().parse_args(argv)
    except SystemExit as stop:
        return int(stop.code or 0)
    terminal = Terminal(os.environ, arguments.output)
    try:
        return _run(Call(arguments, os.environ, terminal))
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        # The reader has gone; without this, the interpreter complains once more when it flushes at exit.
        with contextlib.suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_BROKEN_PIPE


def _run(call: Call) -> int:
    command: Callable[[Call], int] = call.arguments.run
    try:
        return command(call)
    except UsageError as error:
        call.terminal.say(str(error))
        return EXIT_USAGE
    except ClientError as error:
        call.terminal.say(f"{error}; {error.fix}" if error.fix else str(error))
        return exit_status(error)


def exit_status(error: ClientError) -> int:
    """The exit status that says what kind of failure it was."""
    match error:
        case NotRunningError():
            return EXIT_NOT_RUNNING
        case RefusedError():
            return EXIT_REFUSED
        case UnknownNameError() | UnreachableError():
            return EXIT_UNKNOWN
        case _:
            return EXIT_FAILED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "epactl",
        description="Look at a running epad and give it orders.",
        epilog=EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"epactl {__version__}")
    _add_common(parser, socket=None, output="table")
    # After the command too, where people write them; suppressed defaults leave what came before alone.
    common = argparse.ArgumentParser(add_help=False)
    _add_common(common, socket=argparse.SUPPRESS, output=argparse.SUPPRESS)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_readings(commands, common)
    _add_orders(commands, common)
    _add_local(commands, common)
    return parser


def _add_common(parser: argparse.ArgumentParser, socket: str | None, output: str) -> None:
    parser.add_argument("--socket", metavar="PATH", default=socket, help="the daemon's control socket")
    parser.add_argument("-o", "--output", choices=OUTPUTS, default=output, help="how to answer")


def _add(
    commands: argparse._SubParsersAction[argparse.ArgumentParser],
    common: argparse.ArgumentParser,
    name: str,
    run: Callable[[Call], int],
    words: str,
) -> argparse.ArgumentParser:
    parser = commands.add_parser(name, parents=[common], help=words, description=words)
    parser.set_defaults(run=run)
    return parser


def _add_readings(
    commands: argparse._SubParsersAction[argparse.ArgumentParser], common: argparse.ArgumentParser
) -> None:
    status = _add(
        commands, common, "status", ctl_commands.status, "The phase, the subsystems, what is wrong."
    )
    status.add_argument("name", metavar="NAME", nargs="?", help="one subsystem, in full")
    status.add_argument("--check", action="store_true", help="exit 10 if the phase is not NORMAL")
    status.add_argument("--watch", action="store_true", help="again and again, until q is pressed")
    status.add_argument("--wait", metavar="PHASE", type=_phase, help="return once this phase is reached")
    status.add_argument(
        "--timeout", metavar="SECONDS", type=_seconds, default=60.0, help="how long --wait waits (60)"
    )
    top = _add(commands, common, "top", ctl_watch.top, "Everything on one screen, as it changes.")
    for parser in (status, top):
        parser.add_argument(
            "--interval", metavar="SECONDS", type=_seconds, default=2.0, help="how often to look (2)"
        )
    phase = _add(commands, common, "phase", ctl_commands.phase, "The phase and how it came about.")
    phase.add_argument("--diagram", action="store_true", help="the transition table as a Mermaid diagram")
    explain = _add(commands, common, "explain", ctl_commands.explain, "Why: from finding to result.")
    explain.add_argument("subject", metavar="SUBJECT", nargs="?", help="a subsystem, a phase, or an id")
    _add(commands, common, "recovery", ctl_lifeboat.recovery, "What a recovery does, did, and leaves to you.")
    events = _add(commands, common, "events", ctl_commands.events, "What happened.")
    events.add_argument("-f", "--follow", action="store_true", help="go on with events as they happen")
    events.add_argument(
        "--since",
        metavar="WHEN",
        type=_event_or_moment,
        help="what followed: an event's id, or a time as 10m",
    )
    events.add_argument(
        "-n", "--count", metavar="N", type=_whole(1), default=20, help="the newest N (20), without --since"
    )
    logs = _add(commands, common, "logs", ctl_commands.logs, "What a subsystem has printed.")
    logs.add_argument("name", metavar="NAME", help="the subsystem")
    logs.add_argument("-f", "--follow", action="store_true", help="go on with lines as they are printed")
    logs.add_argument(
        "-n", "--lines", metavar="N", type=_whole(0), help="the last N lines (100; with --since, all)"
    )
    logs.add_argument(
        "--since",
        metavar="WHEN",
        type=moment,
        help="what was printed after: 90s, 10m, 2h, 1d, or an ISO time",
    )
    ledger = commands.add_parser("ledger", help="The turn ledger.").add_subparsers(
        required=True, metavar="COMMAND"
    )
    _add_ledger(ledger, common)


def _add_ledger(
    ledger: argparse._SubParsersAction[argparse.ArgumentParser], common: argparse.ArgumentParser
) -> None:
    verify = _add(ledger, common, "verify", ctl_ledger.verify, "Check every record against signed heads.")
    how = verify.add_mutually_exclusive_group()
    how.add_argument(
        "--full", action="store_true", help="also roots, segments, indexes, payloads, every head"
    )
    how.add_argument("--segments", action="store_true", help="the sealed segments alone, by their hashes")
    show = _add(ledger, common, "show", ctl_ledger.show, "Records, the newest or one.")
    show.add_argument("seq", metavar="SEQ", type=_whole(1), nargs="?", help="one record, in full")
    show.add_argument("--last", metavar="N", type=_whole(1), default=20, help="the newest N (20)")
    export = _add(ledger, common, "export", ctl_ledger.export, "All records as JSON lines.")
    export.add_argument(
        "--format", choices=("jsonl", "otel"), default="jsonl", help="records, or OpenTelemetry GenAI spans"
    )
    head = _add(ledger, common, "head", ctl_ledger.head, "The newest signed head.")
    prove = _add(ledger, common, "prove", ctl_ledger.prove, "A proof that a record is in the ledger.")
    prove.add_argument("seq", metavar="SEQ", type=_whole(1), help="the record")
    for parser in (verify, show, export, head, prove):
        parser.add_argument("--state", metavar="DIR", help="the daemon's state directory")


def _add_orders(
    commands: argparse._SubParsersAction[argparse.ArgumentParser], common: argparse.ArgumentParser
) -> None:
    quarantine = _add(commands, common, "quarantine", ctl_commands.quarantine, "Hold a subsystem.")
    release = _add(commands, common, "release", ctl_commands.release, "Let a subsystem go.")
    pause = _add(commands, common, "pause", ctl_commands.pause, "Let a subsystem rest; nothing is wrong.")
    resume = _add(commands, common, "resume", ctl_commands.resume, "End a rest.")
    restart = _add(commands, common, "restart", ctl_commands.restart, "Stop a subsystem and start it anew.")
    stop = _add(commands, common, "stop", ctl_commands.stop, "Stop a subsystem, and keep it stopped.")
    start = _add(commands, common, "start", ctl_commands.release, "Let a stopped subsystem run: as release.")
    for parser in (quarantine, release, pause, resume, restart, stop, start):
        parser.add_argument("name", metavar="NAME", help="the subsystem")
    reload = _add(commands, common, "reload", ctl_commands.reload, "Read the configuration again.")
    reload.add_argument(
        "--reason", metavar="TEXT", type=_reason, default="asked for", help="why; it is recorded"
    )
    key = commands.add_parser("key", help="The gateway keys.").add_subparsers(
        required=True, metavar="COMMAND"
    )
    rotate = _add(key, common, "rotate", ctl_commands.key_rotate, "Give a subsystem a new key.")
    revoke = _add(key, common, "revoke", ctl_commands.key_revoke, "Take a subsystem's keys away.")
    for parser in (rotate, revoke):
        parser.add_argument("name", metavar="NAME", help="the subsystem")
    lifeboat = commands.add_parser("lifeboat", help="The last resort.").add_subparsers(
        required=True, metavar="COMMAND"
    )
    enter = _add(
        lifeboat, common, "enter", ctl_commands.lifeboat_enter, "Save what is critical, stop everything."
    )
    enter.add_argument("--yes", action="store_true", help="do not ask")
    relaunch = _add(lifeboat, common, "relaunch", ctl_lifeboat.relaunch, "Start everything again.")
    relaunch.add_argument(
        "--from",
        dest="source",
        metavar="BUNDLE",
        help="with the daemon dead: make the state directory anew from this bundle, or a first tier",
    )
    listing = _add(
        lifeboat, common, "list", ctl_lifeboat.list_boats, "What was saved: bundles and first tier."
    )
    inspect = _add(lifeboat, common, "inspect", ctl_lifeboat.inspect, "What is in one of them.")
    inspect.add_argument("source", metavar="BUNDLE", help="a bundle's name or path, or `first-tier`")
    for parser in (relaunch, listing, inspect):
        parser.add_argument("--state", metavar="DIR", help="the daemon's state directory")
    checkpoint = commands.add_parser("checkpoint", help="Checkpoints.").add_subparsers(
        required=True, metavar="COMMAND"
    )
    create = _add(checkpoint, common, "create", ctl_commands.checkpoint_create, "Make one now.")
    _add_checkpoint(checkpoint, common)
    datastore = commands.add_parser("datastore", help="Stores that other programs write.").add_subparsers(
        required=True, metavar="COMMAND"
    )
    accept = _add(datastore, common, "accept", ctl_commands.datastore_accept, "Take one as it is for sound.")
    accept.add_argument("name", metavar="NAME", help="the datastore")
    given = (
        quarantine,
        release,
        pause,
        resume,
        restart,
        stop,
        start,
        rotate,
        revoke,
        enter,
        relaunch,
        create,
        accept,
    )
    for parser in given:
        parser.add_argument(
            "--reason", metavar="TEXT", type=_reason, required=True, help="why; it is recorded"
        )
    for parser in (*given, reload):
        parser.add_argument(
            "--dry-run", action="store_true", help="say what it would be about, and do nothing"
        )


def _add_local(
    commands: argparse._SubParsersAction[argparse.ArgumentParser], common: argparse.ArgumentParser
) -> None:
    """What works on this machine's files, without a daemon."""
    simulate = _add(
        commands,
        common,
        "simulate",
        ctl_simulate.simulate,
        "What would have happened under other thresholds.",
    )
    simulate.add_argument(
        "--since", metavar="WHEN", type=moment, help="from when on: 90s, 2h, 7d (the usual), or an ISO time"
    )
    simulate.add_argument(
        "--set",
        dest="settings",
        metavar="KEY=VALUE",
        action="append",
        default=[],
        help="a threshold to try, as in probes.token_burn.identical_prompts=4; may be given several times",
    )
    simulate.add_argument("--state", metavar="DIR", help="the daemon's state directory")
    doctor = _add(
        commands, common, "doctor", ctl_local.doctor, "What this machine offers, and the fix for the rest."
    )
    doctor.add_argument("--state", metavar="DIR", help="the daemon's state directory")
    config = commands.add_parser("config", help="The configuration.").add_subparsers(
        required=True, metavar="COMMAND"
    )
    shown = _add(config, common, "show", ctl_local.config_show, "Every key, its value, and who set it.")
    shown.add_argument("prefix", metavar="PREFIX", nargs="?", help="only what begins so: probes.token_burn")
    for parser in (doctor, shown):
        parser.add_argument(
            "--config", metavar="FILE", help="instead of /etc/epad/epad.toml; FILE.d/*.toml follow"
        )
    everything = _add(
        commands, common, "stop-all", ctl_emergency.stop_all, "With no daemon: end all that epad has started."
    )
    everything.add_argument("--state", metavar="DIR", help="the daemon's state directory")
    everything.add_argument("--yes", action="store_true", help="do not ask")
    completion = _add(
        commands, common, "completion", ctl_shell.completion_command(_parser), "What a shell offers at Tab."
    )
    completion.add_argument("shell", choices=ctl_shell.SHELLS, help="the shell")
    _add(commands, common, "man", ctl_shell.man_command(_parser), "The manual page, for man -l.")


def _phase(text: str) -> str:
    if text.upper() not in PHASES:
        raise argparse.ArgumentTypeError(f"{text!r} is no phase: {', '.join(PHASES)}")
    return text.upper()


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < _MOST_SECONDS:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of seconds above 0")
    return value


def _event_or_moment(text: str) -> int | float:
    """An event's id as a whole number, a time as a float."""
    return _whole(0)(text) if text.lstrip("-").isdecimal() else moment(text)


def _add_checkpoint(
    checkpoint: argparse._SubParsersAction[argparse.ArgumentParser], common: argparse.ArgumentParser
) -> None:
    show = _add(checkpoint, common, "list", ctl_checkpoint.show_list, "What there is, the newest first.")
    verify = _add(checkpoint, common, "verify", ctl_checkpoint.verify, "Read one back, to the last byte.")
    restore = _add(
        checkpoint,
        common,
        "restore",
        ctl_checkpoint.restore,
        "Put one back; epad's own state only with no epad.",
    )
    for parser in (verify, restore):
        parser.add_argument("id", metavar="ID", nargs="?", help="which (the newest verified one)")
    restore.add_argument("--to", metavar="DIR", help="into this directory, touching nothing else")
    restore.add_argument("--only", metavar="PART", help="the parts whose names begin so, as in the manifest")
    restore.add_argument("--yes", action="store_true", help="do not ask")
    for parser in (show, verify, restore):
        parser.add_argument("--state", metavar="DIR", help="the daemon's state directory")


def _whole(low: int) -> Callable[[str], int]:
    def number(text: str) -> int:
        if not text.isdecimal() or not low <= int(text) < 2**63:
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least {low}")
        return int(text)

    return number


def moment(text: str, now: Callable[[], float] = time.time) -> float:
    """Read a time as seconds of UTC: so long ago, or an ISO time (local, if it names no zone)."""
    number, unit = text[:-1], text[-1:]
    if number.isdecimal() and unit in _UNITS:
        return now() - int(number) * _UNITS[unit]
    import datetime as dt  # noqa: PLC0415 - it takes as long to load as everything else here

    try:
        return dt.datetime.fromisoformat(text).astimezone().timestamp()
    except (ValueError, OverflowError):
        fix = "give 90s, 10m, 2h, 1d, or an ISO time such as 2026-01-31T03:00"
        raise argparse.ArgumentTypeError(f"{text!r} is no time: {fix}") from None


def _reason(text: str) -> str:
    if not 1 <= len(text.strip()) <= MAX_REASON_CHARACTERS:
        raise argparse.ArgumentTypeError(f"give 1 to {MAX_REASON_CHARACTERS} characters")
    return text.strip()


if __name__ == "__main__":
    sys.exit(main())
