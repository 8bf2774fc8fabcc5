"""Records docs/epactl-session.md: every command of `epactl`, typed at a real daemon, with what came of it.

`.venv/bin/python docs/session.py` writes the document in under a minute; tests/docs/test_session.py types all of it
too, and holds each exit status against the one that stands here.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests/support"))

from installed import BIN, QUICK, Installation, installation  # noqa: E402
from patience import PATIENCE_SECONDS  # noqa: E402

DOCUMENT = ROOT / "docs/epactl-session.md"
MAX_LINES = 24
_TIMED_OUT = 124  # coreutils' timeout: what follows until it is ended was ended


@dataclass(frozen=True)
class Typed:
    """One command line, the exit status that it must have, and what is waited for before it."""

    line: str
    status: int = 0
    after: str = ""


@dataclass(frozen=True)
class Chapter:
    """Commands that belong together."""

    title: str
    typed: tuple[Typed, ...]


CHAPTERS = (
    Chapter(
        "Look",
        (
            Typed("epactl --version"),
            Typed("epactl version"),
            Typed("epactl help budget set"),
            Typed("epactl statsu", 2),
            Typed("epactl status"),
            Typed("epactl status chat -o wide"),
            Typed("epactl status --check"),
            Typed("epactl status --wait NORMAL --timeout 5"),
            Typed("epactl top"),
            Typed("epactl phase"),
            Typed("epactl phase --diagram"),
            Typed("epactl budget"),
            Typed("epactl budget show wargame"),
            Typed("epactl recovery"),
            Typed("epactl logs model -n 3"),
            Typed("timeout 2 epactl logs model -f -n 1", _TIMED_OUT),
            Typed("epactl events -n 3"),
            Typed("epactl events wargame -n 1"),
            Typed("timeout 2 epactl events -f -n 1", _TIMED_OUT),
        ),
    ),
    Chapter(
        "A runaway, and why",
        (
            Typed("touch ~/.local/state/epad/subsystems/chat/loop"),
            Typed("epactl status", after="QUARANTINE"),
            Typed("epactl status --check", 10),
            Typed("epactl explain"),
            Typed("epactl explain QUARANTINE"),
            Typed("epactl explain chat -o jsonl | head -c 300"),
            Typed("epactl explain EVENT"),
            Typed('epactl phase --force NORMAL --reason "hurry"', 1),
            Typed("rm ~/.local/state/epad/subsystems/chat/loop"),
            Typed('epactl release chat --reason "the loop is fixed"'),
            Typed('epactl phase --force NORMAL --reason "I have looked" --dry-run'),
            Typed('epactl phase --force NORMAL --reason "I have looked"'),
            Typed("epactl explain NORMAL"),
            Typed("epactl tools"),
            Typed("epactl tools show"),
            Typed("epactl trace chat"),
            Typed(f'epactl undo {"0" * 32} --reason "it was wrong" --dry-run', 1),
        ),
    ),
    Chapter(
        "Orders",
        (
            Typed('epactl quarantine wargame --reason "a look at it" --dry-run'),
            Typed('epactl quarantine wargame --reason "a look at it"'),
            Typed('epactl restart wargame --reason "while it is held"', 1),
            Typed('epactl release wargame --reason "fine"'),
            Typed('epactl pause chat --reason "the card is needed"'),
            Typed('epactl resume chat --reason "done"'),
            Typed('epactl restart chat --reason "a new prompt"'),
            Typed('epactl stop chat --reason "for tonight"'),
            Typed('epactl start chat --reason "morning"'),
            Typed('epactl quarantine nobody --reason "a typo"', 4),
            Typed("epactl quarantine chat", 2),
            Typed('epactl budget set chat tokens_per_minute=20k --reason "a long night"'),
            Typed("epactl budget"),
            Typed('epactl budget set chat tokens_per_minute=configured --reason "morning"'),
            Typed('epactl key rotate chat --reason "yearly"'),
            Typed("epactl key list"),
            Typed('epactl key revoke chat --yes --reason "to be sure"'),
            Typed('epactl key rotate chat --reason "and a new one"'),
            Typed("epactl confine diff"),
            Typed('epactl confine learn chat --dry-run --reason "what does it need?"'),
            Typed("epactl approvals"),
            Typed("epactl approve 7 --for 2h", 4),
            Typed("epactl deny 7", 4),
            Typed("epactl approvals revoke files.example", 4),
            Typed("epactl changes list"),
            Typed('epactl changes accept chat --reason "I wrote that"', 1),
            Typed("epactl agents"),
            Typed("epactl identity list"),
            Typed("epactl identity bundle", 1),
            Typed('epactl identity rotate --reason "a copy of the key was lost" --dry-run'),
            Typed("epactl tools servers"),
            Typed("epactl tools diff github", 1),
            Typed('epactl tools accept github --reason "read its new list" --dry-run'),
            Typed("epactl tools import mcp.json"),
            Typed("epactl memory list", 1),
            Typed("epactl memory verify", 1),
            Typed('epactl memory promote port --reason "true of every run" --dry-run'),
            Typed('epactl memory retract port --reason "no longer true" --dry-run'),
            Typed("epactl secret list"),
            Typed("epactl secret set github --for chat --host api.github.com --dry-run"),
            Typed("epactl secret set github", 2),
            Typed("epactl secret rotate github --dry-run"),
            Typed("epactl secret bind github --host api.github.com --dry-run"),
            Typed("epactl secret test github", 4),
            Typed('epactl secret export github --to exported --reason "a new machine" --dry-run'),
            Typed('epactl secret remove github --yes --reason "not needed"', 4),
            Typed("epactl secret unlock --dry-run"),
            Typed("epactl vault list", 1),
            Typed("epactl vault show runbooks/disk.md", 1),
            Typed("epactl vault history runbooks/disk.md", 1),
            Typed("epactl vault verify", 1),
            Typed('epactl vault add notes/host.txt /etc/hostname --reason "our name" --dry-run'),
            Typed('epactl vault retract notes/host.txt --reason "wrong" --dry-run'),
            Typed('epactl vault undo notes/host.txt --reason "it was right" --dry-run'),
            Typed("epactl reload"),
            Typed('epactl upgrade --reason "a new version"'),
            Typed('epactl datastore accept memory --reason "tidied up by hand"'),
        ),
    ),
    Chapter(
        "Ledger and checkpoints",
        (
            Typed("epactl ledger verify"),
            Typed("epactl ledger verify --full"),
            Typed("epactl ledger show --last 3"),
            Typed("epactl ledger show 1"),
            Typed("epactl ledger export | head -n 1"),
            Typed("epactl ledger size"),
            Typed("epactl audit --kind order"),
            Typed("epactl audit --who chat --format jsonl | head -n 1"),
            Typed("epactl audit prove 1 | head -c 300"),
            Typed("epactl audit report --since 1h --format md | head -n 24"),
            Typed("epactl usage"),
            Typed("epactl usage --since 1h --by model"),
            Typed("epactl ledger head"),
            Typed("epactl ledger prove 1 | head -c 300"),
            Typed('epactl ledger accept-loss --yes --reason "the disk was lost"'),
            Typed('epactl checkpoint create --reason "before an upgrade"'),
            Typed("epactl checkpoint list"),
            Typed("epactl checkpoint verify"),
            Typed("epactl checkpoint restore --to ~/restored --yes"),
        ),
    ),
    Chapter(
        "What if",
        (
            Typed("epactl simulate --since 1h"),
            Typed(
                "epactl simulate --since 1h --set hysteresis.token_burn.raise_after=20"
                " --set hysteresis.token_burn.out_of=20",
                11,
            ),
        ),
    ),
    Chapter(
        "The last resort",
        (
            Typed('epactl lifeboat enter --reason "a thunderstorm"', 2),
            Typed('epactl lifeboat enter --reason "a thunderstorm" --yes'),
            Typed("epactl status", after="LIFEBOAT"),
            Typed("epactl explain LIFEBOAT"),
            Typed("epactl lifeboat list"),
            Typed("epactl lifeboat inspect first-tier"),
            Typed('epactl lifeboat relaunch --reason "the sky is clear"'),
            Typed("epactl status --wait NORMAL --timeout 60"),
        ),
    ),
    Chapter(
        "This machine, and a dead daemon",
        (
            Typed("epactl doctor"),
            Typed("epactl config show probes.token_burn"),
            Typed("epactl init ~/first.toml"),
            Typed("epactl man | head -n 12"),
            Typed("epactl completion bash | head -n 12"),
            Typed("epactl completion zsh | head -n 4"),
            Typed("epactl completion fish | head -n 4"),
            Typed("epactl stop-all --yes", 1),
            Typed("kill -9 $(epactl status -o json | jq .pid)"),
            Typed("epactl status", 3),
            Typed("epactl stop-all --yes", after="dead"),
        ),
    ),
)


@dataclass(frozen=True)
class Said:
    """What came of a command."""

    typed: Typed
    status: int
    text: str


def record() -> Iterator[tuple[Chapter, list[Said]]]:
    """Type everything, in order, at a daemon as a newcomer has it, with one datastore of another program."""
    store = '[datastores.memory]\npath = "{}/memory.jsonl"\n[policy]\ndwell_seconds = 300.0\nverify_seconds = 2.0\n'
    with installation() as house:
        (house.directory / "memory.jsonl").write_text('{"type": "entity", "name": "kelp"}\n')
        listed = {
            "mcpServers": {
                "github": {"url": "https://mcp.example/mcp", "headers": {"Authorization": "Bearer x"}}
            }
        }
        (house.directory / "mcp.json").write_text(json.dumps(listed))
        quick = QUICK.replace("[policy]\ndwell_seconds = 1.0\nverify_seconds = 2.0\n", "")
        house.config.write_text(quick + store.format(house.directory))
        house.state = house.directory / ".local/state/epad"
        house.start()
        house.wait(lambda: len(house.children()) >= 3, "the three subsystems")
        house.wait(lambda: house.subsystem("chat")["tokens"]["turns"] > 2, "some turns")
        for chapter in CHAPTERS:
            yield chapter, [_type(typed, house) for typed in chapter.typed]


def _type(typed: Typed, house: Installation) -> Said:
    _wait(typed.after, house)
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", _runnable(typed.line, house)],
        cwd=house.directory,
        env={
            "HOME": str(house.directory),
            "PATH": f"{BIN}:{os.environ['PATH']}",
            "EPAD_SOCKET": str(house.state / "run/control.sock"),
            "TERM": "dumb",
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        stdin=subprocess.DEVNULL,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=False,
    )
    return Said(typed, done.returncode, _anywhere(done.stdout, house))


def _anywhere(text: str, house: Installation) -> str:
    """What was said, without the places of this machine."""
    return text.replace(str(house.directory), "~").replace(str(ROOT), "/opt/epad")


def _runnable(line: str, house: Installation) -> str:
    """A command with what only this run knows in it."""
    if "EVENT" in line:
        line = line.replace("EVENT", str(house.events("phase.changed")[-1]["id"]))
    if "jq" in line and house.process is not None:
        line = f"kill -9 {house.process.pid}"
    # A reader that has read enough ends the writer; that is no failure of either.
    return re.sub(r"(\| head .*)$", r"\1 || test $? = 141", line)


def _wait(event: str, house: Installation) -> None:
    if event == "dead" and house.process is not None:
        house.process.wait(10)
    elif event:
        house.wait_phase(event)


def document(recorded: list[tuple[Chapter, list[Said]]]) -> str:
    """The whole of it, as a person would have it on the screen."""
    about = (
        "# Every command of epactl, once\n\n"
        "Recorded by `python docs/session.py` from a real daemon with its embedded default;\n"
        "tests/docs/test_session.py types all of it again. Exit statuses other than 0 stand behind the command; long\n"
        "answers are cut.\n"
    )
    parts = [about]
    for chapter, said in recorded:
        text = "\n\n".join(_shown(one) for one in said)
        mark = "<!-- not run: tests/docs/test_session.py types it at a daemon of its own -->"
        parts.append(f"## {chapter.title}\n\n{mark}\n```console\n{text}\n```\n")
    return "\n".join(parts)


def _shown(said: Said) -> str:
    mark = f"        # exit status {said.status}" if said.status else ""
    lines = [line.rstrip() for line in said.text.splitlines()]
    cut = lines[:MAX_LINES] + ([f"... {len(lines) - MAX_LINES} more lines"] if len(lines) > MAX_LINES else [])
    return "\n".join([f"$ {said.typed.line}{mark}", *(line.replace("```", "'''") for line in cut)])


def main() -> None:
    """Write the document."""
    recorded = list(record())
    DOCUMENT.write_text(document(recorded))
    wrong = [(s.typed.line, s.status) for _, said in recorded for s in said if s.status != s.typed.status]
    print(json.dumps({"commands": sum(len(said) for _, said in recorded), "wrong": wrong}, indent=1))
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
