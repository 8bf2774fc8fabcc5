"""The commands that read a state directory themselves: which one it is, and what they say of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from epad.epactl import call, main

READERS = (
    ["ledger", "verify"],
    ["ledger", "show"],
    ["ledger", "size"],
    ["checkpoint", "list"],
    ["checkpoint", "verify"],
    ["lifeboat", "list"],
    ["lifeboat", "inspect", "bundle"],
    ["simulate"],
)


@pytest.fixture(autouse=True)
def own(directory: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The state directory that is read where nothing is named; it has a ledger."""
    for name in ("EPAD_SOCKET", "XDG_RUNTIME_DIR", "XDG_STATE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(directory / "home"))
    monkeypatch.setattr(call, "SYSTEM_RUNTIME", str(directory / "system/run"))
    monkeypatch.setattr(call, "SYSTEM_STATE", str(directory / "system/state"))
    return state_at(directory / "home/.local/state/epad")


def state_at(place: Path) -> Path:
    place.mkdir(parents=True)
    (place / "ledger.db").touch()
    return place


def said(capsys: pytest.CaptureFixture[str]) -> str:
    return "".join(capsys.readouterr())


@pytest.mark.parametrize("words", READERS, ids=" ".join)
def test_the_files_read_are_those_of_the_socket_named(
    words: list[str], directory: Path, own: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A second daemon's socket means its ledger and not the one that lies where one usually does."""
    other = state_at(directory / "other")
    main.main(["--socket", str(other / "run/control.sock"), *words])
    answer = said(capsys)
    assert str(other) in answer
    assert str(own) not in answer
    main.main([*words, "--socket", str(other / "run/control.sock"), "--state", str(own)])
    assert str(own) in said(capsys)


@pytest.mark.parametrize("words", READERS, ids=" ".join)
def test_a_socket_that_tells_no_state_directory_is_refused(
    words: list[str], directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One line that names the option; nothing is said of another daemon's files."""
    for socket in (directory / "elsewhere.sock", directory / "empty/run/control.sock"):
        assert main.main(["--socket", str(socket), *words]) == 2
        out, err = capsys.readouterr()
        assert (out, err.count("\n")) == ("", 1)
        assert "--state" in err


def test_the_usual_sockets_belong_to_the_usual_directories(
    directory: Path, own: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """That of systemd to the system's, the session's to the user's own; also where the environment names it."""
    system = state_at(directory / "system/state")
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(directory / "session"))
    for runtime, state in (("system/run", system), ("session/epad", own)):
        monkeypatch.setenv("EPAD_SOCKET", str(directory / runtime / "control.sock"))
        main.main(["checkpoint", "list"])
        assert f"{state}/checkpoints" in said(capsys)
