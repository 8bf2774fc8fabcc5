"""`epactl`, from the command line to the socket and back; it stands here because the socket's fixtures do."""

from __future__ import annotations

import argparse
import asyncio
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from control_door import Door
from patience import PATIENCE_SECONDS

from epad.api.unix import bind
from epad.configuration.load import load
from epad.epactl import arguments, call
from epad.epactl import main as ctl
from epad.epactl.call import find_socket
from epad.epactl.render import NOT_AN_LLM
from epad.epactl.terminal import Terminal
from epad.ledger.entry import OpenTurn
from epad.ledger.store import Ledger
from epad.operations.protocol import Peer
from statemachine.clock import ManualClock


@pytest.fixture(autouse=True)
def no_daemon_of_ones_own(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test may talk to a daemon that happens to run on this machine."""
    for name in ("EPAD_SOCKET", "XDG_RUNTIME_DIR", "XDG_STATE_HOME", "NO_COLOR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(directory / "home"))
    monkeypatch.setattr(call, "SYSTEM_RUNTIME", str(directory / "system/run"))
    monkeypatch.setattr(call, "SYSTEM_STATE", str(directory / "system/state"))


async def epactl(door: Door, *words: str) -> int:
    return await asyncio.to_thread(ctl.main, ["--socket", str(door.path), *words])


async def test_status_is_a_table_for_people(door: Door, capsys: pytest.CaptureFixture[str]) -> None:
    """Data on stdout, nothing on stderr, exit 0 although the phase is not NORMAL."""
    assert await epactl(door, "status") == 0
    out, err = capsys.readouterr()
    assert out.startswith("QUARANTINE for 1m01s: one subsystem misbehaves\n")
    assert "freeze: three refusals\n" in out
    assert NOT_AN_LLM in out
    assert "\x1b" not in out
    assert err == ""


async def test_status_as_json_is_what_the_daemon_said(door: Door, capsys: pytest.CaptureFixture[str]) -> None:
    """The option is understood before and after the command."""
    assert await epactl(door, "status", "-o", "json") == 0
    assert json.loads(capsys.readouterr().out) == door.operations.answer
    assert await epactl(door, "-o", "json", "status", "chat") == 0
    assert json.loads(capsys.readouterr().out) == door.operations.answer["subsystems"][0]


async def test_check_tells_a_script_by_the_exit_status(door: Door) -> None:
    """10 when the phase is not NORMAL, 0 when it is."""
    assert await epactl(door, "status", "--check") == 10
    door.operations.answer["phase"] = "NORMAL"
    assert await epactl(door, "status", "--check") == 0


async def test_orders_go_out_with_their_reason(door: Door, capsys: pytest.CaptureFixture[str]) -> None:
    """Each order reaches the daemon as given."""
    assert await epactl(door, "quarantine", "chat", "--reason", "it loops") == 0
    assert await epactl(door, "release", "chat", "--reason", "cured") == 0
    assert await epactl(door, "pause", "chat", "--reason", "lunch") == 0
    assert await epactl(door, "resume", "chat", "--reason", "back") == 0
    assert await epactl(door, "reload") == 0
    assert await epactl(door, "reload", "--reason", "it reads issues") == 0
    assert await epactl(door, "checkpoint", "create", "--reason", "before the upgrade") == 0
    assert await epactl(door, "key", "rotate", "chat", "--reason", "yearly") == 0
    assert await epactl(door, "key", "revoke", "chat", "--reason", "stolen", "--yes") == 0
    assert await epactl(door, "lifeboat", "enter", "--reason", "fire", "--yes") == 0
    assert await epactl(door, "datastore", "accept", "memory", "--reason", "tidied up") == 0
    assert [order[:3] for order in door.operations.orders] == [
        ("quarantine", "chat", "it loops"),
        ("release", "chat", "cured"),
        ("pause", "chat", "lunch"),
        ("resume", "chat", "back"),
        ("reload", "host", "asked for"),
        ("reload", "host", "it reads issues"),
        ("checkpoint", "host", "before the upgrade"),
        ("rotate_key", "chat", "yearly"),
        ("revoke_key", "chat", "stolen"),
        ("lifeboat", "host", "fire"),
        ("accept_datastore", "memory", "tidied up"),
    ]
    assert "chat: quarantine done\nphase: QUARANTINE\n" in capsys.readouterr().out


async def test_a_phase_is_forced_with_a_reason(door: Door, capsys: pytest.CaptureFixture[str]) -> None:
    """Without a reason it is a wrong command line, rehearsed it is none; what is impossible says why and exits 1."""
    assert await epactl(door, "phase", "--force", "normal") == 2
    assert await epactl(door, "phase", "--force", "NORMAL", "--reason", "r", "--dry-run") == 0
    assert await epactl(door, "phase", "--force", "RECOVERY", "--reason", "r", "--dry-run") == 0
    assert not door.operations.orders
    assert await epactl(door, "phase", "--force", "NORMAL", "--reason", "it is over") == 0
    assert await epactl(door, "phase", "--force", "RECOVERY", "--reason", "r") == 1
    assert [order[:3] for order in door.operations.orders] == [("force_phase", "NORMAL", "it is over")]
    out, err = capsys.readouterr()
    assert "would order QUARANTINE -> NORMAL at once\nnothing was done\n" in out
    assert "would be refused: nothing is broken\n" in out
    assert "RECOVERY cannot be forced: nothing is broken" in err


async def test_budgets_are_shown_with_who_set_them(door: Door, capsys: pytest.CaptureFixture[str]) -> None:
    """Each in its own unit, with what is left."""
    assert await epactl(door, "budget") == 0
    heads, tokens, money = capsys.readouterr().out.splitlines()
    assert heads.split() == ["SCOPE", "LIMIT", "ALLOWED", "USED", "LEFT", "SET", "BY"]
    assert tokens.split() == ["chat", "tokens_per_minute", "6,000", "1,500", "4,500", "configured"]
    assert money.split()[:5] == ["all", "usd_per_day", "$5.00", "<$0.01", "$5.00"]
    assert money.endswith("a long night (configured: $3.00)")


async def test_a_limit_is_set_with_a_reason(door: Door, capsys: pytest.CaptureFixture[str]) -> None:
    """Numbers, none, or what is configured; anything else is a wrong command line, and nothing is ordered."""
    set_it = ("budget", "set", "chat", "--reason", "r")
    assert await epactl(door, *set_it, "tokens_per_minute=1_000", "--dry-run") == 0
    assert "would set chat tokens_per_minute: 6,000 -> 1,000\nnothing was done\n" in capsys.readouterr().out
    assert await epactl(door, *set_it, "max_in_flight=0", "--dry-run") == 0
    assert "would set chat max_in_flight: no limit -> no limit" in capsys.readouterr().out
    assert await epactl(door, *set_it, "tokens_per_minute=20k", "tokens_per_day=1.5M", "--dry-run") == 0
    said = capsys.readouterr().out
    assert "tokens_per_minute: 6,000 -> 20,000\n" in said
    assert "tokens_per_day: no limit -> 1,500,000\n" in said
    assert await epactl(door, *set_it, f"tokens_per_minute={2**53 + 2}", "--dry-run") == 1
    assert "would be refused: tokens_per_minute is 9" in capsys.readouterr().err
    for wrong, why in (
        ("tokens_per_minute", "give LIMIT=AMOUNT"),
        ("=5", "give LIMIT=AMOUNT"),
        ("tokens_per_minute=-1", "not at least 0"),
        ("tokens_per_minute=10000000000000000M", "under 2^63"),
        (
            "tokens_per_minute=lots",
            "tokens_per_minute: 'lots' is no amount; give a number, with k for thousands",
        ),
        ("tokens_per_minute=2m", "tokens_per_minute: '2m' is no amount"),
    ):
        assert await epactl(door, *set_it, wrong) == 2
        assert why in capsys.readouterr().err
    assert await epactl(door, "budget", "set", "chat", "tokens_per_minute=5") == 2
    assert await epactl(door, "budget", "set", "nobody", "tokens_per_minute=5", "--reason", "r") == 4
    assert not door.operations.limits
    assert (
        await epactl(door, *set_it, "tokens_per_minute=0", "usd_per_day=2.5", "tokens_per_day=configured")
        == 0
    )
    assert door.operations.limits == [{"tokens_per_minute": 0, "usd_per_day": 2.5, "tokens_per_day": None}]


async def test_an_order_whose_steps_failed_is_a_failure(door: Door) -> None:
    """The daemon took the order and could not carry it out: exit 1."""
    door.operations.failed = True
    assert await epactl(door, "quarantine", "chat", "--reason", "r") == 1


async def test_failures_have_different_exit_statuses(door: Door, capsys: pytest.CaptureFixture[str]) -> None:
    """Conflict 1, unknown name 4, refused 5: each with message and fix on stderr, none on stdout."""
    assert await epactl(door, "lifeboat", "relaunch", "--reason", "r") == 1
    assert await epactl(door, "quarantine", "nobody", "--reason", "r") == 4
    assert await epactl(door, "status", "nobody") == 4
    assert await epactl(door, "explain", "nobody") == 4
    assert await epactl(door, "datastore", "accept", "nobody", "--reason", "r") == 4
    door.peer = Peer(1, 54_321, ())
    assert await epactl(door, "quarantine", "chat", "--reason", "r") == 5
    out, err = capsys.readouterr()
    assert out == ""
    assert "only LIFEBOAT is left by a relaunch" in err
    assert "there are: chat, wargame" in err
    assert "control.operator_group" in err


def test_no_daemon_is_3_and_says_where_it_looked(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Neither a missing socket nor a missing directory is a traceback."""
    assert ctl.main(["--socket", str(directory / "none.sock"), "status"]) == 3
    assert ctl.main(["status"]) == 3
    err = capsys.readouterr().err
    assert "none.sock" in err
    assert str(directory / "home/.local/state/epad/run/control.sock") in err


def test_the_socket_is_found_without_being_named(directory: Path) -> None:
    """--socket, then $EPAD_SOCKET, then the first that is there; a socket one may not look at counts as there."""
    own, users = directory / "state/epad/run/control.sock", directory / "run/epad/control.sock"
    environment = {"XDG_RUNTIME_DIR": str(directory / "run"), "XDG_STATE_HOME": str(directory / "state")}
    own.parent.mkdir(parents=True)
    users.parent.mkdir(parents=True)
    bind(own).close()
    assert find_socket(None, environment) == str(own)
    users.write_text("not a socket")
    assert find_socket(None, environment) == str(own)
    users.unlink()
    bind(users).close()
    assert find_socket(None, environment) == str(users)
    assert find_socket(None, {**environment, "EPAD_SOCKET": "/a"}) == "/a"
    assert find_socket("/b", {**environment, "EPAD_SOCKET": "/a"}) == "/b"


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["nonsense"],
        ["quarantine", "chat"],
        ["quarantine", "--reason", "r"],
        ["quarantine", "chat", "--reason", "  "],
        ["quarantine", "chat", "--reason", "x" * 501],
        ["status", "-o", "yaml"],
        ["events", "--since", "-1"],
        ["events", "--since", "9" * 30],
        ["events", "-n", "0"],
        ["lifeboat"],
        ["ledger"],
        *([*command, ""] for command in (["logs"], ["status"], ["explain"], ["lifeboat", "inspect"])),
        ["quarantine", " ", "--reason", "r"],
        ["checkpoint", "verify", ""],
    ],
)
def test_a_wrong_command_line_is_2(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """Said before anything is asked of a daemon."""
    assert ctl.main(words) == 2
    assert "usage: epactl" in capsys.readouterr().err


async def test_the_lifeboat_asks_a_person_and_fails_without_one(
    door: Door, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """No terminal and no --yes: nothing is done. On a terminal, only a typed yes is one."""
    assert await epactl(door, "lifeboat", "enter", "--reason", "r") == 2
    assert "--yes" in capsys.readouterr().err
    monkeypatch.setattr(Terminal, "is_person", lambda self: True)
    monkeypatch.setattr(sys, "stdin", io.StringIO("y\n"))
    assert await epactl(door, "lifeboat", "enter", "--reason", "r") == 1
    assert not door.operations.orders
    monkeypatch.setattr(sys, "stdin", io.StringIO("yes\n"))
    assert await epactl(door, "lifeboat", "enter", "--reason", "r") == 0
    assert door.operations.orders[0][0] == "lifeboat"


async def test_events_are_shown_newest_or_since(door: Door, capsys: pytest.CaptureFixture[str]) -> None:
    """The newest few, or all that followed an id, however many pages that takes."""
    for number in range(2_500):
        door.operations.happen("notice", number=number)
    assert await epactl(door, "events", "-n", "2", "-o", "json") == 0
    assert [json.loads(line)["id"] for line in capsys.readouterr().out.splitlines()] == [2_499, 2_500]
    assert await epactl(door, "events", "--since", "10") == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2_490
    assert lines[0].split()[0] == "11"


async def test_explain_and_phase(door: Door, capsys: pytest.CaptureFixture[str]) -> None:
    """The chain, the history, and the diagram."""
    assert await epactl(door, "explain", "wargame") == 0
    assert "[anomaly-1]" in capsys.readouterr().out
    assert await epactl(door, "phase") == 0
    assert "NORMAL -> QUARANTINE" in capsys.readouterr().out
    assert await epactl(door, "phase", "--diagram") == 0
    assert capsys.readouterr().out == (await door.operations.phase())["diagram"]


def test_help_documents_every_exit_status(capsys: pytest.CaptureFixture[str]) -> None:
    """What a script may rely on is written where people look."""
    assert ctl.main(["--help"]) == 0
    words = capsys.readouterr().out.split()
    for name in ("OK", "FAILED", "USAGE", "NOT_RUNNING", "UNKNOWN", "REFUSED", "NOT_NORMAL"):
        assert str(getattr(call, f"EXIT_{name}")) in words


def test_colour_is_for_terminals_that_want_it() -> None:
    """NO_COLOR, TERM=dumb and a pipe each turn it off."""

    class Screen(io.StringIO):
        def isatty(self) -> bool:
            return True

    def colours(out: io.StringIO, **environment: str) -> bool:
        return Terminal(environment, output="table", streams=(out, out, out)).style.paint("x", "red") != "x"

    assert colours(Screen(), TERM="xterm")
    assert not colours(Screen(), TERM="dumb")
    assert not colours(Screen(), NO_COLOR="1")
    assert not colours(io.StringIO())


def test_a_narrow_encoding_loses_a_character_and_not_the_answer() -> None:
    """Under LC_ALL=C with a Latin terminal, an answer is still an answer."""
    raw = io.BytesIO()
    out = io.TextIOWrapper(raw, encoding="ascii")
    Terminal({}, output="table", streams=(out, out, out)).lines(["naïve"])
    assert raw.getvalue() == b"na?ve\n"


async def ledger_with_turns(path: Path, count: int) -> None:
    ledger = await Ledger.open(path, load().ledger, ManualClock(), "boot")
    for number in range(count):
        await ledger.open_turn(
            OpenTurn(
                turn=f"{number:032x}",
                subsystem="chat",
                dialect="openai",
                model="embedded",
                prompt_bound=40,
                output_cap=60,
                reserved_tokens=100,
                request_sha256=bytes(32),
            )
        )
    await ledger.close()


async def test_the_ledger_is_verified_without_a_daemon(
    directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A whole ledger is 0, a damaged one 1 with the record named, none at all 4."""
    path = directory / "ledger.db"
    await ledger_with_turns(path, 5)
    verify = ["ledger", "verify", "--state", str(directory)]
    assert await asyncio.to_thread(ctl.main, verify) == 0
    out, err = capsys.readouterr()
    assert out.startswith(f"{path}\nOK: ")
    assert err == ""
    damaged = path.read_bytes().replace(b"embedded", b"embedder", 1)
    assert damaged != path.read_bytes()
    path.write_bytes(damaged)
    assert await asyncio.to_thread(ctl.main, verify) == 1
    assert "CORRUPT" in capsys.readouterr().out
    assert await asyncio.to_thread(ctl.main, [*verify, "-o", "json"]) == 1
    report = json.loads(capsys.readouterr().out)
    assert report["verdict"] == "corrupt"
    assert report["faults"]
    assert ctl.main(["ledger", "verify", "--state", str(directory / "none")]) == 4
    assert str(directory / "none/ledger.db") in capsys.readouterr().err


async def test_the_ledger_is_found_without_being_named(
    directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The system's state directory first, then the user's own."""
    own = directory / "home/.local/state/epad/ledger.db"
    assert ctl.main(["ledger", "verify"]) == 4
    assert str(own) in capsys.readouterr().err
    own.parent.mkdir(parents=True)
    await ledger_with_turns(own, 1)
    assert await asyncio.to_thread(ctl.main, ["ledger", "verify"]) == 0
    assert str(own) in capsys.readouterr().out


HEAVY = (
    "aiohttp",
    "msgspec",
    "structlog",
    "apsw",
    "asyncio",
    "http.client",
    "dataclasses",
    "pathlib",
    "typing",
)

IMPORTS = """
import sys
from epad.epactl.main import main
status = main(sys.argv[1:])
print([name for name in {heavy!r} if name in sys.modules], file=sys.stderr)
sys.exit(status)
"""


async def test_status_loads_nothing_heavy(door: Door) -> None:
    """In a process of its own: the answer, the status, and none of the daemon's libraries."""
    script = IMPORTS.format(heavy=HEAVY)
    command = [sys.executable, "-I", "-S", "-c", script, "--socket", str(door.path), "status", "--check"]
    # -S keeps what the environment's .pth files import out of the count; so the path is given by hand.
    command[4] = f"import sys; sys.path.insert(0, {str(Path(ctl.__file__).parents[2])!r})\n" + command[4]
    ran = await asyncio.to_thread(
        subprocess.run, command, capture_output=True, text=True, timeout=PATIENCE_SECONDS
    )
    assert ran.stdout.startswith("QUARANTINE for 1m01s")
    assert ran.stderr == "[]\n"
    assert ran.returncode == 10


async def test_following_ends_with_the_daemon_and_not_with_a_traceback(door: Door) -> None:
    """As a real process: events as they happen; then the stream ends, and the status says no daemon is there."""
    door.operations.happen("first")
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "epad.epactl.main", "events", "-f"),
        env={**os.environ, "EPAD_SOCKET": str(door.path), "PYTHONWARNINGS": ""},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        cwd=Path(ctl.__file__).parents[2],
    )
    assert process.stdout is not None
    assert b"first" in await process.stdout.readline()
    await door.operations.subscribed.wait()
    door.operations.happen("second")
    assert b"second" in await process.stdout.readline()
    for queue in tuple(door.operations.listeners):
        # An event without an id: the stream breaks, as it would if the daemon died.
        queue.put_nowait({})  # type: ignore[typeddict-item]  # given on purpose
    _, err = await process.communicate()
    assert process.returncode == 3
    assert b"ended the stream" in err
    assert b"Traceback" not in err


async def test_a_reader_that_leaves_early_is_no_error_message(door: Door) -> None:
    """`epactl events | head -1` is quiet."""
    for _ in range(5_000):
        door.operations.happen("notice", text="x" * 100)
    command = f"{sys.executable} -m epad.epactl.main events --since 0 | head -1"
    process = await asyncio.create_subprocess_shell(
        command,
        env={**os.environ, "EPAD_SOCKET": str(door.path)},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        cwd=Path(ctl.__file__).parents[2],
    )
    out, err = await process.communicate()
    assert out.count(b"\n") == 1
    assert err == b""


async def test_logs_are_the_last_lines(door: Door, capsys: pytest.CaptureFixture[str]) -> None:
    """As printed, but for what would move a terminal's cursor; the options reach the daemon."""
    door.operations.printed = ["one", "\x1b[2Jtwo"]
    assert await epactl(door, "logs", "chat") == 0
    assert capsys.readouterr().out == "one\n?[2Jtwo\n"
    assert await epactl(door, "logs", "chat", "-n", "1", "-o", "json") == 0
    assert json.loads(capsys.readouterr().out) == {"line": "\x1b[2Jtwo"}
    assert await epactl(door, "logs", "chat", "--since", "1970-01-01T00:01:00+00:00") == 0
    assert door.operations.logs_asked == [("chat", 100, None), ("chat", 1, None), ("chat", 10_000, 60.0)]


async def test_logs_go_on_until_the_stream_ends(door: Door) -> None:
    """First what there is, then what comes; then the status says that no daemon is there."""
    door.operations.printing = [["four"], [], ["five"]]
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "epad.epactl.main", "logs", "chat", "-f"),
        env={**os.environ, "EPAD_SOCKET": str(door.path), "PYTHONWARNINGS": ""},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        cwd=Path(ctl.__file__).parents[2],
    )
    assert process.stdout is not None
    lines = [await process.stdout.readline() for _ in range(5)]
    assert lines == [b"one\n", b"two\n", b"three\n", b"four\n", b"five\n"]
    _, err = await process.communicate()
    assert process.returncode == 3
    assert b"Traceback" not in err


@pytest.mark.parametrize(
    ("text", "utc"), [("90s", 910.0), ("10m", 400.0), ("0h", 1000.0), ("1970-01-01T00:00:05Z", 5.0)]
)
def test_a_moment_is_so_long_ago_or_a_time(text: str, utc: float) -> None:
    """Both ways that people say when."""
    assert arguments.moment(text, lambda: 1000.0) == utc


@pytest.mark.parametrize("text", ["", "5", "m", "-5m", "yesterday", "2026-13-01", "1.5h"])
def test_what_is_no_moment_is_refused_with_examples(text: str) -> None:
    """Nothing is guessed."""
    with pytest.raises(argparse.ArgumentTypeError, match="give 90s, 10m, 2h, 1d"):
        arguments.moment(text)


async def test_recovery_shows_the_plan_and_what_is_left_to_a_person(
    door: Door, capsys: pytest.CaptureFixture[str]
) -> None:
    """What, why, from which sources in which order; and the turns that nobody will ask again."""
    assert await epactl(door, "recovery") == 0
    shown = capsys.readouterr().out
    assert "1. rebuild ledger: record 7" in shown
    assert "from rows that the chain vouches for, then sealed segments" in shown
    assert "for a person" in shown
