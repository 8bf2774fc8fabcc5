"""Run the command line `epad`: run the daemon, check its configuration, install it, print the built-in files."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from epad import EpadError, __version__

if TYPE_CHECKING:
    from epad.configuration.schema import Config

EXIT_OK = 0
EXIT_FAILED = 1
EXIT_INTERRUPTED = 130
TRY_SECONDS = 20.0


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; return the exit status."""
    try:
        arguments = make_parser().parse_args(argv)
    except SystemExit as stop:
        return int(stop.code or 0)
    # Imported here, so that --version and a wrong command line do not wait for the daemon's libraries.
    from epad.configuration.load import ConfigError  # noqa: PLC0415

    try:
        status: int = arguments.command(arguments)
    except ConfigError as error:
        for problem in error.problems:
            print(problem, file=sys.stderr)
        print(f"epad: {len(error.problems)} error(s) in the configuration", file=sys.stderr)
        return EXIT_FAILED
    except OSError as error:
        print(f"epad: {error.filename or ''}: {error.strerror or error}", file=sys.stderr)
        return EXIT_FAILED
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    return status


def make_parser() -> argparse.ArgumentParser:
    """Build the command line of `epad`."""
    parser = argparse.ArgumentParser(
        "epad",
        description="A kill switch that heals, for people who run AI agents on their own workstation.",
        epilog="exit status: 0 done, 1 failed, 2 wrong command line, 130 interrupted; epactl talks to the daemon",
    )
    parser.add_argument("--version", action="version", version=f"epad {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    run = commands.add_parser("run", help="run the daemon in the foreground")
    check = commands.add_parser("check", help="check the configuration; print every error there is")
    notify = commands.add_parser("notify", help="send a test message to where [notify] says a person is")
    for command in (run, check, notify):
        command.add_argument(
            "--config", metavar="FILE", type=Path, help="instead of /etc/epad/epad.toml; FILE.d/*.toml follow"
        )
    run.add_argument("--state", metavar="DIR", type=Path, help="instead of daemon.state_directory")
    check.add_argument("--show", action="store_true", help="print every key and the place that set it")
    check.add_argument(
        "--try",
        dest="tries",
        action="store_true",
        help="start each subsystem once, with a state of its own and no model, and report the result",
    )
    check.add_argument(
        "--seconds",
        metavar="N",
        type=_seconds,
        default=TRY_SECONDS,
        help=f"of --try: wait so long for one to be ready (default {TRY_SECONDS:g})",
    )
    diagram = commands.add_parser("diagram", help="print the phase table as a Mermaid diagram")
    diagram.add_argument(
        "--gate", action="store_true", help="print the tables of the gate instead: tools, operations"
    )
    default = commands.add_parser("default-config", help="print the shipped defaults and their reasons")
    for command, function in (
        (run, _run),
        (check, _check),
        (notify, _notify),
        (diagram, _diagram),
        (default, _default_config),
    ):
        command.set_defaults(command=function)
    _add_installing(commands)
    relay = commands.add_parser(
        "mcp", help="speak MCP on stdin and stdout: the gateway's tools for a host's agent"
    )
    relay.add_argument("--url", metavar="URL", help="of the gateway, http://HOST:PORT or unix:PATH")
    relay.set_defaults(command=_mcp)
    return parser


def _add_installing(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    install = commands.add_parser("install", help="make this epad a service of systemd; again is an upgrade")
    install.add_argument("--now", action="store_true", help="enable and start it too")
    uninstall = commands.add_parser(
        "uninstall", help="remove the files of install; state and configuration stay"
    )
    for command, function in ((install, _install), (uninstall, _uninstall)):
        command.add_argument(
            "--root",
            metavar="DIR",
            type=Path,
            default=Path("/"),
            help="for the system below DIR, not this one",
        )
        command.add_argument("--dry-run", action="store_true", help="say each step, and do nothing")
        command.set_defaults(command=function)


def _seconds(text: str) -> float:
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text}: give a number of seconds above 0")
    return value


def _run(arguments: argparse.Namespace) -> int:
    # structlog imports both where they are installed: 6 MB for tracebacks in colour, which no daemon draws, and 1 MB
    # for threads of a kind that epad has none of.
    for unused in ("rich", "greenlet"):
        sys.modules.setdefault(unused, None)  # type: ignore[arg-type]
    from epad.configuration import load  # noqa: PLC0415
    from epad.daemon import process as daemon  # noqa: PLC0415

    def read() -> load.Loaded:
        return load.read(load.find(arguments.config))

    return daemon.run(read, arguments.state, arguments.config)


def _mcp(arguments: argparse.Namespace) -> int:
    from epad.tools import relay  # noqa: PLC0415

    return relay.main(["--url", arguments.url] if arguments.url else [], os.environ)


def _check(arguments: argparse.Namespace) -> int:
    from epad.configuration import load  # noqa: PLC0415
    from epad.configuration.confining import unconfined  # noqa: PLC0415
    from epad.configuration.effective import effective  # noqa: PLC0415
    from epad.doctor.missing_programs import world_check  # noqa: PLC0415
    from epad.supervisor.engine_choice import would_use  # noqa: PLC0415

    loaded = load.read(load.find(arguments.config))
    missing = loaded.located(world_check(loaded.config, os.environ))
    if missing and not arguments.tries:
        raise load.ConfigError(missing)
    if arguments.show:
        for shown in effective(loaded):
            print(shown)
    said = sys.stderr if arguments.show else sys.stdout
    print(f"engine: {would_use(loaded.config.daemon, os.environ)}", file=said)
    for line in unconfined(loaded.config):
        print(line, file=said)
    for problem in missing:
        print(problem, file=sys.stderr)
    if not missing:
        files = ", ".join(str(file) for file in loaded.files) or "no file: the shipped defaults"
        print(f"ok: {files}", file=said)
    if arguments.tries and not _try(loaded.config, arguments.seconds, said):
        return EXIT_FAILED
    return EXIT_FAILED if missing else EXIT_OK


def _try(config: Config, seconds: float, said: TextIO) -> bool:
    """Start each subsystem in a dry daemon, telling of each in a line of its own; True if none failed."""
    from epad.daemon.dry_run import trial  # noqa: PLC0415
    from epad.formatting.text import clean  # noqa: PLC0415

    def say(tried: trial.Tried) -> None:
        print(f"{'FAILED' if tried.has_failed else 'ok':6} {tried.subsystem}: {clean(tried.text)}", file=said)
        for line in tried.lines:
            print(f"       | {clean(line)}", file=said)
        said.flush()

    print(
        "each is tried by a daemon of its own, where a stub answers for every model:", file=said, flush=True
    )
    try:
        return trial.run(config, seconds, os.environ, say)
    except EpadError as error:
        print(f"epad: {error}", file=sys.stderr)
        return False


def _notify(arguments: argparse.Namespace) -> int:
    from epad.configuration import load  # noqa: PLC0415
    from epad.notifying import trial  # noqa: PLC0415

    return trial.run(load.read(load.find(arguments.config)).config.notify, os.environ, print)


def _install(arguments: argparse.Namespace) -> int:
    from epad.epactl import command_line  # noqa: PLC0415
    from epad.epactl.commands import shell  # noqa: PLC0415
    from epad.install import install  # noqa: PLC0415
    from epad.install.target import InstallError, Target  # noqa: PLC0415

    target = Target(arguments.root, print, arguments.dry_run)
    try:
        manual = shell.man(command_line.make_parser())
        install.install(target, install.program_that_runs(), manual, now=arguments.now)
    except InstallError as error:
        print(f"epad: {error}", file=sys.stderr)
        return EXIT_FAILED
    return EXIT_OK


def _uninstall(arguments: argparse.Namespace) -> int:
    from epad.install import install  # noqa: PLC0415
    from epad.install.target import InstallError, Target  # noqa: PLC0415

    try:
        install.uninstall(Target(arguments.root, print, arguments.dry_run))
    except InstallError as error:
        print(f"epad: {error}", file=sys.stderr)
        return EXIT_FAILED
    return EXIT_OK


def _diagram(arguments: argparse.Namespace) -> int:
    from epad.gate import permissions, tool_table  # noqa: PLC0415
    from epad.operations.registry import Operation  # noqa: PLC0415
    from statemachine.table import mermaid  # noqa: PLC0415

    if arguments.gate:
        print("\n".join([*tool_table.as_lines(), "", *permissions.as_lines(Operation)]))
    else:
        print(mermaid(), end="")
    return EXIT_OK


def _default_config(_: argparse.Namespace) -> int:
    from importlib import resources  # noqa: PLC0415

    print((resources.files("epad") / "default.toml").read_text(), end="")
    return EXIT_OK


if __name__ == "__main__":
    sys.exit(main())
