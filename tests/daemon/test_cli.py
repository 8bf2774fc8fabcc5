"""`epad`: its commands, and what a wrong configuration looks like to a person."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from collections.abc import Callable
from importlib import resources
from pathlib import Path

import pytest
from patience import PATIENCE_SECONDS

import epad.daemon
from epad.configuration import load
from epad.configuration.load import Loaded
from epad.configuration.schema import Config
from epad.daemon import cli
from epad.gate.tool_table import as_lines
from statemachine.table import mermaid


@pytest.fixture(autouse=True)
def no_system_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is in this machine's /etc is not part of the test."""
    monkeypatch.setattr(load, "SYSTEM_FILE", tmp_path / "etc" / "epad.toml")


def test_check_of_nothing_is_the_shipped_defaults(capsys: pytest.CaptureFixture[str]) -> None:
    """No file is a configuration too."""
    assert cli.main(["check"]) == 0
    engine, verdict = capsys.readouterr().out.splitlines()
    assert engine.startswith(("engine: plain: ", "engine: systemd: "))
    assert verdict == "ok: no file: the shipped defaults"


def test_check_names_each_subsystem_that_is_not_confined(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Once, with what to do; what is confined, or has no process, is not named."""
    path = tmp_path / "epad.toml"
    agents = "".join(f'[subsystems.{name}]\ncommand = ["sh"]\n' for name in ("a", "b"))
    path.write_text(f'{agents}confine = {{}}\n[subsystems.guest]\nkind = "client"\n')
    assert cli.main(["check", "--config", str(path)]) == 0
    [line] = [line for line in capsys.readouterr().out.splitlines() if line.startswith("not confined")]
    assert line.startswith("not confined: a reaches every host")
    assert line.endswith("[subsystems.a.confine] puts walls around it")


def test_check_prints_every_error_and_fails(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """All of them on stderr, counted, and exit 1."""
    path = tmp_path / "epad.toml"
    path.write_text("[gateway]\nidle_seconds = 0\nlisten = 1\n")
    assert cli.main(["check", "--config", str(path)]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert f"{path}:2: gateway.idle_seconds: is 0; give a number above 0\n" in err
    assert f"{path}:3: gateway.listen" in err
    assert err.endswith("epad: 2 error(s) in the configuration\n")


def test_check_reads_the_system_file_and_its_drop_ins(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without --config, what the daemon would read is what is checked."""
    main = tmp_path / "etc" / "epad.toml"
    drop_in = tmp_path / "etc" / "epad.toml.d" / "10.toml"
    drop_in.parent.mkdir(parents=True)
    main.write_text("")
    drop_in.write_text("")
    assert cli.main(["check"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == f"ok: {main}, {drop_in}"


def test_a_config_that_is_not_there_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A mistyped --config must not start the defaults."""
    assert cli.main(["check", "--config", str(tmp_path / "none.toml")]) == 1
    assert "none.toml: cannot be read: No such file or directory" in capsys.readouterr().err


def test_show_prints_every_key_with_its_origin(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What is printed is TOML again, says who set what, and keeps keys to itself."""
    path = tmp_path / "epad.toml"
    path.write_text(
        "[subsystems.chat]\nkind = 'process'\nenvironment = { API_TOKEN = 's3cret', PATH = '/bin' }\ncommand = ['sh']\n"
    )
    assert cli.main(["check", "--show", "--config", str(path)]) == 0
    out = capsys.readouterr().out
    assert f'subsystems.chat.kind = "process"  # {path}:2' in out
    assert "subsystems.chat.stop_seconds = 10.0  # built in" in out
    assert f'subsystems.chat.environment.PATH = "/bin"  # {path}:3' in out
    assert "s3cret" not in out
    shown = tomllib.loads(out)
    assert shown["gateway"]["listen"] == "127.0.0.1:8700"
    assert shown["subsystems"]["chat"]["environment"]["API_TOKEN"] == "(not shown)"


def test_default_config_is_the_shipped_file(capsys: pytest.CaptureFixture[str]) -> None:
    """Comments and all: it is the documentation of every key."""
    assert cli.main(["default-config"]) == 0
    assert capsys.readouterr().out == (resources.files("epad") / "default.toml").read_text()


def test_diagram_is_the_table(capsys: pytest.CaptureFixture[str]) -> None:
    """The one that is enforced, not a drawing of it."""
    assert cli.main(["diagram"]) == 0
    assert capsys.readouterr().out == mermaid()


def test_the_gate_prints_its_own_table(capsys: pytest.CaptureFixture[str]) -> None:
    """`--gate` prints the tables of tools and of operations, and no phases' diagram."""
    assert cli.main(["diagram", "--gate"]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("\n".join(as_lines()) + "\n\n")
    tiers = "| operation | risk | owner | operator | observer | subsystem | stranger |"
    assert tiers in printed
    assert "| rotate_key | owned | yes | no | no | no | no |" in printed
    assert "| quarantine | order | yes | yes | no | no | no |" in printed


@pytest.mark.parametrize("words", [[], ["nonsense"], ["check", "--config"], ["run", "--nonsense"]])
def test_a_wrong_command_line_is_2(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """As everywhere."""
    assert cli.main(words) == 2
    assert "usage: epad" in capsys.readouterr().err


class FakeDaemon:
    """Stands in for `epad.daemon.process`: what it was started with, and how it ends."""

    def __init__(self) -> None:
        self.started: list[tuple[Config, list[Path], Path | None, Path | None]] = []
        self.ending: BaseException | int = 0

    def run(self, read: Callable[[], Loaded], state: Path | None, config_file: Path | None) -> int:
        loaded = read()
        self.started.append((loaded.config, list(loaded.files), state, config_file))
        if isinstance(self.ending, BaseException):
            raise self.ending
        return self.ending


@pytest.fixture
def daemon(monkeypatch: pytest.MonkeyPatch) -> FakeDaemon:
    fake = FakeDaemon()
    monkeypatch.setitem(sys.modules, "epad.daemon.process", fake)
    monkeypatch.setattr(epad.daemon, "process", fake, raising=False)
    return fake


def test_run_starts_the_daemon_with_what_was_read(tmp_path: Path, daemon: FakeDaemon) -> None:
    """The configuration, the files it came from, and the state directory; its status is ours."""
    path = tmp_path / "epad.toml"
    path.write_text("[gateway]\nidle_seconds = 5\n")
    daemon.ending = 7
    assert cli.main(["run", "--config", str(path), "--state", "/some/where"]) == 7
    ((config, files, state, config_file),) = daemon.started
    assert config.gateway.idle_seconds == 5.0
    assert (files, state, config_file) == ([path], Path("/some/where"), path)


def test_run_without_any_file_starts_with_the_defaults(daemon: FakeDaemon) -> None:
    """The daemon decides what the embedded default is; here nothing is added."""
    assert cli.main(["run"]) == 0
    assert daemon.started == [(load.load(), [], None, None)]


def test_a_wrong_configuration_does_not_start_the_daemon(tmp_path: Path, daemon: FakeDaemon) -> None:
    """Exit 1 before anything is touched."""
    path = tmp_path / "epad.toml"
    path.write_text("x = 1")
    assert cli.main(["run", "--config", str(path)]) == 1
    assert not daemon.started


@pytest.mark.parametrize(
    ("ending", "status", "text"),
    [
        (KeyboardInterrupt(), 130, ""),
        (PermissionError(13, "Permission denied", "/var/lib/epad"), 1, "/var/lib/epad: Permission denied"),
        (OSError(98, "Address already in use"), 1, "Address already in use"),
    ],
)
def test_what_a_person_can_cause_is_a_message_and_not_a_traceback(
    daemon: FakeDaemon,
    ending: BaseException,
    status: int,
    text: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The thing and the reason, on one line."""
    daemon.ending = ending
    assert cli.main(["run"]) == status
    err = capsys.readouterr().err
    assert text in err
    assert err.count("\n") <= 1


def test_it_runs_as_a_program() -> None:
    """In a process of its own, from the module."""
    ran = subprocess.run(
        [sys.executable, "-m", "epad.daemon.cli", "--version"],
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(epad.__file__).parents[1],
        timeout=PATIENCE_SECONDS,
    )
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, f"epad {epad.__version__}\n", "")


def test_notify_says_which_way_to_a_person_works(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Without the address, which is a secret."""
    assert cli.main(["notify"]) == 1
    assert "names nobody" in capsys.readouterr().out
    hook = tmp_path / "hook"
    hook.write_text("http://127.0.0.1:1/hush\n")
    path = tmp_path / "epad.toml"
    path.write_text(f'[notify]\nwebhook_file = "{hook}"\n')
    assert cli.main(["notify", "--config", str(path)]) == 1
    out = capsys.readouterr().out
    assert out.startswith("webhook: could not be reached")
    assert "hush" not in out


def test_check_holds_the_hours_and_the_zone_of_notify(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With file and line."""
    path = tmp_path / "epad.toml"
    path.write_text('[notify]\nquiet = "23-7"\nzone = "Europe/Berlin"\n')
    assert cli.main(["check", "--config", str(path)]) == 1
    assert f"{path}:2: notify.quiet" in capsys.readouterr().err
    path.write_text('[notify]\nquiet = "23:00-07:00"\nzone = "Mars/Olympus"\n')
    assert cli.main(["check", "--config", str(path)]) == 1
    assert f"{path}:3: notify.zone" in capsys.readouterr().err
