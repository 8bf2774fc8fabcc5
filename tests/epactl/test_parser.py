"""Words that fingers know from elsewhere, and words that were mistyped."""

from __future__ import annotations

import asyncio
import gettext
import json
from pathlib import Path

import pytest
from control_door import Door

from epad import __version__
from epad.epactl import command_line, main
from epad.epactl.commands import shell
from epad.epactl.parser import ALIASES

EVENTS_OF_A_PAGE = 1_000


async def epactl(door: Door, *words: str) -> int:
    return await asyncio.to_thread(main.main, ["--socket", str(door.path), *words])


@pytest.mark.parametrize(
    ("usual", "other"),
    [
        ("status", "ps"),
        ("status chat", "ls chat"),
        ("status -o json", "list -o json"),
        ("explain chat", "describe chat"),
        ("logs chat", "log chat"),
        ("budget show chat", "budget chat"),
        ("budget show all -o json", "budget all -o json"),
        ("budget show", "budget"),
        ("status -o json", "status --json"),
        ("status -o json", "--json status"),
        ("explain chat -o json", "--json describe chat"),
        ("phase -o json", "phase --json"),
        ("budget show chat -o json", "budget chat --json"),
    ],
)
async def test_another_word_does_the_same(
    door: Door, capsys: pytest.CaptureFixture[str], usual: str, other: str
) -> None:
    """To the letter, with what follows the word."""
    assert await epactl(door, *usual.split()) == 0
    said = capsys.readouterr().out
    assert await epactl(door, *other.split()) == 0
    assert capsys.readouterr().out == said


def test_json_is_short_for_an_output_everywhere() -> None:
    """Wherever an output can be chosen; and where none is, the usual one stays."""
    for node in shell.nodes(command_line.make_parser()):
        assert ("--json" in node.names) == ("--output" in node.names), node.words
    parser = command_line.make_parser()
    assert parser.parse_args(["status"]).output == "table"
    assert parser.parse_args(["--json", "status", "-o", "wide"]).output == "wide"
    assert parser.parse_args(["checkpoint", "ls", "--json"]).output == "json"


def test_a_list_is_ls_too_wherever_there_is_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Of checkpoints, of what the lifeboat saved, and of keys (here: none)."""
    for words in (["checkpoint"], ["lifeboat"], ["key"]):
        said = []
        for word in ("list", "ls"):
            status = main.main([*words, word, "--state", str(tmp_path)])
            said.append((status, capsys.readouterr()))
        assert said[0] == said[1]
        assert said[0][0] != 2


def test_the_help_names_each_command_once_and_the_other_words_in_one_line() -> None:
    """Nobody reads a list that is twice as long."""
    said = command_line.make_parser().format_help()
    assert sum(line.startswith("    status ") for line in said.splitlines()) == 1
    (line,) = [line for line in said.splitlines() if line.startswith("other words: ")]
    for name, others in ALIASES.items():
        assert name in line
        assert ", ".join(others) in line
    assert "(ps" not in said


@pytest.mark.parametrize("words", [[], ["status"], ["budget", "set"], ["ps"], ["checkpoint", "ls"]])
def test_help_says_what_the_option_says(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """Of all, of one, of one below another."""
    assert main.main(["help", *words]) == 0
    said = capsys.readouterr()
    assert main.main([*words, "--help"]) == 0
    assert capsys.readouterr() == said
    assert said.out.startswith("usage: epactl")


def test_version_is_a_command_too(capsys: pytest.CaptureFixture[str]) -> None:
    """For people and for programs."""
    assert main.main(["version"]) == 0
    assert capsys.readouterr().out == f"epactl {__version__}\n"
    assert main.main(["version", "-o", "json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"version": __version__}


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("statsu", "there is no command 'statsu'; did you mean 'status'?"),
        ("descirbe", "there is no command 'descirbe'; did you mean 'describe'?"),
        ("checkpoint lst", "epactl checkpoint: error: there is no command 'lst'; did you mean 'list'?"),
        ("help verson", "there is no command 'verson'; did you mean 'version'?"),
        ("frobnicate", "there is no command 'frobnicate'; `epactl --help` lists them"),
        ("ledger zzz", "there is no command 'zzz'; `epactl ledger --help` lists them"),
    ],
)
def test_a_mistyped_command_is_told_the_nearest(
    typed: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """At every level, and where there is none, where to look; the status is that of a wrong command line."""
    assert main.main(typed.split()) == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    "typed",
    [
        "status caht",
        "quarantine caht --reason r",
        "quarantine caht --reason r --dry-run",
        "logs caht",
        "events caht",
        "events caht -f",
        "budget caht",
        "budget set caht tokens_per_minute=1 --reason r",
    ],
)
async def test_a_mistyped_name_is_told_the_nearest(
    door: Door, typed: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whoever finds it out, the daemon or the command; nothing is ordered."""
    assert await epactl(door, *typed.split()) == 4
    said = capsys.readouterr().err
    assert "no " in said
    assert "'caht'; did you mean 'chat'? there are: " in said
    assert door.operations.orders == []


async def test_a_name_far_from_all_is_told_what_there_is(
    door: Door, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing is guessed at random."""
    assert await epactl(door, "status", "zzzzz") == 4
    assert capsys.readouterr().err == "epactl: there is no subsystem 'zzzzz'; there are: chat, wargame\n"


async def test_events_of_one_are_its_newest(door: Door, capsys: pytest.CaptureFixture[str]) -> None:
    """As many as asked for, however many pages of others lie between them; one without events has none."""
    for number in range(5):
        for _ in range(EVENTS_OF_A_PAGE // 2 - 1):
            door.operations.happen("notice", "gone")
        door.operations.happen("notice", "chat", number=number)  # every second one is the last of a page
    wanted = {3: [2, 3, 4], 20: [0, 1, 2, 3, 4], 1: [4], 5: [0, 1, 2, 3, 4]}
    for count, numbers in wanted.items():
        assert await epactl(door, "events", "chat", "-n", str(count), "-o", "json") == 0
        told = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        assert [event["fields"]["number"] for event in told] == numbers
        assert {event["subsystem"] for event in told} == {"chat"}
    assert await epactl(door, "events", "chat", "--since", "1000", "-o", "json") == 0
    assert len(capsys.readouterr().out.splitlines()) == 3
    assert await epactl(door, "events", "wargame") == 0
    assert capsys.readouterr().out == ""
    assert await epactl(door, "events", "gone", "-n", "2") == 0
    assert len(capsys.readouterr().out.splitlines()) == 2


async def test_a_subsystem_without_limits_has_none(door: Door, capsys: pytest.CaptureFixture[str]) -> None:
    """That it is not in the list of limits does not make it unknown."""
    assert await epactl(door, "budget", "wargame") == 0
    assert capsys.readouterr().out == "no limits\n"


def test_no_file_is_looked_for_to_make_the_command_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """Translations of the few words that argparse adds are asked for once, not by each of forty parsers."""
    asked: list[str] = []
    command_line.make_parser()
    monkeypatch.setattr(gettext, "find", lambda domain, *_rest, **_more: asked.append(domain))
    command_line.make_parser()
    assert asked == []
