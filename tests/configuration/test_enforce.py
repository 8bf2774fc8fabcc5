"""`enforce` in the configuration: by detector, by probe, for one subsystem; and what is misspelt."""

from __future__ import annotations

from pathlib import Path

import pytest

from epad.configuration.load import ConfigError, load
from epad.configuration.schema import Config
from epad.control_loop.rules import make_enforcement
from probes.conversation import LOOPS
from probes.token_burn import DETECTORS
from statemachine.finding import Finding, Severity

AGENT = '[subsystems.agent]\ncommand = ["true"]\n'


def config(tmp_path: Path, text: str) -> Config:
    file = tmp_path / "epad.toml"
    file.write_text(AGENT + text)
    return load(file)


def bad(config: Config, detector: str, probe: str = "token_rate", subsystem: str = "agent") -> bool:
    found = Finding(probe, subsystem, Severity.ANOMALY, 0.0, evidence={"detector": detector})
    return make_enforcement(config).judge(found).bad


def test_as_shipped_all_but_the_busiest_minutes_contain() -> None:
    shipped = load()
    assert {name for name in DETECTORS | LOOPS if not bad(shipped, name)} == {"busy_cusum"}
    assert set(shipped.probes.token_burn.enforce) == DETECTORS
    assert set(shipped.probes.conversation.enforce) == LOOPS


def test_each_probe_that_can_hold_has_it(tmp_path: Path) -> None:
    text = "".join(
        f'[probes.{probe}.enforce]\n{probe} = "observe"\n'
        for probe in (
            "progress",
            "cascade",
            "vram",
            "host",
            "alerts",
            "liveness",
            "datastore",
            "conversation",
        )
    )
    observed = config(tmp_path, text)
    for probe in ("progress", "cascade", "vram", "host", "alerts", "liveness", "datastore"):
        found = Finding(probe, "agent", Severity.ANOMALY, 0.0)
        assert not make_enforcement(observed).judge(found).bad
    assert bad(observed, "hard_limit", "token_burn")


def test_one_detector_and_one_subsystem(tmp_path: Path) -> None:
    changed = config(
        tmp_path,
        '[probes.token_burn.enforce]\npile_up = "observe"\n'
        '[subsystems.agent.enforce]\npile_up = "contain"\nburn_rate = "observe"\n',
    )
    assert not bad(changed, "pile_up", subsystem="other")
    assert bad(changed, "pile_up")
    assert not bad(changed, "burn_rate")
    assert bad(changed, "burn_rate", subsystem="other")


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ('[probes.token_burn.enforce]\npile_upp = "observe"\n', "pile_upp"),
        ('[probes.progress.enforce]\npile_up = "observe"\n', "pile_up"),
        ('[subsystems.agent.enforce]\nstall = "observe"\n', "stall"),
        ('[probes.token_burn.enforce]\npile_up = "ignore"\n', "pile_up"),
    ],
)
def test_what_is_misspelt_is_told(tmp_path: Path, text: str, where: str) -> None:
    with pytest.raises(ConfigError, match=where):
        config(tmp_path, text)


def test_what_is_said_for_a_subsystem_counts_for_the_tools_that_are_held_for_it(tmp_path: Path) -> None:
    """And for nobody else's."""
    text = '[subsystems.agent.enforce]\nidentical_calls = "observe"\n'
    told = config(tmp_path, text)
    assert not bad(told, "identical_calls", "tools", "tool:git_status@agent")
    assert bad(told, "identical_calls", "tools", "tool:git_status@other")
