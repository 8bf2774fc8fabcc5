"""The command line says what it did by its exit status, and whose numbers they are by its first line."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from runners.wargame.cli import main
from runners.wargame.commands import look
from runners.wargame.commands.exits import Exit
from runners.wargame.engine import BANNER

ENVIRONMENT = {"PYTHONPATH": ":".join(sys.path), "PATH": os.environ["PATH"]}
NOBODY = "http://127.0.0.1:9/v1"


@pytest.fixture(autouse=True)
def without_epad(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("EPAD_GATEWAY_URL", "EPAD_GATEWAY_KEY", "NOTIFY_SOCKET"):
        monkeypatch.delenv(name, raising=False)


def wargame(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the program as a person would."""
    return subprocess.run(
        [sys.executable, "-m", "runners.wargame", *arguments],
        env=ENVIRONMENT | environment,
        check=False,
        capture_output=True,
        text=True,
    )


def test_without_an_endpoint_it_plays_embedded_and_says_so(tmp_path: Path) -> None:
    """Run, status and report of a stranger's first try: each begins with what it is not."""
    store = str(tmp_path / "w.db")
    ran = wargame("run", "--rounds", "8", "--store", store)
    assert ran.returncode == Exit.OK, ran.stderr
    assert ran.stdout.splitlines()[0] == BANNER
    assert "round 8/8" in ran.stdout
    for command in ("status", "report"):
        told = wargame(command, "--store", store)
        assert told.returncode == Exit.OK
        assert BANNER in told.stdout
        assert json.loads(wargame(command, "--store", store, "--json").stdout)["engine"] == "embedded"


def test_status_only_counts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is asked in mid-run; learning every rule first took it a minute on a night of 10,000 rounds."""
    store = str(tmp_path / "w.db")
    main(["run", "--rounds", "4", "--store", store, "--quiet", "--control-pairs", "0"])
    monkeypatch.delattr(look, "build")
    assert main(["status", "--store", store]) == Exit.OK
    assert "rounds 4/4: scored 4, void 0, failed 0" in capsys.readouterr().out


def test_under_epad_it_reports_ready_progress_and_stopping(tmp_path: Path) -> None:
    """Standalone, it stands under a supervisor just as well: READY, one progress a round, STOPPING."""
    with (
        tempfile.TemporaryDirectory() as directory,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as box,
    ):
        box.bind(f"{directory}/n.sock")
        box.setblocking(False)
        ran = wargame(
            "run", "--rounds", "4", "--store", str(tmp_path / "w.db"), NOTIFY_SOCKET=f"{directory}/n.sock"
        )
        assert ran.returncode == Exit.OK, ran.stderr
        said = []
        while True:
            try:
                said.append(box.recv(4096).decode())
            except BlockingIOError:
                break
    progress = [text.splitlines() for text in said if text.startswith("X_EPAD_PROGRESS=")]
    assert said[0].startswith("READY=1\nSTATUS=EMBEDDED wargame-")
    assert [lines[0].split("=")[1] for lines in progress if "round" in lines[1]][:5] == [
        "0/4",
        "1/4",
        "2/4",
        "3/4",
        "4/4",
    ]
    assert all("EMBEDDED" in lines[1] for lines in progress)
    assert said[-1].startswith("STOPPING=1")


def test_a_named_endpoint_that_fails_is_never_replaced_by_the_embedded_one(tmp_path: Path) -> None:
    """Nobody answers: the run pauses, and after its limit exits 6 with nothing scored."""
    ran = wargame(
        *(
            "run",
            "--rounds",
            "4",
            "--store",
            str(tmp_path / "w.db"),
            "--base-url",
            NOBODY,
            "--defender-model",
            "llama3",
        ),
        *("--attacker-model", "llama3", "--breaker-failures", "2", "--backoff-seconds", "0.01"),
        *("--pause-first-seconds", "0.01", "--pause-limit-seconds", "0.1"),
    )
    assert ran.returncode == Exit.PAUSED
    assert "PAUSED: llama3: conn" in ran.stdout
    assert BANNER not in ran.stdout
    status = wargame("status", "--store", str(tmp_path / "w.db"))
    assert "state STOPPED paused for" in status.stdout


def test_too_few_scored_rounds_exit_5(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Rounds that all fail end the run, and both run and report say NOT REPORTABLE."""
    store = str(tmp_path / "w.db")
    arguments = ["run", "--rounds", "2", "--store", store, "--base-url", NOBODY, "--breaker-failures", "1000"]
    assert main([*arguments, "--retries", "0"]) == Exit.NOT_REPORTABLE
    assert "NOT REPORTABLE" in capsys.readouterr().out
    assert main(["report", "--store", store]) == Exit.NOT_REPORTABLE
    assert "2 of 2" not in capsys.readouterr().out


def test_other_settings_are_refused_with_their_names(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The same store with another seed is exit 4; with more rounds it goes on."""
    store = str(tmp_path / "w.db")
    assert main(["run", "--rounds", "2", "--store", store]) == Exit.OK
    assert (
        main(["run", "--rounds", "2", "--store", store, "--base-url", NOBODY, "--seed", "9"])
        == Exit.OTHER_SETTINGS
    )
    assert "seed: 1 -> 9" in capsys.readouterr().err
    assert main(["run", "--rounds", "4", "--store", store]) == Exit.OK
    assert "round 4/4" in capsys.readouterr().out


def test_a_store_that_is_not_there_is_an_error_not_an_empty_report(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A mistyped path must not look like a run of nothing, nor make a file."""
    for command in ("status", "report"):
        assert main([command, "--store", str(tmp_path / "nope.db")]) == Exit.FAILED
        assert "nope.db: there is no such store" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "arguments",
    [
        ["--rounds", "0"],
        ["--pace", "-1"],
        ["--pace", "nan"],
        ["--role-model", "jester=x"],
        ["--attacker-model", "m\udcff"],
    ],
)
def test_nonsense_is_a_usage_error(arguments: list[str]) -> None:
    """Exit 2 from the parser, before anything is opened."""
    with pytest.raises(SystemExit) as left:
        main(["run", *arguments])
    assert left.value.code == 2


def test_ctrl_c_says_how_to_go_on_and_exits_130(tmp_path: Path) -> None:
    """While rounds are played: no traceback, the rounds that ended are kept, and the same command plays the rest."""
    command = ["run", "--rounds", "8", "--store", str(tmp_path / "w.db"), "--control-pairs", "0"]
    with subprocess.Popen(
        [sys.executable, "-m", "runners.wargame", *command, "--pace", "600"],
        env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as run:  # fmt: skip
        assert run.stdout is not None
        assert run.stderr is not None
        next(line for line in run.stdout if "round 1/8" in line)
        run.send_signal(signal.SIGINT)
        said = run.stderr.read()
    assert run.returncode == Exit.INTERRUPTED
    assert "stopped; the same command goes on from there" in said
    assert "Traceback" not in said
    again = wargame(*command)
    assert again.returncode == Exit.OK, again.stderr
    assert "round 1/8" not in again.stdout
    assert "round 8/8" in again.stdout


def test_ctrl_c_in_any_other_command_is_130_too(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wherever it comes."""
    store = str(tmp_path / "w.db")
    main(["run", "--rounds", "2", "--store", store, "--quiet", "--control-pairs", "0"])

    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(look, "build", interrupted)
    assert main(["report", "--store", store]) == Exit.INTERRUPTED
    assert "stopped; the same command goes on" in capsys.readouterr().err
