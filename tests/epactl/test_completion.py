"""Tab: what is offered at each place of a command line, and that bash, zsh and fish themselves put it there."""

from __future__ import annotations

import asyncio
import os
import pty
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from control_door import Door

from epad.epactl import command_line
from epad.epactl.arguments import PHASES
from epad.epactl.commands.shell import SHELLS, nodes
from epad.epactl.completion import SCRIPTS, offers

LIVE = {
    "subsystem": ["chat", "wargame"],
    "holdable": ["chat", "wargame", "tools-git", "tool:git_log"],
    "subject": ["chat", "NORMAL"],
    "datastore": ["memory"],
    "scope": ["chat", "group:night", "all"],
    "limit": ["tokens_per_hour=", "usd_per_day="],
    "checkpoint": ["000002-b", "000001-a"],
    "bundle": ["first-tier", "000001-a"],
    "part": ["ledger.db"],
    "key": ["policy.dwell_seconds"],
    "threshold": ["policy.dwell_seconds="],
}


def at(typed: str) -> list[str]:
    """Return what is offered in place of the last word; a space at the end begins a new one."""

    def values(kind: str, given: Sequence[str]) -> list[tuple[str, str]]:
        return [(name, "") for name in LIVE[kind]]

    return [word for word, _ in offers(command_line.make_parser(), typed.split(" "), values)]


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("ledger ve", ["verify"]),
        ("help sta", ["status", "start"]),
        ("help checkpoint ver", ["verify"]),
        ("ps --ch", ["--check"]),
        ("checkpoint l", ["list", "ls"]),
        ("status --wait ", list(PHASES)),
        ("status --wait=Q", ["--wait=QUARANTINE"]),
        ("phase --force P", ["PRESERVATION"]),
        ("usage --by ", ["agent", "model", "day"]),
        ("usage --by=d", ["--by=day"]),
        ("usage --since 7", ["7d"]),
        ("events --since 1", ["10m", "1h"]),
        ("-o j", ["json", "jsonl"]),
        ("-o json quarantine c", ["chat"]),
        ("quarantine --reason a w", ["wargame"]),
        ("release t", ["tools-git", "tool:git_log"]),
        ("quarantine chat ", []),
        ("quarantine chat --reason ", []),
        ("logs ", ["chat", "wargame"]),
        ("explain N", ["NORMAL"]),
        ("datastore accept ", ["memory"]),
        ("budget se", ["set"]),
        ("budget a", ["all"]),
        ("budget chat --j", ["--json"]),
        ("budget set g", ["group:night"]),
        ("budget set chat tok", ["tokens_per_hour="]),
        ("budget set chat tokens_per_hour=1 usd", ["usd_per_day="]),
        ("checkpoint verify ", ["000002-b", "000001-a"]),
        ("checkpoint restore --only l", ["ledger.db"]),
        ("checkpoint restore --to ", [":directories"]),
        ("lifeboat inspect f", ["first-tier", ":files"]),
        ("simulate --set pol", ["policy.dwell_seconds="]),
        ("simulate --set a=1 --se", ["--set"]),
        ("config show pol", ["policy.dwell_seconds"]),
        ("completion f", ["fish"]),
        ("nonsense ", []),
    ],
)
def test_each_place_of_the_command_line_has_its_words(typed: str, offered: list[str]) -> None:
    """Commands, options, phases, names, times, amounts: what the parser would take there, and nothing else."""
    assert at(typed) == offered


def test_an_option_that_was_given_is_not_offered_again() -> None:
    """Under none of its names, unless it may be repeated."""
    assert not {"-o", "--output"} & set(at("status -o json -"))
    assert "--set" in at("simulate --set a=1 -")


def test_every_command_and_option_of_the_parser_is_offered() -> None:
    """Behind the words that lead to it."""
    for node in nodes(command_line.make_parser()):
        before = "".join(f"{word} " for word in node.words)
        assert not node.words or node.words[-1] in at(before.rstrip())
        assert set(node.names) <= {*at(f"{before}-"), *at(f"{before}--")}, node.words


@pytest.fixture
def state(directory: Path) -> Path:
    """A state directory with two checkpoints."""
    for name in ("000001-a", "000002-b"):
        (directory / "checkpoints" / name).mkdir(parents=True)
        (directory / "checkpoints" / name / "MANIFEST.json").touch()
    (directory / "checkpoints" / "000003-c.partial").mkdir()
    return directory


class Shell:
    """A shell whose completion of epactl is installed, and in which a line may be typed as a person would."""

    def __init__(self, name: str, socket: Path, directory: Path) -> None:
        self.name = name
        self._script = directory / "completion"
        self._script.write_text(SCRIPTS[name])
        program = directory / "bin/epactl"
        program.parent.mkdir()
        program.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m epad.epactl.main "$@"\n')
        program.chmod(0o755)
        self._environment = {
            "PATH": f"{program.parent}:{os.environ['PATH']}",
            "HOME": str(directory / "home"),
            "EPAD_SOCKET": str(socket),
            "PYTHONPATH": str(Path(__file__).parents[2]),
            "TERM": "dumb",
            "LC_ALL": "C",
        }
        (directory / "home").mkdir()

    def completed(self, typed: str) -> str:
        """Type a line, press Tab; return the line that then stands there, or in fish, the one word offered."""
        if self.name == "fish":
            return self._by_fish(typed)
        command = {"bash": ["bash", "--norc", "--noprofile", "-i"], "zsh": ["zsh", "-f", "-i"]}[self.name]
        # The prompt is written in two parts, so that the echo of this line is not taken for it.
        kept = self._script.with_name("kept")
        ready = f'keep() {{ printf %s "$*" > {kept}; }}; . {self._script}; PS1=rea""dy\n'
        # At the line's beginning, the command that keeps the rest of it is put.
        keys = f"{typed}\t\x01keep \n exit\n"
        main, child = pty.openpty()
        with subprocess.Popen(
            command, stdin=child, stdout=child, stderr=child, env=self._environment, start_new_session=True
        ) as shell:
            os.close(child)
            os.write(main, ready.encode())
            said = ""
            for piece in _read_all(main):
                before, said = said, said + piece
                if (
                    "ready" in said and "ready" not in before
                ):  # a key typed earlier may be lost between two modes
                    os.write(main, keys.encode())
            shell.wait(timeout=60)
        os.close(main)
        assert kept.exists(), said
        return kept.read_text()

    def _by_fish(self, typed: str) -> str:
        ask = f"source {self._script}; complete -C {shlex.quote(typed)}"
        done = subprocess.run(
            ["fish", "--no-config", "-c", ask],
            env=self._environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        offered = [line.partition("\t")[0] for line in done.stdout.splitlines()]
        return " ".join([*typed.split(" ")[:-1], *offered])


def _read_all(descriptor: int) -> Iterator[str]:
    """Yield what a terminal shows until its other side is closed, which Linux tells by EIO."""
    while True:
        try:
            if not (piece := os.read(descriptor, 65_536)):
                return
        except OSError:
            return
        yield piece.decode(errors="replace")


@pytest.fixture(params=SHELLS)
def shell(request: pytest.FixtureRequest, door: Door, directory: Path) -> Shell:
    if shutil.which(request.param) is None:
        pytest.skip(f"no {request.param} here")
    return Shell(request.param, door.path, directory)


@pytest.mark.parametrize(
    ("typed", "line"),
    [
        ("epactl ledger ver", "epactl ledger verify"),
        ("epactl status --wait QU", "epactl status --wait QUARANTINE"),
        ("epactl status --wait=QU", "epactl status --wait=QUARANTINE"),
        ("epactl usage --by mo", "epactl usage --by model"),
        ("epactl usage --since 7", "epactl usage --since 7d"),
        ("epactl quarantine wa", "epactl quarantine wargame"),
        ("epactl budget set chat usd_per_h", "epactl budget set chat usd_per_hour="),
        ("epactl checkpoint verify --state STATE 000001", "epactl checkpoint verify --state STATE 000001-a"),
        ("epactl checkpoint list --state STATE/check", "epactl checkpoint list --state STATE/checkpoints"),
    ],
)
async def test_a_shell_puts_the_word_there(shell: Shell, state: Path, typed: str, line: str) -> None:
    """Typed into the shell itself, with a daemon behind it: names, phases, checkpoints, limits, directories."""
    said = await asyncio.to_thread(shell.completed, typed.replace("STATE", str(state)))
    assert said.removesuffix("/") == line.replace("STATE", str(state))


@pytest.mark.parametrize(("name", "check"), [("zsh", "-n"), ("fish", "--no-execute"), ("bash", "-n")])
def test_a_shell_can_read_its_script(name: str, check: str, tmp_path: Path) -> None:
    """By the shell's own check of syntax."""
    if shutil.which(name) is None:
        pytest.skip(f"no {name} here")
    script = tmp_path / "completion"
    script.write_text(SCRIPTS[name])
    subprocess.run([name, check, script], check=True)


async def test_without_a_daemon_nothing_is_offered_and_nothing_said(directory: Path) -> None:
    """A shell at Tab is no place for an error."""
    environment = {"EPAD_SOCKET": str(directory / "none.sock"), "HOME": str(directory)}
    for words in (("logs", ""), ("budget", "set", "chat", ""), ("checkpoint", "verify", "")):
        done = await asyncio.to_thread(
            subprocess.run,
            [sys.executable, "-m", "epad.epactl.main", "__complete", *words],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
