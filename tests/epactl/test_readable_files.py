"""What `epactl` says of files it may not read, cannot read, or cannot make sense of: one line, never a traceback."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from epad.epactl import main

NOBODY = "65534"
LONG, DIGITS = "a" * 5_000, "9" * 400
OF_FILES = (
    "checkpoint list",
    "checkpoint verify",
    "checkpoint verify x",
    "checkpoint restore --yes",
    "lifeboat list",
    "lifeboat inspect first-tier",
    "ledger verify",
    "ledger verify --segments",
    "ledger show",
    "ledger export",
    "ledger head",
    "ledger prove 1",
    "simulate",
    "stop-all --yes",
)
# One process for all commands: each by itself took half a second of nothing but imports.
TYPE_ALL = """
import contextlib, io, json, sys
from epad.epactl.main import main
done = []
for words in sys.argv[2:]:
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()) as errors:
        status = main([*words.split(), "--state", sys.argv[1]])
    done.append((words, status, errors.getvalue()))
json.dump(done, sys.stdout)
"""


@pytest.fixture(scope="module")
def stranger() -> list[str]:
    """The Python of the tests, run by somebody who owns nothing here; as it is where that is not root."""
    become = ["setpriv", "--reuid", NOBODY, "--regid", NOBODY, "--clear-groups"] if os.geteuid() == 0 else []
    if become and shutil.which("setpriv") is None:
        pytest.skip("no setpriv here: apt-get install util-linux")
    python = [*become, sys.executable]
    if subprocess.run(
        [*python, "-c", "import epad.epactl.main"], check=False, capture_output=True
    ).returncode:
        pytest.skip("an unprivileged user cannot run this Python: its files are not readable for others")
    return python


@pytest.fixture(params=["the state directory", "what is in it"])
def forbidden(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A state directory that is somebody else's, wholly or below its top."""
    state = tmp_path_factory.mktemp("state")
    for above in (state, *state.parents[:2]):
        above.chmod(0o755)
    for name in ("checkpoints", "lifeboat", "anchor"):
        (state / name).mkdir()
    for name in ("ledger.db", "state.db", "lifeboat/first-tier"):
        (state / name).touch()
    shut = [state] if request.param == "the state directory" else list(state.iterdir())
    for path in shut:
        path.chmod(0)
    yield state
    for path in shut:
        path.chmod(0o700)


def test_who_may_not_read_is_told_as_whom_to_run_it(forbidden: Path, stranger: list[str]) -> None:
    """5, the place, and the fix; `stop-all` looks at processes, so it needs no more than the directory."""
    wholly = not forbidden.stat().st_mode & 0o777
    typed = OF_FILES if wholly else OF_FILES[:-1]
    command = [*stranger, "-c", TYPE_ALL, str(forbidden), *typed]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    said = json.loads(done.stdout)
    assert [(words, status) for words, status, _ in said] == [(words, 5) for words in typed]
    for words, _, errors in said:
        assert errors.startswith(f"epactl: {forbidden}"), words
        assert errors.count("\n") == 1
        assert "run it as root, or as the user that epad runs as" in errors


@pytest.mark.parametrize(
    ("words", "status"),
    [
        (["lifeboat", "inspect", LONG], 4),
        (["lifeboat", "inspect", "/proc/self/mem"], 4),
        (["lifeboat", "relaunch", "--reason", "r", "--yes", "--from", LONG], 4),
        (["checkpoint", "verify", LONG], 4),
        (["checkpoint", "verify", "\udcff"], 4),
        (["ledger", "prove", "1"], 4),
        (["simulate"], 4),
        (["simulate", "--set", f"probes.token_burn.identical_prompts={'9' * 5_000}"], 4),
    ],
)
def test_a_state_directory_full_of_nonsense_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], status: int
) -> None:
    """Bytes that mean nothing where databases, heads and frames should be; names that no file can have."""
    for name in ("ledger.db", "state.db", "anchor/head", "anchor/heads.log", "anchor/ledger.pub"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"\xff\xfe\x00nonsense" * 1_000)
    assert main.main([*words, "--state", str(tmp_path)]) == status
    out, err = capsys.readouterr()
    assert out or err.startswith("epactl: ")


@pytest.mark.parametrize("state", ["/etc/passwd", LONG, "/nowhere", "\udcff"])
@pytest.mark.parametrize("words", [words for words in OF_FILES if "stop-all" not in words])
def test_what_is_no_state_directory_is_a_line(
    words: str, state: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A file, a name too long, one that is not there: each command ends with a documented status."""
    assert main.main([*words.split(), "--state", state]) in {0, 2, 4}
    out, err = capsys.readouterr()
    assert (out + err).count("\n") <= 2


@pytest.mark.parametrize("when", [f"{DIGITS}d", "99999999999d", "0001-01-01T00:00:00+00:00"])
def test_a_time_before_1970_is_1970(tmp_path: Path, when: str, capsys: pytest.CaptureFixture[str]) -> None:
    """All that there is, however many digits say so."""
    assert main.main(["simulate", "--since", when, "--state", str(tmp_path)]) == 4
    assert "there is no recording" in capsys.readouterr().err
    from epad.epactl.arguments import moment  # noqa: PLC0415

    assert moment(when) == 0.0


@pytest.mark.parametrize(
    ("value", "why"),
    [
        ("9.9e999", "is no limit"),
        ("1.0e308", "is no limit"),
        (DIGITS, "is no limit"),
        (f"{DIGITS}k", "is no limit"),
        ("-1", "is no limit"),
        ("x", "is no amount"),
    ],
)
def test_an_amount_that_no_limit_can_be_is_refused(
    value: str, why: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Infinite, or more than 2^63: the wrong command line, not an overflow."""
    words = ["budget", "set", "chat", f"usd_per_day={value}", "--reason", "r", "--dry-run"]
    assert main.main(["--socket", "/nowhere/x.sock", *words]) == 2
    assert why in capsys.readouterr().err


def test_a_configuration_named_by_a_dot_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    """It is a directory, and has no name to look for drop-ins by."""
    assert main.main(["config", "show", "--config", "."]) == 1
    assert "Is a directory" in capsys.readouterr().err
