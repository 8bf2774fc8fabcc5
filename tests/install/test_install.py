"""`epad install` and `epad uninstall` below a directory: what is written, what is left alone, what is refused."""

from __future__ import annotations

import os
import sys
import tomllib
from collections.abc import Sequence
from pathlib import Path

import pytest

from epad.daemon import cli
from epad.install import files, install
from epad.install.target import InstallError, Target

PROGRAM = Path("/opt/epad/bin/epad")
MANUAL = ".TH EPACTL 1\n"


class System:
    """A system below a directory, whose tools do what the tests need of them."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.lines: list[str] = []
        self.ran: list[str] = []
        (root / "etc").mkdir()
        (root / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/sh\n")

    def target(self, *, rehearsal: bool = False) -> Target:
        return Target(self.root, self.lines.append, rehearsal, self._run)

    def _run(self, command: Sequence[str]) -> None:
        self.ran.append(command[0])
        if command[0] == "systemd-sysusers":
            with (self.root / "etc/passwd").open("a") as file:
                file.write("epad:x:977:977::/var/lib/epad:/usr/sbin/nologin\n")

    def files(self) -> dict[str, str]:
        return {
            f"/{path.relative_to(self.root)}": path.read_text()
            for path in sorted(self.root.rglob("*"))
            if path.is_file() and not path.is_symlink()  # which may lead to an epad that this machine has
        }

    def install(self) -> None:
        install.install(self.target(), PROGRAM, MANUAL)


@pytest.fixture
def system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> System:
    """As root, and with an epad that everybody can reach."""
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(install, "_check_reachable", lambda program: None)
    return System(tmp_path)


def test_it_writes_every_file_for_the_program_that_runs(system: System) -> None:
    """Unit, drop-in with the user's number, slice, sysusers, tmpfiles, manual, examples; each told in a line."""
    system.install()
    written = system.files()
    assert set(files.every_path()) - {files.POLKIT} <= set(written)
    assert f"\nExecStart={PROGRAM} run --config /etc/epad/epad.toml\n" in written[files.UNIT]
    assert "\nExecReload=/opt/epad/bin/epactl reload\n" in written[files.UNIT]
    assert "Wants=user@977.service" in written[f"{files.DROP_INS}/10-user-manager.conf"]
    assert written[files.LINGER] == ""
    assert system.ran == ["systemd-sysusers", "systemd-tmpfiles"]
    told = {line.split()[1] for line in system.lines if line.startswith("write ")}
    assert told == {str(system.root) + path for path in set(written) - {"/etc/passwd"}}
    assert any(line.startswith("next") and "systemctl enable epad.service" in line for line in system.lines)


def test_twice_is_once(system: System) -> None:
    """The second time everything is the same, and says so."""
    system.install()
    before = system.files()
    system.lines.clear()
    (system.root / files.CONFIGURATION.lstrip("/")).write_text(mine := "[daemon]\n")
    system.install()
    assert not [line for line in system.lines if line.startswith("write")]
    after = system.files()
    assert after.pop(files.CONFIGURATION) == mine
    assert {path: before[path] for path in after if path != "/etc/passwd"} == {
        path: text for path, text in after.items() if path != "/etc/passwd"
    }


def test_another_epad_is_an_upgrade(system: System) -> None:
    """What was written by another version, unchanged since, is replaced."""
    old = files.File(files.UNIT, "[Unit]\nDescription=an older epad\n")
    place = system.root / files.UNIT.lstrip("/")
    place.parent.mkdir(parents=True)
    place.write_text(old.text)
    system.install()
    assert f"ExecStart={PROGRAM} run" in place.read_text()


def test_what_a_person_changed_is_refused_before_anything_is_written(system: System) -> None:
    """The message names the file and where changes belong."""
    system.install()
    place = system.root / files.UNIT.lstrip("/")
    place.write_text(place.read_text().replace("RestartSec=250ms", "RestartSec=9s"))
    system.ran.clear()
    with pytest.raises(InstallError, match=r"epad\.service: not as .*90-mine\.conf"):
        system.install()
    assert system.ran == []


def test_a_rehearsal_does_nothing(system: System) -> None:
    """It tells the same lines, each with `would`."""
    before = system.files()
    install.install(system.target(rehearsal=True), PROGRAM, MANUAL)
    assert (system.files(), system.ran) == (before, [])
    assert f"would write   {system.root}{files.UNIT}" in system.lines


def test_uninstall_leaves_what_was_there_before_and_what_is_a_persons(system: System) -> None:
    """Exactly what was written goes; configuration and user stay, and a file changed by hand."""
    before = set(system.files())
    system.install()
    mine = system.root / files.DROP_INS.lstrip("/") / "90-mine.conf"
    mine.write_text("[Service]\n")
    changed = system.root / files.TMPFILES.lstrip("/")
    changed.write_text(changed.read_text() + "# mine\n")
    system.lines.clear()
    install.uninstall(system.target())
    kept = {files.CONFIGURATION, files.TMPFILES, f"{files.DROP_INS}/90-mine.conf"}
    assert set(system.files()) - before == kept
    assert f"keep    {changed}: changed by hand" in system.lines
    assert any(line.startswith("next") and "userdel epad" in line for line in system.lines)


def links(system: System) -> dict[str, str]:
    """The commands that everybody has, and where they lead."""
    directory = system.root / files.COMMAND_DIRECTORY.lstrip("/")
    found = sorted(directory.iterdir()) if directory.exists() else []
    return {path.name: str(path.readlink()) for path in found if path.is_symlink()}


def test_the_commands_are_in_everybodys_path(system: System) -> None:
    """An upgrade from another directory leads them there; what is no link of ours is left, and said."""
    system.install()
    assert links(system) == {"epad": "/opt/epad/bin/epad", "epactl": "/opt/epad/bin/epactl"}
    install.install(system.target(), Path("/opt/newer/bin/epad"), MANUAL)
    assert links(system)["epactl"] == "/opt/newer/bin/epactl"
    install.uninstall(system.target())
    assert links(system) == {}
    own = system.root / files.COMMAND_DIRECTORY.lstrip("/") / "epactl"
    own.write_text("#!/bin/sh\n")
    system.install()
    install.uninstall(system.target())
    assert own.read_text() == "#!/bin/sh\n"
    assert any(line.startswith("keep") and str(own) in line for line in system.lines)


def test_uninstall_twice_removes_nothing_twice(system: System) -> None:
    """Where nothing is, nothing is done."""
    system.install()
    install.uninstall(system.target())
    system.lines.clear()
    system.ran.clear()
    install.uninstall(system.target())
    assert (system.ran, [line for line in system.lines if line.startswith("remove")]) == ([], [])


def test_polkit_names_exactly_the_units_of_the_configuration(system: System) -> None:
    """Where polkit is; a name cannot break out of the rule; and the rule goes with the last unit."""
    (system.root / files.POLKIT_DIRECTORY.lstrip("/")).mkdir(parents=True)
    configuration = system.root / files.CONFIGURATION.lstrip("/")
    configuration.parent.mkdir(parents=True)
    configuration.write_text(
        '[subsystems.a]\nkind = "unit"\nunit = "ollama.service"\n'
        '[subsystems.b]\nkind = "unit"\nunit = \'"]||true.service\'\n[subsystems.c]\ncommand = ["x"]\n'
    )
    system.install()
    rule = system.files()[files.POLKIT]
    assert '["\\"]||true.service", "ollama.service"].indexOf(action.lookup("unit"))' in rule
    configuration.write_text("")
    system.install()
    assert files.POLKIT not in system.files()


def test_without_polkit_it_says_what_cannot_be_done(system: System) -> None:
    """A unit that nobody may command is told, not passed over."""
    configuration = system.root / files.CONFIGURATION.lstrip("/")
    configuration.parent.mkdir(parents=True)
    configuration.write_text('[subsystems.a]\nkind = "unit"\nunit = "ollama.service"\n')
    system.install()
    assert [line for line in system.lines if line.startswith("skip") and "ollama.service" in line]


def test_without_rights_it_refuses_with_the_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit 1, one sentence, nothing written."""
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(sys, "argv", [str(Path(sys.executable).parent / "epad"), "install"])
    for verb in ("install", "uninstall"):
        assert cli.main([verb, "--root", str(tmp_path)]) == 1
        said = capsys.readouterr().err
        assert said.startswith(f"epad: {verb}: you are not root; run it with sudo")
    assert list(tmp_path.iterdir()) == []


def test_an_epad_in_a_closed_home_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """User epad could not start it; the message names the directory and another place."""
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    closed = tmp_path / "home"
    closed.mkdir(mode=0o700)
    with pytest.raises(InstallError, match=r"user epad may not pass .*/opt/epad"):
        install.install(Target(tmp_path, print, run_tool=lambda command: None), closed / "epad", MANUAL)


def test_a_path_that_systemd_would_take_apart_is_refused(system: System) -> None:
    """A space or a specifier in a command is not quoted away silently."""
    with pytest.raises(InstallError, match="another directory"):
        install.install(system.target(), Path("/opt/my epad/bin/epad"), MANUAL)


def test_a_tool_that_is_missing_is_named(tmp_path: Path) -> None:
    """And so is what brings it."""
    with pytest.raises(InstallError, match="no-such-tool: not found; install systemd"):
        Target(tmp_path, print).run("no-such-tool")


def test_the_files_are_packed_into_the_wheel() -> None:
    """Where there is no checkout, they lie in the package."""
    root = Path(__file__).parents[2]
    build = tomllib.loads((root / "pyproject.toml").read_text())["tool"]["hatch"]["build"]
    assert build["targets"]["wheel"]["force-include"] == {"systemd": "epad/systemd_files"}
