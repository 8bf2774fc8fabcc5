"""Values that can never take effect are named by `epad check`, each at its key; those that do are not."""

from __future__ import annotations

from pathlib import Path

import pytest

from epad.configuration.load import load
from epad.configuration.vain_values import vain_check

UPSTREAM = '[upstreams.v]\nurl = "http://h:1"\ndialects = ["openai"]\n'


def complaints(tmp_path: Path, text: str) -> dict[str, str]:
    path = tmp_path / "epad.toml"
    path.write_text(text if "[upstreams." in text else UPSTREAM + text)
    return {".".join(one.key): one.text for one in vain_check(load(path))}


A, NOTE = '[subsystems.a]\ncommand = ["x"]\n', '[subsystems.a]\nkind = "client"\n'


@pytest.mark.parametrize(
    ("text", "key", "said"),
    [
        (
            A + "budget = { tokens_per_minute = 9, tokens_per_hour = 5 }",
            "subsystems.a.budget.tokens_per_minute",
            "5",
        ),
        (
            A + "budget = { tokens_per_minute = 9, tokens_in_all = 5 }",
            "subsystems.a.budget.tokens_per_minute",
            "in_all",
        ),
        (
            "[budgets.global]\ntokens_per_day = 9\ntokens_per_month = 8",
            "budgets.global.tokens_per_day",
            "per_month",
        ),
        (
            A + "gateway = false\nbudget = { tokens_per_minute = 9 }",
            "subsystems.a.budget",
            "gateway is false",
        ),
        (
            A + "budget = { max_in_flight = 99999 }",
            "subsystems.a.budget.max_in_flight",
            "gateway.max_in_flight",
        ),
        (NOTE + 'restart = { policy = "always" }', "subsystems.a.restart", "it is a client"),
        (NOTE + 'environment = { A = "b" }', "subsystems.a.environment", "it is a client"),
        (NOTE + "notifies = true", "subsystems.a.notifies", "it is a client"),
        (
            A + 'environment = { NOTIFY_SOCKET = "/x" }',
            "subsystems.a.environment.NOTIFY_SOCKET",
            "of its own",
        ),
        (A + 'pass_env = ["$HOME"]', "subsystems.a.pass_env", "'$HOME'"),
        (A + 'pass_env = ["A=b"]', "subsystems.a.pass_env", "'A=b'"),
        ("[groups.g]\nbudget = { tokens_per_day = 1 }", "groups.g", "no subsystem in it"),
        (UPSTREAM + 'models = [""]', "upstreams.v.models", "no model is called"),
        (UPSTREAM + 'models = ["^gpt$"]', "upstreams.v.models", "* and ?"),
        ('[gateway]\nhosts = ["http://x"]', "gateway.hosts", "names alone"),
        ('[web]\nhosts = ["x:8702"]', "web.hosts", "names alone"),
        ('[schedule]\ncheckpoint = "0 0 30 2 *"', "schedule.checkpoint", "never comes"),
    ],
)
def test_what_changes_nothing_is_named(tmp_path: Path, text: str, key: str, said: str) -> None:
    """And nothing else is."""
    found = complaints(tmp_path, text)
    assert list(found) == [key]
    assert said in found[key]


@pytest.mark.parametrize(
    "text",
    [
        "",
        A + "budget = { tokens_per_minute = 5, tokens_per_hour = 5, usd_per_day = 0.0 }",
        A + "[gateway]\nmax_in_flight = 4",
        A + 'pass_env = ["HF_TOKEN", "MY_*", "[AB]_X", "?"]',
        A + 'group = "g"\n[groups.g]\nbudget = { tokens_per_day = 1 }',
        '[subsystems.a]\nkind = "unit"\nunit = "x.service"\ngateway = false\nstop_seconds = 3.0',
        UPSTREAM + 'models = ["llama3.*", "gpt-?", "[ab]*"]',
        '[gateway]\nhosts = ["gpu.example.org"]',
    ],
)
def test_what_does_take_effect_is_left(tmp_path: Path, text: str) -> None:
    """Equal limits, a default that a lower cap meets, patterns."""
    assert complaints(tmp_path, text) == {}
