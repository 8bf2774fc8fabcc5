"""Orders are alike: each takes a reason, can be rehearsed without doing anything, and asks where it is dangerous."""

from __future__ import annotations

import argparse
import asyncio
import io
import json
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from bundle_fixtures import AT, database, label, make_bundle
from control_door import Door

from epad.checkpoint.bundle import Bundle
from epad.checkpoint.restore import Wish, restore
from epad.checkpoint.source import Source, SqliteSource
from epad.epactl import command_line, main
from epad.epactl.commands.shell import Node, nodes
from epad.epactl.terminal import Terminal

__all__ = ["database", "label", "make_bundle"]

MakeBundle = Callable[[Source], Awaitable[Bundle]]
ORDER_OPTIONS = {"--reason", "--dry-run", "--yes"}
ORDERS = [node for node in nodes(command_line.make_parser()) if ORDER_OPTIONS & set(node.names)]
OPERANDS = {
    "name": ["chat"],
    "limits": ["tokens_per_hour=20k"],
    "document": ["a.md"],
    "file": ["/etc/hostname"],
}
ALSO_NEEDED: dict[tuple[str, ...], list[str]] = {("phase",): ["--force", "NORMAL"]}
WITH_A_DAEMON = [node for node in ORDERS if node.words not in {("checkpoint", "restore"), ("stop-all",)}]
DANGEROUS = [
    ["lifeboat", "enter"],
    ["ledger", "accept-loss"],
    ["key", "revoke", "chat"],
    ["memory", "retract", "chat"],
    ["vault", "retract", "a.md"],
    ["undo", "chat"],
    ["secret", "remove", "chat"],
    ["identity", "rotate"],
]


def command(node: Node) -> list[str]:
    """Return the command line of an order, with what it is about."""
    operands = [word for action in node.positionals for word in OPERANDS[action.dest]]
    return [*node.words, *operands, *ALSO_NEEDED.get(node.words, [])]


async def epactl(door: Door, *words: str) -> int:
    return await asyncio.to_thread(main.main, ["--socket", str(door.path), *words])


def contents(directory: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in directory.rglob("*") if path.is_file()}


@pytest.mark.parametrize("node", ORDERS, ids=lambda node: " ".join(node.words))
def test_every_order_takes_the_three_options(node: Node) -> None:
    """One that has any of them has all of them."""
    assert set(node.names) >= ORDER_OPTIONS


def test_the_list_of_orders_is_whole() -> None:
    """An order that is added with none of the three would pass the test above."""
    looks = {
        "status", "top", "phase", "explain", "recovery", "events", "logs", "usage", "budget", "simulate", "doctor",
        "completion", "help", "version", "man", "verify", "show", "export", "size", "head", "prove", "list", "inspect",
        *("agents", "approvals", "bundle", "diff", "history", "servers", "tools", "trace"),
        "import",  # prints what is to be put into the configuration
        "report",  # of the audit: it writes a page where it is told to
        "init",  # before there is a daemon: it writes a file, and never over one unless told to
    }  # fmt: skip
    for node in nodes(command_line.make_parser()):
        if node.words and not any(isinstance(a, argparse._SubParsersAction) for a in node.parser._actions):
            assert node.words[-1] in looks or ORDER_OPTIONS & set(node.names), node.words


@pytest.mark.parametrize("node", WITH_A_DAEMON, ids=lambda node: " ".join(node.words))
async def test_a_rehearsal_gives_no_order(node: Node, door: Door, capsys: pytest.CaptureFixture[str]) -> None:
    """Nor does it ask; it says that nothing was done, and as JSON that it was a rehearsal."""
    assert await epactl(door, *command(node), "--reason", "r", "--dry-run") == 0
    assert capsys.readouterr().out.endswith("nothing was done\n")
    assert await epactl(door, *command(node), "--reason", "r", "--dry-run", "--json") == 0
    assert json.loads(capsys.readouterr().out)["dry_run"] is True
    assert door.operations.orders == []


@pytest.mark.parametrize("words", DANGEROUS, ids=" ".join)
async def test_a_dangerous_order_asks(
    words: list[str], door: Door, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """2 with no one to ask, 1 for anything but a typed yes; `--yes` asks nobody."""
    assert await epactl(door, *words, "--reason", "r") == 2
    assert "there is no one to ask: give --yes" in capsys.readouterr().err
    monkeypatch.setattr(Terminal, "is_person", lambda self: True)
    for answer, status in (("y\n", 1), ("\n", 1), ("yes\n", 0)):
        assert door.operations.orders == []
        monkeypatch.setattr(sys, "stdin", io.StringIO(answer))
        assert await epactl(door, *words, "--reason", "r") == status
    assert await epactl(door, *words, "--reason", "r", "--yes") == 0
    assert len(door.operations.orders) == 2


async def test_a_restore_is_rehearsed(
    database: Path, make_bundle: MakeBundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each file that would be written, those that stand outside of the state, and no byte of it done."""
    bundle = await make_bundle(SqliteSource("graph.db", database))
    (state := tmp_path / "other").mkdir()
    before = contents(tmp_path)
    words = ["checkpoint", "restore", str(bundle.path), "--state", str(state), "--dry-run"]
    assert await asyncio.to_thread(main.main, words) == 0
    out = capsys.readouterr().out
    assert f"would restore {database}, and rename the present one\n" in out
    assert f"outside of {state}, so it needs --outside: {database}\n" in out
    assert await asyncio.to_thread(main.main, [*words, "--to", str(tmp_path / "new"), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["files"], told["displaced"]) == ([str(tmp_path / "new" / "graph.db")], [])
    assert contents(tmp_path) == before


async def test_the_reason_of_a_restore_is_kept(
    database: Path, make_bundle: MakeBundle, tmp_path: Path
) -> None:
    """Where the next reader of the state looks."""
    bundle = await make_bundle(SqliteSource("graph.db", database))
    to = tmp_path / "new"
    await asyncio.to_thread(
        restore, bundle.path, state=tmp_path / "other", now=AT, to=to, wish=Wish(reason="a look")
    )
    assert json.loads((to / "restores.jsonl").read_text())["reason"] == "a look"


async def test_a_relaunch_from_a_bundle_asks_and_is_rehearsed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing is made of the state directory by either."""
    for name in ("bundle", "state"):
        (tmp_path / name).mkdir()
    source, state = str(tmp_path / "bundle"), str(tmp_path / "state")
    words = ["lifeboat", "relaunch", "--from", source, "--state", state, "--reason", "r"]
    assert await asyncio.to_thread(main.main, words) == 2
    assert "no one to ask" in capsys.readouterr().err
    assert await asyncio.to_thread(main.main, [*words, "--dry-run"]) == 0
    out = capsys.readouterr().out
    assert out.startswith(f"would make {state} anew from {source}; its present contents would be renamed\n")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bundle", "state"]


async def test_stop_all_is_rehearsed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The process that bears the marks of the state is named, and lives on."""
    marks = {"EPAD_STATE": str(tmp_path), "EPAD_SUBSYSTEM": "chat", "PATH": "/usr/bin:/bin"}
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE, env=marks) as child:
        words = ["stop-all", "--state", str(tmp_path), "--dry-run"]
        assert await asyncio.to_thread(main.main, words) == 0
        assert f"would end 1 process(es) of {tmp_path}: {child.pid}\n" in capsys.readouterr().out
        assert await asyncio.to_thread(main.main, words[:-1]) == 2
        assert child.poll() is None
        assert child.stdin is not None
        child.stdin.close()
    assert child.returncode == 0
