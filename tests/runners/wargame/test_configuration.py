"""File, command line and environment become one plan; a mistake is named with its place and the fix."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from runners.wargame.cli import main, parser
from runners.wargame.configuration import ConfigurationError, Plan, resolve
from runners.wargame.roles import ROLES

EPAD = {"EPAD_GATEWAY_URL": "http://127.0.0.1:1", "EPAD_GATEWAY_KEY": "secret"}
FILE = """
[endpoints.big]
url = "http://127.0.0.1:8000/v1"
key_env = "BIG_KEY"
[endpoints.small]
url = "http://127.0.0.1:11434"
dialect = "ollama"
context_tokens = 8192
[attacker]
model = "large"
endpoint = "big"
[roles.tracer]
model = "tiny"
endpoint = "small"
weight = 2
instruction = "Look twice."
[run]
seed = 9
[limits]
call_seconds = 2
"""


def options(*arguments: str) -> argparse.Namespace:
    return parser().parse_args(["run", *arguments])


def plan(tmp_path: Path, text: str = FILE, *arguments: str) -> Plan:
    path = tmp_path / "w.toml"
    path.write_text(text)
    return resolve(options("--config", str(path), *arguments), {"BIG_KEY": "k"})


def test_a_file_says_who_is_asked_where(tmp_path: Path) -> None:
    """What it does not say stays as it is shipped; what the command line says comes first."""
    found = plan(tmp_path)
    roles = {role.name: role for role in found.settings.roles}
    assert (roles["tracer"].model, roles["tracer"].endpoint, roles["tracer"].weight) == ("tiny", "small", 2.0)
    assert roles["tracer"].instruction == "Look twice."
    assert roles["auditor"] == next(role for role in ROLES if role.name == "auditor")
    assert [(e.name, e.dialect, e.key) for e in found.endpoints] == [
        ("big", "openai", "k"),
        ("small", "ollama", ""),
    ]
    assert (found.settings.seed, found.attacker_endpoint, found.limits.call_seconds) == (9, "big", 2.0)
    over = plan(tmp_path, FILE, "--seed", "4", "--call-seconds", "7", "--role-model", "tracer=other")
    assert (over.settings.seed, over.limits.call_seconds) == (4, 7.0)
    assert {role.name: role.model for role in over.settings.roles}["tracer"] == "other"


def test_where_a_model_is_served_is_no_part_of_what_is_measured(tmp_path: Path) -> None:
    """A server that moved leaves the run resumable; another model does not."""
    moved = plan(tmp_path, FILE.replace("11434", "11435")).settings.description()
    assert moved == plan(tmp_path).settings.description()
    assert plan(tmp_path, FILE.replace('"tiny"', '"other"')).settings.description() != moved


def test_under_epad_it_takes_the_gateway_and_no_more_than_a_subsystem_may() -> None:
    """More in flight than the default would look like a runaway; nothing configured means embedded models."""
    (endpoint,) = resolve(options(), EPAD).endpoints
    assert (endpoint.base_url, endpoint.key, endpoint.max_in_flight) == ("http://127.0.0.1:1/v1", "secret", 8)
    (wider,) = resolve(options("--max-in-flight", "40"), EPAD).endpoints
    assert wider.max_in_flight == 40
    (direct,) = resolve(options("--base-url", "http://x/v1"), EPAD).endpoints
    assert (direct.key, direct.max_in_flight) == ("", 64)
    assert resolve(options(), {}).endpoints == ()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (('endpoint = "small"', 'endpoint = "smal"'), "roles.tracer.endpoint: no endpoint 'smal'"),
        (("[roles.tracer]", "[roles.jester]"), r"no such role \['jester'\]"),
        (("seed = 9", "quorum = 6"), "run.quorum: must be 1 to 5"),
        (("seed = 9", "false_alarm_ceiling = 1"), "false_alarm_ceiling"),
        (("seed = 9", 'scenarios = ["none.toml"]'), "none.toml"),
        (("seed = 9", "sead = 9"), "sead"),
        (("call_seconds = 2", "call_seconds = 0"), "call_seconds must be above 0"),
        (("call_seconds = 2", "cal_seconds = 2"), "no such limit"),
        (('"ollama"', '"olama"'), "olama"),
        (('"BIG_KEY"', '"NO_KEY"'), "the environment has no NO_KEY"),
        (("[attacker]", "[attacker"), "w.toml"),
    ],
)
def test_a_mistake_is_named(tmp_path: Path, change: tuple[str, str], message: str) -> None:
    """Key and fix, before anything is opened."""
    assert change[0] in FILE
    with pytest.raises(ConfigurationError, match=message):
        plan(tmp_path, FILE.replace(*change))


def test_the_command_line_says_it_without_a_traceback(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit 2, one line."""
    assert main(["run", "--config", str(tmp_path / "none.toml")]) == 2
    assert "none.toml" in capsys.readouterr().err
    path = tmp_path / "w.toml"
    path.write_text('[endpoints.a]\nurl = "http://x/v1"\n')
    assert main(["run", "--config", str(path), "--base-url", "http://y/v1"]) == 2
    assert "leave --base-url out" in capsys.readouterr().err
