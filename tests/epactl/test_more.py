"""The commands beside looking and ordering: rehearsals, waiting, screens, completions, the manual."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import os
import pty
import re
import shutil
import struct
import subprocess
import sys
import termios
from pathlib import Path

import pytest
from control_door import Door
from fake_operations import gpu, status, subsystem

from epad.answers.decisions import Event
from epad.epactl import command_line, main, top
from epad.epactl.commands import shell as ctl_shell
from epad.epactl.commands import watch
from epad.epactl.render import Style

ROOT = Path(__file__).parents[2]


async def epactl(door: Door, *words: str) -> int:
    return await asyncio.to_thread(main.main, ["--socket", str(door.path), *words])


async def test_a_rehearsal_orders_nothing(door: Door, capsys: pytest.CaptureFixture[str]) -> None:
    """It says what the order would be about; an unknown name is found by it."""
    assert await epactl(door, "quarantine", "chat", "--reason", "r", "--dry-run") == 0
    assert "chat is running, its hold is open" in capsys.readouterr().out
    assert await epactl(door, "reload", "--dry-run", "-o", "json") == 0
    assert json.loads(capsys.readouterr().out)["dry_run"] is True
    assert await epactl(door, "stop", "nobody", "--reason", "r", "--dry-run") == 4
    assert door.operations.orders == []


async def test_restart_stop_and_start_reach_the_daemon(door: Door) -> None:
    """To start what was stopped is to release it."""
    for order in ("restart", "stop", "start"):
        assert await epactl(door, order, "chat", "--reason", "r") == 0
    assert [order[0] for order in door.operations.orders] == ["restart", "stop", "release"]


async def test_waiting_for_a_phase_ends_with_it_or_with_the_time(door: Door) -> None:
    """0 and 12; a phase that there is not is a wrong command line."""
    assert await epactl(door, "status", "--wait", "quarantine") == 0
    assert await epactl(door, "status", "--wait", "NORMAL", "--timeout", "0.1") == 12
    assert await epactl(door, "status", "--wait", "FINE") == 2


async def test_each_way_to_answer(door: Door, capsys: pytest.CaptureFixture[str]) -> None:
    """Wide cuts nothing, jsonl is one line."""
    door.operations.answer["subsystems"][0]["hold"] = {"rung": "freeze", "reason": "x" * 300}
    assert await epactl(door, "status") == 0
    assert "x" * 300 not in capsys.readouterr().out
    assert await epactl(door, "status", "-o", "wide") == 0
    assert "x" * 300 in capsys.readouterr().out
    assert await epactl(door, "status", "-o", "jsonl") == 0
    assert len(capsys.readouterr().out.splitlines()) == 1


async def test_events_since_a_time(door: Door, capsys: pytest.CaptureFixture[str]) -> None:
    """Found by halving, since ids grow with time."""
    for minute in range(50):
        door.operations.happen("notice", number=minute)
        door.operations.stored[-1]["at"] = f"2026-01-01T10:{minute:02}:00.000+00:00"
    assert await epactl(door, "events", "--since", "2026-01-01T10:40:00+00:00") == 0
    lines = capsys.readouterr().out.splitlines()
    assert [json.loads(line.split("number=")[1]) for line in lines] == list(range(40, 50))


@pytest.mark.parametrize("size", [(80, 24), (200, 60), (40, 10), (20, 3)])
def test_a_screen_is_never_larger_than_the_terminal(size: tuple[int, int]) -> None:
    """Twelve subsystems, two GPUs, fifty events: what does not fit is said to be missing."""
    full = subsystem("agent", budget={"tokens_per_minute": {"limit": 100, "used": 95}})
    answer = status(subsystems=[{**full, "name": f"agent-{n}"} for n in range(12)], gpus=[gpu("0"), gpu("1")])
    events: list[Event] = [
        {"id": n, "at": "2026-01-01T10:00:00+00:00", "kind": "notice", "subsystem": "", "fields": {}}
        for n in range(50)
    ]
    lines = top.screen(answer, events, size)
    assert len(lines) <= size[1]
    assert size[0] < 40 or max(map(len, lines)) <= size[0]
    if size[0] >= 80:
        assert "[QUARANTINE]" in lines[0]
        assert "[||||||||||||||||||| ]" in "\n".join(lines)
    assert ("do not fit" in lines[-1]) == (size[1] < 24)


def test_forty_columns_fold_and_cut_nothing() -> None:
    """Names, reasons and budgets stand there in full, over as many lines as they take."""
    name, reason = (
        "an-agent-with-a-long-name-" + "x" * 40,
        "it asked for /v1/chat/completions again and again",
    )
    one = subsystem(name, state="quarantined", hold={"rung": "freeze", "reason": "three refusals"})
    anomaly = {
        "probe": "token_burn",
        "subsystem": name,
        "severity": "critical",
        "reason": reason,
        "age_seconds": 1.0,
    }
    answer = status(subsystems=[one], gpus=[gpu("0")], anomalies=[anomaly], sentence=f"{reason}: release it")
    lines = top.screen(answer, [], (40, 60))
    assert max(map(len, lines)) <= 40
    told = re.sub(r"\s", "", "".join(lines))
    for text in (
        name,
        "quarantined",
        f"{reason}: release it",
        "freeze: three refusals",
        "1500/6000 per minute",
    ):
        assert re.sub(r"\s", "", text) in told, text
    assert "~" not in told


@pytest.mark.parametrize(("rows", "shown", "last"), [(3, 3, "c"), (2, 2, "q ends it; 2 lines do not fit")])
def test_what_does_not_fit_on_a_screen_is_counted(rows: int, shown: int, last: str) -> None:
    """As `status --watch` shows it."""
    lines = watch.fitted(["a", "b", "c"], (40, rows))
    assert (len(lines), lines[-1]) == (shown, last)


def test_a_folded_line_takes_the_rows_it_is_folded_over() -> None:
    """Colours take none."""
    assert watch.fitted(["x" * 81, "b", "c"], (40, 4)) == ["x" * 81, "q ends it; 2 lines do not fit"]
    coloured = Style(colour=True).paint("x" * 40, "red")
    assert watch.fitted([coloured, "b", "c"], (40, 3)) == [coloured, "b", "c"]


def test_a_name_cannot_paint_the_screen() -> None:
    """Names and reasons come from children; none of them reaches the terminal as an escape sequence."""
    answer = status(subsystems=[subsystem("a\x1b[2J", state="run\x1b]0;x\x07")], sentence="\x1b[31m")
    assert "\x1b" not in "\n".join(top.screen(answer, [], (80, 24)))
    assert "\x1b" in "\n".join(top.screen(answer, [], (80, 24), Style(colour=True)))


async def test_top_gives_the_terminal_back(door: Door) -> None:
    """On a real terminal of 80 by 24, until q is pressed: another screen is entered and left again."""
    primary, secondary = pty.openpty()
    fcntl.ioctl(secondary, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    before = termios.tcgetattr(secondary)
    command = [
        sys.executable,
        "-m",
        "epad.epactl.main",
        "--socket",
        str(door.path),
        "top",
        "--interval",
        "0.1",
    ]
    process = subprocess.Popen(command, stdin=secondary, stdout=secondary, stderr=secondary, cwd=ROOT)
    seen = b""
    while b"ends it" not in seen:
        seen += await asyncio.to_thread(os.read, primary, 65_536)
    os.write(primary, b"q")
    with contextlib.suppress(OSError):
        while b"\x1b[?1049l" not in seen:
            seen += await asyncio.to_thread(os.read, primary, 65_536)
    assert await asyncio.to_thread(process.wait, 20) == 0
    assert b"\x1b[?1049h" in seen
    assert b"QUARANTINE" in seen
    assert termios.tcgetattr(secondary) == before
    os.close(primary)
    os.close(secondary)


def test_the_manual_tells_of_every_command_and_exit_status() -> None:
    """And man, where it is, reads it without a warning."""
    page = ctl_shell.man(command_line.make_parser())
    said = page.replace("\\-", "-")
    for node in ctl_shell.nodes(command_line.make_parser()):
        assert all(word in said for word in node.words)
    assert "12" in page
    assert ".SS quarantine NAME" in page
    if shutil.which("groff"):
        done = subprocess.run(
            ["groff", "-man", "-Tutf8", "-ww"], input=page, capture_output=True, text=True, check=True
        )
        assert done.stderr == ""
