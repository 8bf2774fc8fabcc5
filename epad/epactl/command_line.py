"""The command line of `epactl`: every command with its options, each group of them in one place."""

from __future__ import annotations

import argparse

from epad import __version__
from epad.epactl import arguments
from epad.epactl.commands import (
    about,
    approvals,
    changes,
    confine,
    daemon,
    emergency,
    init,
    keys,
    learn,
    local,
    orders,
    shell,
    upgrade,
    watch,
)
from epad.epactl.commands import agents as ctl_agents
from epad.epactl.commands import audit as ctl_audit
from epad.epactl.commands import budget as ctl_budget
from epad.epactl.commands import checkpoint as ctl_checkpoint
from epad.epactl.commands import identity as ctl_identity
from epad.epactl.commands import ledger as ctl_ledger
from epad.epactl.commands import lifeboat as ctl_lifeboat
from epad.epactl.commands import memory as ctl_memory
from epad.epactl.commands import secrets as ctl_secrets
from epad.epactl.commands import simulate as ctl_simulate
from epad.epactl.commands import tools as ctl_tools
from epad.epactl.commands import undo as ctl_undo
from epad.epactl.commands import usage as ctl_usage
from epad.epactl.commands import vault as ctl_vault
from epad.epactl.parser import Commands, Formatter, Parser, add_name, add_order_options
from epad.operations.registry import Operation

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from epad.epactl.call import Call

EXIT_CODES = """exit status:
  0    done; for `status --check`: the phase is NORMAL
  1    the daemon could not do it, or the ledger is damaged
  2    the command line is wrong, or there is no one to ask and no --yes
  3    no daemon is running
  4    unknown: no such subsystem or file, or the daemon does not answer
  5    refused: this user may not do that
  10   `status --check`: the phase is not NORMAL
  11   `simulate`: other decisions than the recorded ones
  12   `status --wait`: the phase was not reached in time
  130  interrupted
  141  the reader of the output has gone

environment:
  EPAD_SOCKET   the control socket; otherwise the first there is of /run/epad, $XDG_RUNTIME_DIR/epad and
                ~/.local/state/epad/run
  NO_COLOR      no colours

other words: status: ps, ls, list; explain: describe; logs: log; where there is a list: ls
"""

GROUPS = {
    "changes": changes.WORDS,
    "ledger": "The turn ledger.",
    "key": "The gateway keys.",
    "lifeboat": "The last resort.",
    "checkpoint": "Checkpoints.",
    "datastore": "Stores that other programs write.",
    "confine": "What subsystems may reach.",
}
"""Commands that are only the first word of others."""

RUN = {
    Operation.UPGRADE: upgrade.upgrade,
    Operation.RELOAD: confine.reload,
    Operation.LEARN: learn.learn,
    Operation.APPROVE: approvals.approve,
    Operation.REVOKE_HOST: approvals.revoke,
    Operation.SET_BUDGET: ctl_budget.change,
    Operation.RELAUNCH: ctl_lifeboat.relaunch,
    Operation.UNDO: ctl_undo.undo,
}
"""The orders that are more than a request."""

ASK: Mapping[Operation, Callable[[Call], int]] = {
    Operation.CHANGES_READ: changes.show,
    Operation.CONFINE_DIFF_READ: confine.diff,
}
"""The questions that show their answer in a way of their own."""

OTHER_WORDS = {Operation.RELEASE: "start"}
"""Orders that have a second word, under which people look for them."""

LEARN_SECONDS = 1_800.0

REASONS = dict.fromkeys(
    (Operation.RELOAD, Operation.APPROVE, Operation.DENY, Operation.REVOKE_HOST), orders.NO_REASON
)
"""The orders that need no reason of a person's."""


def make_parser() -> argparse.ArgumentParser:
    """Return the whole command line."""
    parser = Parser(
        "epactl",
        description="Look at a running epad and give it orders.",
        epilog=EXIT_CODES,
        formatter_class=Formatter,
    )
    parser.add_argument("--version", action="version", version=f"epactl {__version__}")
    _add_common(parser, socket=None, output="table")
    # After the command too, where people write them; suppressed defaults leave what came before alone.
    common = Parser(add_help=False)
    _add_common(common, socket=argparse.SUPPRESS, output=argparse.SUPPRESS)
    commands = Commands(parser.add_subparsers(required=True, metavar="COMMAND"), common)
    for add in (
        _add_looks,
        _add_reasons,
        _add_texts,
        _add_ledger,
        _add_budgets,
        _add_approvals,
        _add_usage,
        ctl_audit.add_commands,
        ctl_tools.add_commands,
        ctl_agents.add_commands,
        ctl_memory.add_commands,
        ctl_secrets.add_commands,
        ctl_identity.add_commands,
        ctl_vault.add_commands,
        _add_operations,
    ):
        add(commands)
    for add in (
        _add_keys,
        _add_lifeboat,
        _add_checkpoints,
        ctl_simulate.add_commands,
        _add_machine,
        _add_shells,
    ):
        add(commands)
    return parser


def _add_common(parser: argparse.ArgumentParser, socket: str | None, output: str) -> None:
    parser.add_argument("--socket", metavar="PATH", default=socket, help="the daemon's control socket")
    parser.add_argument("-o", "--output", choices=arguments.OUTPUTS, default=output, help="how to answer")
    parser.add_argument(
        "--json",
        dest="output",
        action="store_const",
        const="json",
        default=argparse.SUPPRESS,
        help="short for -o json",
    )


def _add_state(*parsers: argparse.ArgumentParser) -> None:
    for parser in parsers:
        parser.add_argument("--state", metavar="DIR", help="the daemon's state directory")


def _add_looks(commands: Commands) -> None:
    """Add the commands that show the present state."""
    status = commands.ask(Operation.STATUS_READ, daemon.status)
    status.add_argument("name", metavar="NAME", type=arguments.name, nargs="?", help="one subsystem, in full")
    status.add_argument("--check", action="store_true", help="exit 10 if the phase is not NORMAL")
    status.add_argument("--watch", action="store_true", help="show it repeatedly, until q is pressed")
    status.add_argument(
        "--wait", metavar="PHASE", type=arguments.phase, help="return once this phase is reached"
    )
    status.add_argument(
        "--timeout",
        metavar="SECONDS",
        type=arguments.seconds,
        default=60.0,
        help="how long --wait waits (60)",
    )
    top = commands.add("top", watch.top, "Show everything on one screen, as it changes.")
    for parser in (status, top):
        parser.add_argument(
            "--interval", metavar="SECONDS", type=arguments.seconds, default=2.0, help="how often to look (2)"
        )


def _add_reasons(commands: Commands) -> None:
    """Add the commands that explain the present state."""
    phase = commands.ask(Operation.PHASE_READ, daemon.phase)
    how = phase.add_mutually_exclusive_group()
    how.add_argument("--diagram", action="store_true", help="the transition table as a Mermaid diagram")
    how.add_argument(
        "--force",
        metavar="PHASE",
        type=arguments.phase,
        help="enter it now, if only waiting stands in the way; needs --reason",
    )
    add_order_options(phase, words="why --force; it is recorded")
    explain = commands.ask(Operation.EXPLAIN_READ, daemon.explain)
    explain.add_argument(
        "subject",
        metavar="SUBJECT",
        type=arguments.name,
        nargs="?",
        help="a subsystem, a datastore, a phase, an event's id, an id as anomaly-3, or a turn",
    )
    explain.add_argument(
        "-v", "--verbose", action="store_true", help="the evidence of each link too, as JSON"
    )
    commands.ask(Operation.RECOVERY_READ, ctl_lifeboat.recovery)


def _add_texts(commands: Commands) -> None:
    """Add the commands that show events and logs."""
    events = commands.ask(Operation.EVENTS_READ, daemon.events)
    events.add_argument(
        "name", metavar="NAME", type=arguments.name, nargs="?", help="only those of this subsystem"
    )
    events.add_argument("-f", "--follow", action="store_true", help="go on with events as they happen")
    events.add_argument(
        "--since",
        metavar="WHEN",
        type=arguments.event_or_moment,
        help="only later ones: after an event's id, or a time as 10m",
    )
    events.add_argument(
        "-n",
        "--count",
        metavar="N",
        type=arguments.whole(1),
        default=20,
        help="the newest N (20), without --since",
    )
    logs = commands.ask(Operation.LOGS_READ, daemon.logs)
    add_name(logs, Operation.LOGS_READ)
    logs.add_argument("-f", "--follow", action="store_true", help="go on with lines as they are printed")
    logs.add_argument(
        "-n",
        "--lines",
        metavar="N",
        type=arguments.whole(0),
        help="the last N lines (100; with --since, all)",
    )
    logs.add_argument(
        "--since",
        metavar="WHEN",
        type=arguments.moment,
        help="only later lines: 90s, 10m, 2h, 1d, or an ISO time",
    )


def _add_ledger(commands: Commands) -> None:
    ledger = commands.group("ledger", GROUPS["ledger"])
    verify = ledger.add("verify", ctl_ledger.verify, "Check every record against signed heads.")
    how = verify.add_mutually_exclusive_group()
    how.add_argument(
        "--full", action="store_true", help="also roots, segments, indexes, payloads, every head"
    )
    how.add_argument("--segments", action="store_true", help="the sealed segments alone, by their hashes")
    show = ledger.add("show", ctl_ledger.show, "Show records: the newest, or one.")
    show.add_argument("seq", metavar="SEQ", type=arguments.whole(1), nargs="?", help="one record, in full")
    show.add_argument("--last", metavar="N", type=arguments.whole(1), default=20, help="the newest N (20)")
    export = ledger.add("export", ctl_ledger.export, "Print all records as JSON lines.")
    export.add_argument(
        "--format", choices=("jsonl", "otel"), default="jsonl", help="records, or OpenTelemetry GenAI spans"
    )
    size = ledger.add("size", ctl_ledger.size, "Show the size of the history: numbers, oldest, bytes.")
    head = ledger.add("head", ctl_ledger.head, "Print the newest signed head.")
    prove = ledger.add("prove", ctl_ledger.prove, "Prove that a record is in the ledger.")
    prove.add_argument("seq", metavar="SEQ", type=arguments.whole(1), help="the record")
    _add_state(verify, show, export, size, head, prove)


def _add_usage(commands: Commands) -> None:
    usage = commands.add("usage", ctl_usage.usage, "Sum up turns, tokens and money, out of the ledger.")
    usage.add_argument(
        "--since",
        metavar="WHEN",
        type=arguments.moment,
        help="since a time: 90s, 2h, 7d (the default), or an ISO time",
    )
    usage.add_argument(
        "--by", choices=ctl_usage.GROUPS, default="agent", help="a row for each of these (agent)"
    )
    _add_state(usage)


def _add_operations(commands: Commands) -> None:
    """Add every operation with a command that is not there yet: the orders, and new rows of the registry."""
    for operation in Operation:
        *group, name = operation.command.split() or [""]
        if operation in commands.operations or not name or name.startswith("--"):
            continue
        level = commands.group(group[0], GROUPS.get(group[0], operation.words)) if group else commands
        if operation.is_order:
            run = RUN.get(operation) or orders.order_of(operation)
            _add_more(operation, level.order(operation, run, reason=REASONS.get(operation, "")))
            if other := OTHER_WORDS.get(operation):
                level.order(operation, run, other, f"{operation.words} The same as {name}.")
        else:
            ask = ASK.get(operation) or orders.question_of(operation)
            add_name(level.ask(operation, ask), operation)


def _add_more(operation: Operation, parser: argparse.ArgumentParser) -> None:
    """Add the options of an order beside its name and its reason."""
    match operation:
        case Operation.RELAUNCH:
            parser.add_argument(
                "--from",
                dest="source",
                metavar="BUNDLE",
                help="with the daemon dead: make the state directory anew from this bundle, or a first tier",
            )
            _add_state(parser)
        case Operation.APPROVE:
            parser.add_argument(
                "--for",
                dest="seconds",
                metavar="TIME",
                type=arguments.lasting_or_once,
                default=arguments.HOUR,
                help="how long it holds: 10m, 1h (the default), 2d, `once`, or `always`, which needs --reason",
            )
        case Operation.REVOKE_HOST:
            parser.add_argument(
                "--subsystem",
                metavar="NAME",
                type=arguments.name,
                help="whose approval it is, where several may reach the host",
            )
        case Operation.LEARN:
            parser.add_argument(
                "--for",
                dest="seconds",
                metavar="TIME",
                type=arguments.lasting,
                default=LEARN_SECONDS,
                help="how long it is recorded: 30m (the default), 2h; Ctrl-C ends it earlier",
            )
        case Operation.SET_BUDGET:
            parser.add_argument(
                "limits",
                metavar="LIMIT=VALUE",
                nargs="+",
                help="as tokens_per_hour=200k (or 1.5M, 200000); 0 is no limit, "
                "LIMIT=configured leaves it to the configuration again",
            )


def _add_keys(commands: Commands) -> None:
    key = commands.group("key", GROUPS["key"])
    _add_state(key.add("list", keys.show_list, "List the keys by their hashes; never a key itself."))


def _add_budgets(commands: Commands) -> None:
    budget = commands.ask(Operation.BUDGETS_READ, ctl_budget.show)
    below = commands.below("budget", budget)
    shown = below.add("show", ctl_budget.show, "Show all limits, or those of one; `budget NAME` is the same.")
    shown.add_argument(
        "name", metavar="NAME", type=arguments.name, nargs="?", help="a subsystem, group:NAME, or all"
    )
    budget.otherwise = "show"


def _add_approvals(commands: Commands) -> None:
    """Add the list of questions; the orders about approvals follow it."""
    listing = commands.ask(Operation.APPROVALS_READ, approvals.show)
    commands.below("approvals", listing)


def _add_lifeboat(commands: Commands) -> None:
    lifeboat = commands.group("lifeboat", GROUPS["lifeboat"])
    listing = lifeboat.add("list", ctl_lifeboat.list_boats, "List the saved bundles and the first tier.")
    inspect = lifeboat.add("inspect", ctl_lifeboat.inspect, "Show the contents of one of them.")
    inspect.add_argument(
        "source", metavar="BUNDLE", type=arguments.name, help="a bundle's name or path, or `first-tier`"
    )
    _add_state(listing, inspect)


def _add_checkpoints(commands: Commands) -> None:
    checkpoint = commands.group("checkpoint", GROUPS["checkpoint"])
    show = checkpoint.add("list", ctl_checkpoint.show_list, "List the checkpoints, the newest first.")
    verify = checkpoint.add("verify", ctl_checkpoint.verify, "Read a checkpoint back, to the last byte.")
    restore = checkpoint.add(
        "restore", ctl_checkpoint.restore, "Put a checkpoint back; epad's own state only with no daemon."
    )
    for parser in (verify, restore):
        parser.add_argument(
            "id", metavar="ID", type=arguments.name, nargs="?", help="which (the newest verified one)"
        )
    restore.add_argument("--to", metavar="DIR", help="into this directory, touching nothing else")
    restore.add_argument("--only", metavar="PART", help="the parts whose names begin so, as in the manifest")
    restore.add_argument(
        "--outside", action="store_true", help="also the files from outside of the state directory"
    )
    add_order_options(restore, reason="asked for", words="why; it stands in restores.jsonl")
    _add_state(show, verify, restore)


def _add_machine(commands: Commands) -> None:
    """Add the commands that read this machine's files, without a daemon."""
    doctor = commands.add("doctor", local.doctor, "Examine this machine, and name the fix for each fault.")
    config = commands.group("config", "The configuration.")
    shown = config.add("show", local.config_show, "Show every key, its value, and the file that set it.")
    shown.add_argument(
        "prefix", metavar="PREFIX", nargs="?", help="only keys that begin with this: probes.token_burn"
    )
    for parser in (doctor, shown):
        parser.add_argument(
            "--config", metavar="FILE", help="instead of /etc/epad/epad.toml; FILE.d/*.toml follow"
        )
    init.add_options(commands.add("init", init.init, "Write a first configuration for this machine."))
    everything = commands.add(
        "stop-all", emergency.stop_all, "End every process that epad has started; only without a daemon."
    )
    add_order_options(everything, reason="asked for", words="why; it stands in the answer")
    _add_state(doctor, everything)


def _add_shells(commands: Commands) -> None:
    completion = commands.add(
        "completion", shell.completion, "Print the script by which a shell completes epactl's words at Tab."
    )
    completion.add_argument("shell", choices=shell.SHELLS, help="the shell")
    helped = commands.add("help", about.help_command(make_parser), "Explain a command.")
    helped.add_argument("words", metavar="COMMAND", nargs="*", help="the command; without one, all of them")
    commands.add("version", about.version, "Print the version of epactl.")
    commands.add("man", shell.man_command(make_parser), "Print the manual page, for man -l.")
