"""`python -m runners.intent`: judge a text, report what can be told, fit anew with a wargame's misses, take it back.

`serve DIRECTORY FD` is for the daemon: a child that opens no socket and no file but those of its versions and weights.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import getpass
import json
import os
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from runners.intent.confined import confine
from runners.intent.corpus import Text, shipped
from runners.intent.embedding import EmbeddingError, WordLlama
from runners.intent.fitting import FitError
from runners.intent.serve import Server, fit_first, in_force
from runners.intent.versions import VersionError, Versions

NICE = 10
"""A verdict may be late; a turn must not."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; 0, 1 if it failed or was refused, 2 if it was mistyped."""
    given = _parser().parse_args(arguments)
    run: Callable[[argparse.Namespace], int] = given.run
    try:
        return run(given)
    except (EmbeddingError, VersionError, FitError, ValueError) as error:
        print(f"runners.intent: {error}", file=sys.stderr)
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m runners.intent", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    of_machine = argparse.ArgumentParser(add_help=False)
    of_machine.add_argument(
        "--directory", type=Path, default=default_directory(), help="the versions' folder"
    )

    def command(name: str, run: Callable[[argparse.Namespace], int], words: str) -> argparse.ArgumentParser:
        parents = [] if name in {"report", "serve"} else [of_machine]
        one = commands.add_parser(name, help=words, description=words, parents=parents)
        one.set_defaults(run=run)
        return one

    command("report", _report, "say what the classifier can tell, and what not").add_argument(
        "--json", action="store_true", help="as JSON"
    )
    one = command("label", _label, "judge one text")
    one.add_argument("text", nargs="+")
    one = command("refit", _refit, "fit anew with the misses of wargame runs; refused unless it is better")
    one.add_argument("stores", nargs="+", type=Path, metavar="STORE", help="the --store of a run")
    one.add_argument("--reason", required=True)
    command("versions", _versions, "list which version came into force when")
    one = command("rollback", _rollback, "put an earlier version in force")
    one.add_argument("version", type=int)
    one.add_argument("--reason", required=True)
    one = command("serve", _serve, "for the daemon")
    one.add_argument("directory", type=Path)
    one.add_argument("descriptor", type=int)
    return parser


def default_directory() -> Path:
    """Return the folder of the daemon's versions, as epad finds its state directory."""
    if state := os.environ.get("EPAD_STATE_DIR") or os.environ.get("STATE_DIRECTORY"):
        return Path(state) / "intent"
    home = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(home) / "epad" / "intent"


def _report(given: argparse.Namespace) -> int:
    from runners.intent.report import lines, report  # noqa: PLC0415 - the child never needs it

    found = report(shipped(), WordLlama.installed())
    print(json.dumps(dataclasses.asdict(found), indent=1) if given.json else "\n".join(lines(found)))
    return 0


def _label(given: argparse.Namespace) -> int:
    versions, embedder = Versions(given.directory), WordLlama.installed()
    fit_first(versions, embedder)
    number, classifier = in_force(versions, embedder)
    [found] = classifier.judge([" ".join(given.text)])
    print(f"{found.label} {found.group or '-'} {found.score:.3f} (version {number})")
    return 0


def _refit(given: argparse.Namespace) -> int:
    from runners.intent.misses import misses  # noqa: PLC0415 - likewise
    from runners.intent.refit import refit  # noqa: PLC0415

    versions, embedder = Versions(given.directory), WordLlama.installed()
    more: tuple[Text, ...] = misses(given.stores)
    current = versions.current()
    found = refit(shipped(), more, embedder, versions.load(current).added if current else ())
    print(f"{found.added} new texts of {len(given.stores)} stores: {found.why}")
    if found.fitted is None:
        print(
            f"refused: version {current} stays in force" if current else "refused: no version is in force yet"
        )
        return 1
    number = versions.keep(found.fitted, _who(), f"{given.reason} ({found.why})")
    print(f"version {number} is in force; `python -m runners.intent rollback` takes it back")
    return 0


def _versions(given: argparse.Namespace) -> int:
    versions = Versions(given.directory)
    for one in versions.history():
        print(f"{one.at}  {one.version:4} (was {one.former})  AUC {one.auc:.3f}  by {one.by}: {one.reason}")
    print(
        f"in force: {versions.current() or 'none yet'}; kept: {', '.join(map(str, versions.known())) or 'none'}"
    )
    return 0


def _rollback(given: argparse.Namespace) -> int:
    versions = Versions(given.directory)
    former = versions.current()
    versions.roll_back(given.version, _who(), given.reason)
    print(f"version {given.version} is in force, instead of {former}")
    return 0


def _serve(given: argparse.Namespace) -> int:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal's signals are for the daemon
    os.umask(0o077)
    with contextlib.suppress(OSError):
        os.nice(NICE)
    embedder = WordLlama.installed()
    given.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    if fit_first(Versions(given.directory), embedder):
        os.execv(sys.executable, sys.orig_argv)  # noqa: S606 - a fit leaves 30 MiB behind in a process
    server = Server(given.directory, embedder)
    confine(given.directory)
    with contextlib.suppress(ConnectionError):  # the daemon has died
        server.serve(given.descriptor)
    return 0


def _who() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return str(os.getuid())
