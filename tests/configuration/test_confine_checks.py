"""What confines subsystems is checked with the configuration: each fault names the key and the fix."""

from __future__ import annotations

from pathlib import Path

import pytest

from epad.configuration import confine_checks
from epad.configuration.confine_schema import ConfineConfig
from epad.configuration.load import ConfigError, load
from epad.configuration.vain_values import vain_check

AGENT = '[subsystems.agent]\ncommand = ["true"]\n'
CONFINED = AGENT + "[subsystems.agent.confine]\n"
READS = CONFINED + 'intercept = ["a.example"]\n'
SERVER = '[upstreams.mine]\nurl = "http://127.0.0.1:9"\ndialects = ["openai"]\n'


def problems(directory: Path, text: str) -> list[str]:
    """What is wrong with a configuration, each with its key."""
    (directory / "epad.toml").write_text(text)
    try:
        load(directory / "epad.toml")
    except ConfigError as error:
        return [str(problem) for problem in error.problems]
    return []


@pytest.mark.parametrize(
    ("text", "key", "fix"),
    [
        ('[subsystems.guest]\nkind = "client"\n[subsystems.guest.confine]\n', "guest.confine", "take it out"),
        (CONFINED + 'workspace = "work"\n', "confine.workspace", "from the root"),
        (CONFINED + 'read = ["/a", "models"]\n', "confine.read", "from the root"),
        (CONFINED + 'never = ["/etc"]\n', "confine.never", "below the workspace"),
        (CONFINED + 'never = ["../a"]\n', "confine.never", "below the workspace"),
        (CONFINED + 'hosts = ["a.example/b"]\n', "confine.hosts", "write a name"),
        (CONFINED + 'profile = "sealed"\nhosts = ["a.example"]\n', "confine.hosts", "take it out"),
        (READS + 'hosts = ["b.example"]\n', "confine.intercept", "add it there"),
        (READS + 'hosts = ["a.example:8443"]\n', "confine.intercept", "add it there"),
        (
            CONFINED + 'intercept = ["a.example:443"]\nhosts = ["a.example"]\n',
            "confine.intercept",
            "names alone",
        ),
        (CONFINED + 'intercept = ["10.0.0.5"]\nhosts = ["10.0.0.5"]\n', "confine.intercept", "names alone"),
        (READS + 'profile = "sealed"\n', "confine.intercept", "take it out"),
        (READS + 'profile = "open"\n', "confine.intercept", "take it out"),
        (CONFINED + 'workspace = "/"\n', "confine.workspace", "the whole machine"),
        (CONFINED + 'hosts = ["*.org"]\n', "confine.hosts", "*.example.org"),
        (CONFINED + 'hosts = ["x.org", "x.org=10.0.0.5"]\n', "confine.hosts", "take one of them out"),
        (CONFINED + 'hots = ["x.org"]\n', "confine.hots", "did you mean hosts?"),
        ('[confine]\ndefault = "sealed"\n', "confine.default", "workspace"),
        (AGENT + 'confine = "workspace"\n', "agent.confine", "this is a table"),
        (SERVER + 'served_by = "agent"\n' + CONFINED, "upstreams.mine.url", "unix: socket in its workspace"),
        (SERVER + AGENT + 'serves = "mine"\nconfine = {}\n', "upstreams.mine.url", "unix: socket"),
        (AGENT + 'health = { tcp = "127.0.0.1:9" }\nconfine = {}\n', "health.tcp", "health.command"),
        (
            AGENT + 'health = { http = "http://127.0.0.1:9/" }\nconfine = {}\n',
            "health.http",
            "health.command",
        ),
    ],
)
def test_each_fault_names_its_key_and_the_fix(tmp_path: Path, text: str, key: str, fix: str) -> None:
    """Before anything is started."""
    [problem] = problems(tmp_path, text)
    assert key in problem
    assert fix in problem


@pytest.mark.parametrize("host", ["a.example", "a.example=10.0.0.5", "*.example.org"])
def test_a_host_that_is_read_is_one_that_is_reached(tmp_path: Path, host: str) -> None:
    """By its name, at an address of its own, or below a wildcard."""
    read = "b.example.org" if host.startswith("*") else "a.example"
    assert problems(tmp_path, CONFINED + f'hosts = ["{host}"]\nintercept = ["{read}"]\n') == []


def test_without_its_package_nothing_can_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The fault says what to install."""
    monkeypatch.setattr(confine_checks, "INTERCEPT_PACKAGE", "no_such_package_at_all")
    [problem] = problems(tmp_path, READS + 'hosts = ["a.example"]\n')
    assert "pip install 'epad[intercept]'" in problem


def test_the_houses_default_confines_too(tmp_path: Path) -> None:
    """A subsystem without the table is asked by no port either; one that is open is left alone."""
    asked = AGENT + 'health = { tcp = "127.0.0.1:9" }\n'
    house = '[confine]\ndefault = "workspace"\n'
    assert problems(tmp_path, asked) == []
    [problem] = problems(tmp_path, house + asked)
    assert "health.tcp" in problem
    assert problems(tmp_path, house + asked + 'confine = { profile = "open" }\n') == []


def test_what_is_right_is_let_be(tmp_path: Path) -> None:
    """Homes, hosts with ports, a socket in the workspace, a client that is open in words."""
    table = 'read = ["~/models"]\nnever = ["CLAUDE.md"]\nhosts = ["*.a.example:8443", "10.0.0.5:8000"]\n'
    assert problems(tmp_path, CONFINED + f'workspace = "{tmp_path}"\n' + table) == []
    server = SERVER.replace("http://127.0.0.1:9", f"unix:{tmp_path}/sock") + 'served_by = "agent"\n'
    assert problems(tmp_path, server + CONFINED) == []


def test_an_empty_table_is_a_workspace(tmp_path: Path) -> None:
    """With all walls; two files make one table, key by key."""
    first, more = tmp_path / "epad.toml", tmp_path / "more.toml"
    first.write_text(CONFINED)
    more.write_text('[subsystems.agent.confine]\nhosts = ["x.org"]')
    assert load(first).subsystems["agent"].confine == ConfineConfig(profile="workspace", require="all")
    assert load(first, more).subsystems["agent"].confine == ConfineConfig(hosts=("x.org",))


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ('profile = "open"\nhosts = ["x.org"]', "hosts"),
        ('profile = "open"\nrequire = "best"', "require"),
        ('profile = "sealed"\nask = true', "ask"),
        ('profile = "gateway-only"\nread = ["/srv"]', "read"),
    ],
)
def test_a_key_that_its_profile_has_no_use_for_is_named(tmp_path: Path, text: str, key: str) -> None:
    """Nothing is wrong with it, but that its writer believes in something else."""
    (tmp_path / "epad.toml").write_text(CONFINED + text)
    assert [one.key[-1] for one in vain_check(load(tmp_path / "epad.toml"))] == [key]
