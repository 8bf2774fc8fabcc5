"""`epactl init`: the file that it writes, the lines that it tells, and the command lines that it refuses."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from listed_servers import AN_OLLAMA, Listed, listed_server

from epad.configuration import load as load_module
from epad.configuration.load import load
from epad.epactl import main
from epad.gateway import local_servers

CapturedText = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No server of this machine is found, and the present directory and the home are new."""
    monkeypatch.setattr(local_servers, "usual_addresses", list)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "home/agent").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "home/agent")


@pytest.fixture
def ollama() -> Iterator[Listed]:
    with listed_server(AN_OLLAMA) as one:
        yield one


def typed(*words: str | Path) -> int:
    return main.main(["init", *map(str, words)])


def test_without_a_server_it_says_so_and_shows_how_to_name_one(tmp_path: Path, capsys: CapturedText) -> None:
    """Written nevertheless: it is a beginning, and starts the embedded default."""
    assert typed(tmp_path / "a.toml") == 0
    told = capsys.readouterr().out.splitlines()
    assert [line.partition(":")[0] for line in told] == ["found", "agent", "written", "next"]
    assert (
        told[-1] == f"next: epad check --config {tmp_path}/a.toml, then epad run --config {tmp_path}/a.toml"
    )
    config = load(tmp_path / "a.toml")
    assert (config.upstreams, config.subsystems, config.confine.default) == ({}, {}, "workspace")


def test_the_agent_is_the_one_that_was_given(
    tmp_path: Path, ollama: Listed, monkeypatch: pytest.MonkeyPatch, capsys: CapturedText
) -> None:
    """In the present directory, if none is named; a program that only this shell finds has its whole path."""
    program = tmp_path / "bin/own-python"
    program.parent.mkdir()
    program.symlink_to(sys.executable)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    assert typed(tmp_path / "a.toml", "--server", ollama.url, "--agent", "own-python 'my agent.py' -v") == 0
    config = load(tmp_path / "a.toml")
    agent = config.subsystems["agent"]
    assert agent.command == (str(program), "my agent.py", "-v")
    assert agent.working_directory == str(tmp_path / "home/agent")
    assert agent.confine is not None
    assert agent.confine.workspace == agent.working_directory
    assert [upstream.url for upstream in config.upstreams.values()] == [ollama.url]
    told = capsys.readouterr().out.splitlines()
    assert [line.partition(":")[0] for line in told] == ["found", "agent", "walls", "written", "next"]
    assert told[0] == f"found: ollama at {ollama.url}, 1 model: llama3.2:latest"


def test_a_program_of_every_path_keeps_its_name(tmp_path: Path) -> None:
    """It is the system's, and stays right when the system is upgraded."""
    assert typed(tmp_path / "a.toml", "--agent", "sh agent.sh") == 0
    assert load(tmp_path / "a.toml").subsystems["agent"].command == ("sh", "agent.sh")


def test_a_shim_of_pyenv_is_replaced_by_its_python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cell has none of the files that the shim reads. One that fails is left as it is."""
    shims = tmp_path / "shims"
    shims.mkdir()
    monkeypatch.setenv("PATH", f"{shims}:{os.environ['PATH']}")
    for name, text in (
        ("python9", f'exec {sys.executable} "$@"'),
        ("python8", "exit 1"),
        ("node9", "exit 0"),
    ):
        (shims / name).write_text(f"#!/bin/sh\n{text}\n")
        (shims / name).chmod(0o755)
    wanted = {"python9": sys.executable, "python8": str(shims / "python8"), "node9": str(shims / "node9")}
    for name, program in wanted.items():
        assert typed(tmp_path / f"{name}.toml", "--agent", name) == 0
        assert load(tmp_path / f"{name}.toml").subsystems["agent"].command == (program,)


def test_the_example_takes_a_model_that_answers_questions(tmp_path: Path) -> None:
    """Not one for embeddings, which would refuse each; and only what the embedded runners need is readable."""
    listed = b'{"data":[{"id":"nomic-embed-text"},{"id":"qwen"}]}'
    with listed_server({"/v1/models": listed}) as one:
        assert typed(tmp_path / "a.toml", "--server", one.url) == 0
    agent = load(tmp_path / "a.toml").subsystems["agent"]
    assert agent.command[1:6] == ("-m", "runners.chat", "--model", "qwen", "--turns")
    assert agent.confine is not None
    assert agent.confine.require == "best"


def test_a_server_without_a_model_gets_no_example(tmp_path: Path, capsys: CapturedText) -> None:
    with listed_server({"/v1/models": b'{"data":[]}', "/": b"Ollama is running"}) as one:
        assert typed(tmp_path / "a.toml", "--server", one.url) == 0
    config = load(tmp_path / "a.toml")
    assert list(config.upstreams) == ["ollama"]
    assert config.subsystems == {}
    assert "agent: none, since no model is there to ask" in capsys.readouterr().out


@pytest.mark.parametrize("words", [("-",), ("--stdout",), ("a.toml", "--stdout")])
def test_printed_it_is_written_nowhere(words: tuple[str, ...], tmp_path: Path, capsys: CapturedText) -> None:
    """The file on stdout, the rest on stderr; a file that is there is no obstacle."""
    Path("a.toml").write_text("mine")
    assert typed(*words) == 0
    said = capsys.readouterr()
    assert said.out.startswith("# Written by `epactl init`")
    assert said.err.startswith("epactl: found: no model server")
    assert Path("a.toml").read_text() == "mine"
    (tmp_path / "b.toml").write_text(said.out)
    assert load(tmp_path / "b.toml").confine.default == "workspace"


def test_a_file_that_is_there_is_refused_and_kept_by_force(tmp_path: Path, capsys: CapturedText) -> None:
    path = tmp_path / "a.toml"
    path.write_text("mine")
    assert typed(path) == 2
    assert "is there already, and stays as it is; name another file, or replace it" in capsys.readouterr().err
    assert path.read_text() == "mine"
    assert typed(path, "--force") == 0
    assert f"the file that was there is kept: {path}.1\n" in capsys.readouterr().out
    assert (tmp_path / "a.toml.1").read_text() == "mine"


def test_the_usual_file_is_that_of_epad_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: CapturedText
) -> None:
    """Its directory is made; no option is needed then."""
    monkeypatch.setattr(load_module, "SYSTEM_FILE", tmp_path / "etc/epad/epad.toml")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    assert typed() == 0
    (found,) = load_module.find()
    assert f"written: {found}\nnext: epad check, then epad run\n" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["--workspace", "."], "--workspace is the directory of --agent"),
        (["--agent", "sh 'x"], "cannot be split into words"),
        (["--agent", " "], "--agent is empty"),
        (["--agent", "no-such-program"], "names no-such-program, which is in none of PATH"),
        (["--agent", "sh", "--workspace", "nowhere"], "nowhere is no directory"),
        (["--agent", "sh", "--workspace", "/"], 'is "/", the whole machine'),
        (["--agent", "sh \udcff"], "is not UTF-8"),
        (["--server", "ollama"], "is no address of a model server; write http://HOST:PORT"),
        (["--server", "http://127.0.0.1:70000"], "is no address"),
        (["--server", "https://api.openai.com:443/v1"], "is no address"),
    ],
)
def test_what_would_not_start_is_refused_and_not_written(
    words: list[str], why: str, tmp_path: Path, capsys: CapturedText
) -> None:
    """With the reason, before a file is there that would have to be replaced."""
    assert typed(tmp_path / "a.toml", *words) == 2
    assert why in capsys.readouterr().err
    assert not (tmp_path / "a.toml").exists()


@pytest.mark.parametrize("place", ["home", "."])
def test_a_home_is_no_workspace_by_accident(
    place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: CapturedText
) -> None:
    """Nor a directory above it: only who names it gets it."""
    monkeypatch.chdir(tmp_path / place)
    assert typed(tmp_path / "a.toml", "--agent", "sh") == 2
    assert "is no workspace for an agent" in capsys.readouterr().err
    assert typed(tmp_path / "a.toml", "--agent", "sh", "--workspace", ".") == 0


def test_for_programs_it_is_json(tmp_path: Path, ollama: Listed, capsys: CapturedText) -> None:
    assert typed(tmp_path / "a.toml", "--agent", "sh", "--server", ollama.url, "-o", "json") == 0
    assert json.loads(capsys.readouterr().out) == {
        "file": str(tmp_path / "a.toml"),
        "kept": "",
        "agent": ["sh"],
        "servers": [{"url": ollama.url, "server": "ollama", "models": ["llama3.2:latest"]}],
    }


def test_a_directory_that_is_closed_is_told_by_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: CapturedText
) -> None:
    """Exit status 5, as everywhere; here the write fails as it does for a user below /etc."""

    def closed(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied", "/etc/epad/epad.toml")

    monkeypatch.setattr("epad.storage.new_file.write_new", closed)
    assert typed(tmp_path / "a.toml") == 5
    assert "/etc/epad/epad.toml: Permission denied" in capsys.readouterr().err


def test_the_help_names_every_option(capsys: CapturedText) -> None:
    """Tab and the manual are made from the same parser."""
    assert typed("--help") == 0
    said = capsys.readouterr().out
    assert all(option in said for option in ("--stdout", "--force", "--agent", "--workspace", "--server"))
